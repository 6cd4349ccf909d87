"""Optuna's TPE behind Ray's searcher interface, told the truth about trials that did not run to their end.

Ray's own adapter writes every trial as COMPLETE with its last value, so that the value of one epoch stands beside that
of ten, and leaves a NaN trial RUNNING for ever. Here a trial that ran to its end is COMPLETE with its best value; one
that ASHA stopped is PRUNED with all its values, which TPE ranks by how far it came; a diverged one is PRUNED; a failed
one is FAIL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch

from tuning.space import Space, Suggests
from tuning.spec import SearchSpec


@dataclass(frozen=True)
class TrialSuggestion:
    """Turns an Optuna trial into a Ray configuration: hyperparameters, the trial's number and its seed."""

    space: Space
    seed: int

    def __call__(self, trial: Suggests) -> dict[str, Any]:
        values = self.space.suggest(trial)
        return {**values, "trial": trial.number, "seed": trial_seed(self.seed, trial.number)}


def trial_seed(search_seed: int, trial: int) -> int:
    """Return the seed of a trial: a function of the search's seed and the trial's number alone."""
    return int(np.random.SeedSequence([search_seed, trial]).generate_state(1)[0])


class TruthfulOptunaSearch(OptunaSearch):  # type: ignore[misc]  # Ray has no types
    """See the module's text. Values are reported to Optuna by epoch."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if math.isfinite(result[self.metric]):
            self._ot_trials[trial_id].report(result[self.metric], result["epoch"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self._ot_trials[trial_id]
        if trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        value = (result or {}).get(self.metric)
        if error:
            self._ot_study.tell(trial, state=TrialState.FAIL)
        elif result is None or value is None or not math.isfinite(value):
            self._ot_study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.report(value, result["epoch"])
            if result["stopped_early"] or result["epoch"] >= self._max_epochs:
                self._ot_study.tell(trial, result["best"])
            else:
                self._ot_study.tell(trial, state=TrialState.PRUNED)

    def set_max_epochs(self, max_epochs: int) -> None:
        """Say from which epoch on a trial counts as complete."""
        self._max_epochs = max_epochs


def make_searcher(spec: SearchSpec, study_name: str) -> TruthfulOptunaSearch:
    """Return the searcher of a search; `study_name` must not have been used before."""
    startup = max(1, min(10, spec.trials // 2))
    searcher = TruthfulOptunaSearch(
        TrialSuggestion(spec.space, spec.seed),
        metric=spec.criterion.metric,
        mode="max",
        points_to_evaluate=spec.space.fitted_points(),
        sampler=optuna.samplers.TPESampler(seed=spec.seed, n_startup_trials=startup),
        study_name=study_name,
    )
    searcher.set_max_epochs(spec.max_epochs)
    return searcher
