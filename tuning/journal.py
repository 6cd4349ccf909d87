"""The record of a search on disk: written line by line while it runs, and all that is needed to go on with it.

================  =====================================================================================
trials.ndjson     a line when a trial begins (what the sampler chose), one when it ends without an epoch
epochs.ndjson     a line per epoch of each trial, with the state that the trial is in after it
================  =====================================================================================

A line is handed to the operating system at once, so it survives the process; when a trial begins or ends, and otherwise
once a second, it is put on the disk, so it survives the machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gru4rec.errors import SearchError, StorageError
from gru4rec.files import UNREADABLE, atomic_file, first_line, shorten

TRIALS, EPOCHS = "trials.ndjson", "epochs.ndjson"
SECONDS_BETWEEN_SYNCS = 1.0
HINT = "remove that line to go on without it"
RUNNING, FINISHED, STOPPED_BY_ASHA, STOPPED_EARLY, DIVERGED, FAILED, INTERRUPTED = (
    "running",
    "finished",
    "stopped by ASHA",
    "stopped early",
    "diverged",
    "failed",
    "interrupted",
)
_BEGIN = {"trial": int, "seed": int, "hyperparameters": dict, "params": dict}
_END = {"trial": int, "state": str, "epochs": int, "error": str}
_EPOCH = {
    "trial": int, "epoch": int, "state": str, "best": float, "validated_on": str, "epoch_seconds": float,
    "elapsed_s": float,
}  # fmt: skip


class Journal:
    """Appends to the record of a search.

    Parameters
    ----------
    folder : Path
        The result folder.

    Attributes
    ----------
    problem : str, optional
        Why the last line could not be written.
    """

    def __init__(self, folder: Path) -> None:
        self.problem: str | None = None
        self._folder = folder
        self._synced: dict[str, float] = {}

    def append(self, name: str, line: dict[str, Any], now: bool = False) -> None:
        """Append a line to one of the files; `now` puts it on the disk itself.

        Raises
        ------
        StorageError
            When that fails; half a line may be left, which reading ignores.
        """
        try:
            with (self._folder / name).open("ab") as file:
                file.write(pack(line))
                file.flush()
                if now or time.monotonic() - self._synced.get(name, 0.0) >= SECONDS_BETWEEN_SYNCS:
                    os.fsync(file.fileno())
                    self._synced[name] = time.monotonic()
        except OSError as error:
            self.problem = f"{self._folder / name} cannot be written: {error.strerror}"
            raise StorageError(self.problem) from error


@dataclass(frozen=True)
class PastTrial:
    """What the journal knows of a trial.

    Parameters
    ----------
    number : int
    seed : int
    hyperparameters : dict
    params : dict
        What the sampler chose, as Optuna names it.
    epochs : list of dict
        Lines of epochs.ndjson, with 'done' and 'stopped_early' as the trial reported them.
    end : dict, optional
        How it ended, when that was not with an epoch: its 'state', 'epochs' and 'error'.
    """

    number: int
    seed: int
    hyperparameters: dict[str, Any]
    params: dict[str, Any]
    epochs: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.end is None and not (self.epochs and self.epochs[-1]["done"])


def read_journal(folder: Path, measured: Iterable[str] = ()) -> list[PastTrial]:
    """Return the trials of a search in the order of their numbers.

    Parameters
    ----------
    folder : Path
        The result folder.
    measured : iterable of str
        Metrics and costs that each epoch must have.

    Raises
    ------
    SearchError
        When a line other than a half one at the end is damaged.
    """
    trials: list[PastTrial] = []
    for place, line in _lines(folder / TRIALS):
        _check(line, _BEGIN if "params" in line else _END, place)
        if "params" in line:
            if line["trial"] != len(trials):
                raise SearchError(f"{place}: trial {line['trial']} begins, expected {len(trials)}")
            trials.append(PastTrial(line["trial"], line["seed"], line["hyperparameters"], line["params"]))
        elif 0 <= line["trial"] < len(trials):
            trials[line["trial"]] = replace(trials[line["trial"]], end=line)
        else:
            raise SearchError(f"{place}: trial {line['trial']} ends, which did not begin")
    for place, line in _lines(folder / EPOCHS):
        _check(line, _EPOCH | dict.fromkeys(measured, float), place)
        if line["trial"] < len(trials):
            state = line["state"]
            trials[line["trial"]].epochs.append(
                line | {"done": state != RUNNING, "stopped_early": state == STOPPED_EARLY}
            )
    return trials


def repair_journal(folder: Path) -> None:
    """Remove what a crash may have left: half a line at the end, and epochs of a trial whose beginning was lost.

    Raises
    ------
    SearchError
        As `read_journal` does.
    """
    known = len(read_journal(folder))
    for name in (TRIALS, EPOCHS):
        lines = [line for line in read_lines(folder / name) if line["trial"] < known]
        content = b"".join(pack(line) for line in lines)
        if (folder / name).exists() and content != (folder / name).read_bytes():
            with atomic_file(folder / name) as temporary:
                temporary.write_bytes(content)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file of the journal; none when there is no file.

    Raises
    ------
    SearchError
        When a line is damaged.
    """
    return [line for _, line in _lines(path)]


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the whole lines of a file, and how messages name each."""
    if not path.exists():
        return []
    content = path.read_bytes()
    lines = []
    for number, text in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        place = f"{path}, line {number}"
        try:
            line = json.loads(text)
        except UNREADABLE as error:
            raise SearchError(f"{place} is damaged: {first_line(error)}", HINT) from None
        if not isinstance(line, dict):
            raise SearchError(f"{place} must hold an object, got {shorten(repr(line))}", HINT)
        lines.append((place, line))
    return lines


def _check(line: dict[str, Any], shape: dict[str, type], place: str) -> None:
    for name, kind in shape.items():
        value = line.get(name)
        if type(value) is not kind and not (kind is float and type(value) is int):
            got = shorten(repr(value)) if name in line else "nothing"
            raise SearchError(f"{place}: {name} must be of type {kind.__name__}, got {got}", HINT)
    if line["trial"] < 0:
        raise SearchError(f"{place}: trial must be >= 0, got {line['trial']}", HINT)


def pack(line: dict[str, Any]) -> bytes:
    """Return a line as it is written."""
    return json.dumps(line).encode() + b"\n"
