"""Checkpoints go when their trials have ended: a search of thousands takes no more room than what is running."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress

from gru4rec.errors import StorageError
from tuning.checkpoints import Checkpoints
from tuning.search_log import SearchLog

SECONDS_BETWEEN_SWEEPS = 60.0


class Sweeper:
    """Removes the checkpoints of trials that have ended, in the background.

    Not at once: on a far storage the journal, which knows that they have ended, arrives a little later.
    """

    def __init__(self, checkpoints: Checkpoints, log: SearchLog) -> None:
        self._checkpoints = checkpoints
        self._log = log
        self._swept: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.sweep(ended_before=math.inf)

    def sweep(self, ended_before: float) -> None:
        """Remove those of trials that ended before that time on the monotonic clock."""
        for trial, when in list(self._log.ended.items()):
            if trial not in self._swept and when < ended_before:
                best = self._log.records[trial].best_epoch if self._checkpoints.keep_best else 0
                with suppress(StorageError):  # the next sweep tries again
                    self._checkpoints.remove(trial, keep=best)
                    self._swept.add(trial)

    def _keep_up(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_SWEEPS):
            self.sweep(ended_before=time.monotonic() - SECONDS_BETWEEN_SWEEPS)
