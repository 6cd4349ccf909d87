"""When a whole search ends before its trials do: by the clock, by epochs, or because its target is reached."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Stopper

from tuning.spec import SearchSpec

ALL_TRIALS, TIME, EPOCHS, TARGET, INTERRUPTED = (
    "all trials ended",
    "time budget used",
    "epoch budget used",
    "target reached",
    "interrupted",
)


class Budget(Stopper):  # type: ignore[misc]  # Ray has no types
    """Stops all trials at once. `reason` says why, None before that.

    Only values measured on all validation sessions reach a target.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.reason: str | None = None
        self._spec = spec
        self._began = time.time()
        self._epochs = 0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self._epochs += 1
        if self._spec.target is not None and result.get("validated_on") == "all":
            metric, value = self._spec.target
            if result[metric] >= value:
                self.reason = TARGET
        if self._spec.epoch_budget is not None and self._epochs >= self._spec.epoch_budget:
            self.reason = self.reason or EPOCHS
        return False

    def stop_all(self) -> bool:
        budget = self._spec.time_budget_s
        if self.reason is None and budget is not None and time.time() - self._began >= budget:
            self.reason = TIME
        return self.reason is not None
