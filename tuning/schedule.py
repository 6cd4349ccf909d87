"""ASHA across all trials, on the value by which each trial's own `EarlyStopping` judges it: its best so far.

The stopping variant of ASHA (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020): at the
epochs grace_period * reduction_factor ** k a trial goes on only while it is among the best 1 / reduction_factor of
those that got there. It differs from Ray's in what it compares, see `Asha`. Why this variant, and these defaults:
docs/decisions.md, 22.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from tuning.journal import PastTrial
from tuning.spec import SearchSpec

OTHERS = 2  # that a rung must have seen before it ends a trial: one alone may have been lucky


class Asha(FIFOScheduler):  # type: ignore[misc]  # Ray has no types
    """Stops trials at the rungs.

    Compared is a trial's best value up to the rung, so that a dip does not end a good trial, and a trial that lost its
    patience before a rung is compared there as well. A value that is not finite stops its trial and leaves no mark.

    Parameters
    ----------
    metric : str
        Reported, to see whether it is finite. 'best' is what is compared.
    max_epochs : int
    rungs : list of int
        Epochs, rising.
    reduction_factor : int
    """

    def __init__(self, metric: str, max_epochs: int, rungs: list[int], reduction_factor: int) -> None:
        super().__init__()
        self._metric = metric
        self.max_epochs = max_epochs
        self.reduction_factor = reduction_factor
        self.values: dict[int, dict[int, float]] = {rung: {} for rung in rungs}
        self._judged: dict[int, int] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self.judge(trial.config["trial"], result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.fill_rungs(trial.config["trial"], result)

    def judge(self, trial: int, result: dict[str, Any]) -> str:
        """Return whether a trial goes on after an epoch; one that is reported again has been judged already."""
        epoch = result["epoch"]
        if not math.isfinite(result[self.metric]) or epoch >= self.max_epochs:
            return str(self.STOP)
        values = self.values.get(epoch)
        if values is None or epoch <= self._judged.get(trial, 0):
            return str(self.CONTINUE)
        self._judged[trial] = epoch
        own = values.setdefault(trial, result["best"])
        better = sum(value > own for value in values.values())
        among_the_best = better < max(1, len(values) / self.reduction_factor)
        return str(self.CONTINUE if among_the_best or len(values) <= OTHERS else self.STOP)

    def fill_rungs(self, trial: int, result: dict[str, Any]) -> None:
        """Compare a trial that lost its patience at the rungs that it did not get to."""
        if result.get("stopped_early"):
            for rung, values in self.values.items():
                if rung >= result["epoch"]:
                    values.setdefault(trial, result["best"])


def make_scheduler(spec: SearchSpec, past: Iterable[PastTrial] = ()) -> Asha:
    """Return the scheduler of a search, its rungs filled with what is past."""
    asha = Asha(spec.criterion.metric, spec.max_epochs, spec.rungs, spec.reduction_factor)
    for trial in past:
        for line in trial.epochs:
            asha.judge(trial.number, line)
            asha.fill_rungs(trial.number, line)
    return asha
