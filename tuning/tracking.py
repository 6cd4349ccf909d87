"""Shows a search in other tools while it runs: threads that read its journal and tell each tool what is new.

The journal is the truth, so a tool is told the same whether it looked on, failed for a while, or was asked for when the
search went on after a crash; and the search waits for none of them.
"""

from __future__ import annotations

import importlib
import json
import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

from gru4rec.errors import SearchError
from gru4rec.files import atomic_file, first_line, read_text, unreadable_as
from gru4rec.numbers import is_number
from tuning.budget import INTERRUPTED
from tuning.journal import EPOCHS, RUNNING, TRIALS
from tuning.space import Space
from tuning.spec import SearchSpec

TRACKING = "tracking.json"
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_ATTEMPTS = 60.0
SECONDS_TO_ANSWER = 60.0  # one trial's beginning, epoch or end; or the winner and its model
SECONDS_TO_END_ON_ERROR = 10.0  # whoever sends SIGTERM kills before long
_NO_SCALARS = ("trial", "epoch", "seconds", "elapsed_s")


@dataclass(frozen=True)
class Subject:
    """The search that is shown.

    Parameters
    ----------
    path : Path
        The result folder.
    spec : SearchSpec
    space : Space
        As the sampler knows it.
    search_id : str
        The same when the search goes on, another for another search.
    """

    path: Path
    spec: SearchSpec
    space: Space
    search_id: str


class Tracker(Protocol):
    """What a tool is told.

    When a search goes on, or a tool had failed, a new tracker is told all that the journal has, from the first trial
    on. It sees to it that the tool shows nothing twice.
    """

    def begin(self, line: dict[str, Any]) -> None:
        """Tell of a trial: its number, 'seed', 'hyperparameters', and 'params' as the sampler names them."""

    def epoch(self, line: dict[str, Any]) -> None:
        """Tell of an epoch: a line of epochs.ndjson."""

    def end(self, number: int, state: str, error: str) -> None:
        """Tell how a trial ended; only the first time counts."""

    def close(self, ended: str, model: Path | None) -> None:
        """Tell how the search ended, and the model folder of its winner; trials without an end are interrupted."""


