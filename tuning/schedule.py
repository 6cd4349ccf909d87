"""ASHA across all trials, on the metric of the same `StoppingRule` that stops each trial by itself.

Ray's scheduler is the stopping variant of ASHA (Li et al., "A System for Massively Parallel Hyperparameter Tuning",
MLSys 2020): at the epochs grace_period * reduction_factor ** k a trial goes on only while it is among the best
1 / reduction_factor of those that got there before it. Ours differs in what a NaN does.
"""

from __future__ import annotations

import math
from typing import Any

from ray.tune.schedulers import ASHAScheduler

from tuning.spec import SearchSpec


class Asha(ASHAScheduler):  # type: ignore[misc]  # Ray has no types
    """Ray's ASHA, except that a metric that is not finite stops its trial and leaves no mark on the rungs."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if not math.isfinite(result[self._metric]):
            return str(self.STOP)
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if math.isfinite(result.get(self._metric, math.nan)):
            super().on_trial_complete(tune_controller, trial, result)


def make_scheduler(spec: SearchSpec) -> Asha:
    """Return the scheduler of a search."""
    return Asha(
        time_attr="epoch",
        metric=spec.criterion.metric,
        mode="max",
        max_t=spec.max_epochs,
        grace_period=spec.grace_period,
        reduction_factor=spec.reduction_factor,
        brackets=1,
    )


def rungs(spec: SearchSpec) -> list[int]:
    """Return the epochs at which ASHA compares trials.

    >>> from tuning.space import Space
    >>> rungs(SearchSpec(Space(()), max_epochs=10))
    [3, 9]
    """
    epochs, rung = [], int(spec.grace_period)
    while rung < spec.max_epochs:
        epochs.append(rung)
        rung *= spec.reduction_factor
    return epochs
