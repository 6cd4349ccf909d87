"""When a whole search ends before its trials do: by clock, epochs, a target reached, or a storage that has failed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from ray.tune import Stopper

from tuning.journal import PastTrial
from tuning.spec import SearchSpec

ALL_TRIALS, TIME, EPOCHS, TARGET, STORAGE, INTERRUPTED, TERMINATED = (
    "all trials ended",
    "time budget used",
    "epoch budget used",
    "target reached",
    "storage failed",
    "interrupted",
    "terminated",
)
UNFINISHED = (STORAGE, INTERRUPTED, TERMINATED)
"""Endings after which `tune resume` goes on."""


class Budget(Stopper):  # type: ignore[misc]  # Ray has no types
    """Stops all trials at once. `reason` says why, None before that; `problem` what the storage said.

    Only values measured on all validation sessions reach a target.

    Parameters
    ----------
    spec : SearchSpec
    past : iterable of PastTrial
        Trials of the same search; their epochs and their time count.
    """

    def __init__(self, spec: SearchSpec, past: Iterable[PastTrial] = ()) -> None:
        self.reason: str | None = None
        self.problem: str | None = None
        self._spec = spec
        self._epochs: dict[int, int] = {}
        self._total = 0
        elapsed = 0.0
        for trial in past:
            for line in trial.epochs:
                self._count(trial.number, line)
                elapsed = max(elapsed, line["elapsed_s"])
        self._began = time.time() - elapsed

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if "storage_problem" in result:
            self.reason, self.problem = STORAGE, result["storage_problem"]
        else:
            self._count(result["config"]["trial"], result)
        return False

    def stop_all(self) -> bool:
        budget = self._spec.time_budget_s
        if self.reason is None and budget is not None and time.time() - self._began >= budget:
            self.reason = TIME
        return self.reason is not None

    def _count(self, trial: int, result: dict[str, Any]) -> None:
        if self._spec.target is not None and result.get("validated_on") == "all":
            metric, value = self._spec.target
            if result[metric] >= value:
                self.reason = TARGET
        before = self._epochs.get(trial, 0)
        self._epochs[trial] = max(before, result["epoch"])
        self._total += self._epochs[trial] - before
        if self._spec.epoch_budget is not None and self._total >= self._spec.epoch_budget:
            self.reason = self.reason or EPOCHS