class Follower(threading.Thread):
    """Reads the journal of a search as it grows, and tells a tracker.

    A tracker that fails is made anew after a while, and told everything.

    Parameters
    ----------
    tool : str
    subject : Subject
    say : callable
        Called with a few words when the tracker fails for the first time.

    Attributes
    ----------
    problem : str
        What the tracker raised first; empty when it never failed.
    complete : bool
        Whether the tool has been told everything, the end included.
    """

    def __init__(self, tool: str, subject: Subject, say: Callable[[str], None]) -> None:
        super().__init__(name=f"gru4rec-{tool}", daemon=True)
        self.tool = tool
        self.problem = ""
        self.complete = False
        self._subject = subject
        self._say = say
        self._tracker: Tracker | None = None
        self._next_attempt = 0.0
        self._over = threading.Event()
        self._told_at = 0.0
        self._end: tuple[str, Path | None] = ("", None)

    def finish(self, ended: str, model: Path | None) -> None:
        """Have the thread tell what is left and how the search ended, and end."""
        self._end = (ended, model)
        self._over.set()

    def wait(self, deadline: float) -> None:
        """Wait for the thread to end: until the deadline, and for as long as the tool keeps answering."""
        self._told_at = time.monotonic()
        while self.is_alive() and time.monotonic() < min(deadline, self._told_at + SECONDS_TO_ANSWER):
            self.join(0.1)

    def run(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            if self._tracker is not None or time.monotonic() >= self._next_attempt:
                self._attempt(self._look)
        self.complete = self._attempt(self._look_for_the_last_time)

    def _attempt(self, look: Callable[[Tracker], None]) -> bool:
        try:
            if self._tracker is None:
                self._tracker = make_tracker(self.tool, self._subject)
                self._epochs, self._trials = (Tail(self._subject.path / name) for name in (EPOCHS, TRIALS))
                self._ends: list[dict[str, Any]] = []
            look(self._tracker)
            return True
        except Exception as error:  # whatever a tool raises, the search goes on
            self._tracker = None
            self._next_attempt = time.monotonic() + SECONDS_BETWEEN_ATTEMPTS
            if not self.problem:
                self.problem = f"{type(error).__name__}: {first_line(error)}"
                self._say(f"{self.tool} failed, the search goes on: {self.problem}")
            return False

    def _look(self, tracker: Tracker) -> None:
        # In this order a trial's beginning is read with its first epoch or before; and ends wait for the next look,
        # since the last epochs of their trials may have been written after those were read.
        epochs, trials = self._epochs.read(), self._trials.read()
        ends, self._ends = self._ends, [line for line in trials if "params" not in line]
        news = [partial(tracker.begin, line) for line in trials if "params" in line]
        for line in epochs:
            news.append(partial(tracker.epoch, line))
            if line["state"] != RUNNING:
                news.append(partial(tracker.end, line["trial"], line["state"], ""))
        news += [partial(tracker.end, line["trial"], line["state"], line["error"]) for line in ends]
        for tell in news:
            tell()
            self._told_at = time.monotonic()

    def _look_for_the_last_time(self, tracker: Tracker) -> None:
        for _ in range(2):
            self._look(tracker)
        tracker.close(*self._end)


class Tail:
    """Reads the lines of a file as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the whole lines since the last time."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


class Tracking:
    """Shows a search in its tools for as long as a `with` lasts; whoever uses it says how the search ended.

    Parameters
    ----------
    path : Path
        The result folder.
    spec : SearchSpec
    num_items : int
        Of the training log.
    say : callable
        Called with a few words when a tool fails.

    Attributes
    ----------
    ended : str
        One of the words of `tuning.budget`.
    model : Path, optional
        The model folder of the winner.
    notes : list of str
        What the user should know of tools that failed.
    """

    def __init__(self, path: Path, spec: SearchSpec, num_items: int, say: Callable[[str], None]) -> None:
        self.ended = INTERRUPTED
        self.model: Path | None = None
        self.notes: list[str] = []
        self._say = say
        self._followers: list[Follower] = []
        if spec.logging.tools:
            subject = Subject(path, spec, spec.space.for_catalogue(num_items), _search_id(path))
            self._followers = [Follower(tool, subject, say) for tool in spec.logging.tools]

    def __enter__(self) -> Self:
        for follower in self._followers:
            follower.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for follower in self._followers:
            follower.finish(self.ended, self.model)
        deadline = math.inf if kind is None else time.monotonic() + SECONDS_TO_END_ON_ERROR
        for follower in self._followers:
            follower.wait(deadline)
        self.notes = [note for follower in self._followers if (note := _note(follower))]
        for note in self.notes:
            self._say(note)


def make_tracker(tool: str, subject: Subject) -> Tracker:
    """Return what tells a tool of a search."""
    module = importlib.import_module(f"tuning.trackers.{tool}")
    tracker: Tracker = module.make_tracker(subject)
    return tracker


def scalars(line: dict[str, Any]) -> dict[str, float]:
    """Return the figures of an epoch, by our names.

    >>> scalars({"trial": 3, "epoch": 2, "loss": 0.5, "recall@20": 0.25, "state": "running"})
    {'loss': 0.5, 'recall@20': 0.25}
    """
    return {name: value for name, value in line.items() if is_number(value) and name not in _NO_SCALARS}


def _note(follower: Follower) -> str:
    if follower.is_alive():
        return f"{follower.tool} did not answer in time; it may lack what came last"
    if not follower.complete:
        return f"{follower.tool} failed, and lacks part of the search: {follower.problem}"
    if follower.problem:
        return f"{follower.tool} failed for a while, and has been told everything since: {follower.problem}"
    return ""


def _search_id(path: Path) -> str:
    """Return the search's id, which is made when it is first needed."""
    file = path / TRACKING
    if not file.exists():
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps({"search_id": uuid.uuid4().hex[:12]}) + "\n", encoding="utf-8")
    with unreadable_as(SearchError, file, "remove it; tools then show this search as a new one"):
        return str(json.loads(read_text(file))["search_id"])
