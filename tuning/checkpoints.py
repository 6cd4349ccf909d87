"""Checkpoints of trials: a file per epoch, whole and unchanged or not used at all.

A file holds the SHA-256 of what follows in hexadecimal, a newline, and the state as torch writes it. They lie in a
storage that all nodes have, under the trial's number, so that any process can go on with the trial: Ray's own
checkpoints would be known to the process only that ran the search, see docs/decisions.md, 25.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from gru4rec.errors import StorageError
from tuning.storage import Storage

PATIENCE_S = 60.0  # with a storage that fails
KEPT = 2  # the last may be damaged


@dataclass(frozen=True)
class Checkpoints:
    """Where the checkpoints of a search are, and how many.

    Parameters
    ----------
    location : str
        A folder or a URI that all nodes have.
    every : int
        Epochs from one to the next.
    keep_best : bool
        Keep the one of each trial's best epoch too.
    """

    location: str
    every: int = 1
    keep_best: bool = False

    def of(self, trial: int) -> TrialCheckpoints:
        """Return those of a trial."""
        return TrialCheckpoints(Storage(self.location, PATIENCE_S), folder_name(trial))

    def remove(self, trial: int, keep: int = 0) -> None:
        """Remove those of a trial, except that of epoch `keep`."""
        storage, folder = Storage(self.location), folder_name(trial)
        if keep == 0:
            storage.remove_folder(folder)
            return
        for name in storage.names(folder):
            if name != file_name(keep):
                storage.remove(f"{folder}/{name}")


class TrialCheckpoints:
    """The checkpoints of one trial.

    Parameters
    ----------
    storage : Storage
    folder : str
        In the storage.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self._folder = folder

    def save(self, epoch: int, state: dict[str, Any], best: int = 0) -> int:
        """Write the state after an epoch, and return its bytes; keep it, the one before, and that of epoch `best`.

        Raises
        ------
        StorageError
            When it cannot be written within a minute, or the storage is full.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        digest = hashlib.sha256(content).hexdigest().encode()
        self._storage.write(f"{self._folder}/{file_name(epoch)}", b"".join((digest, b"\n", content)))
        names = self._names()
        for name in names[:-KEPT]:
            if name != file_name(best):
                with suppress(StorageError):  # what is not removed now is so after the next epoch
                    self._storage.remove(f"{self._folder}/{name}")
        return len(content)

    def load(self, epoch: int | None = None) -> tuple[dict[str, Any] | None, list[str]]:
        """Return the state after an epoch, by default the last that is whole; and what is wrong with later ones.

        The state is None when there is none.
        """
        problems: list[str] = []
        names = self._names()
        for name in reversed(names) if epoch is None else [file_name(epoch)]:
            try:
                return unpack(self._storage.read(f"{self._folder}/{name}")), problems
            except (StorageError, ValueError) as error:
                problems.append(f"{self._folder}/{name} cannot be used: {error}")
        return None, problems

    def _names(self) -> list[str]:
        return [name for name in self._storage.names(self._folder) if name.startswith("epoch-")]


def unpack(content: bytes) -> dict[str, Any]:
    """Return the state in a checkpoint; no code in it runs.

    Raises
    ------
    ValueError
        When it is not what was written.
    """
    digest, _, rest = content.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        raise ValueError(f"its {len(content):,} bytes are not those that were written")
    try:
        state = torch.load(io.BytesIO(rest), weights_only=True)
    except Exception as error:  # torch raises many kinds on what is no state
        raise ValueError(f"it holds no state: {type(error).__name__}") from error
    if not isinstance(state, dict):
        raise ValueError(f"it holds no state: {type(state).__name__}")
    return state


def folder_name(trial: int) -> str:
    """Return the name of the folder of a trial's checkpoints.

    >>> folder_name(7)
    'trial-00007'
    """
    return f"trial-{trial:05d}"


def file_name(epoch: int) -> str:
    """Return the name of the checkpoint after an epoch.

    >>> file_name(12)
    'epoch-00012.pt'
    """
    return f"epoch-{epoch:05d}.pt"
