"""Optuna's TPE behind Ray's searcher interface, told the truth about trials that did not run to their end.

Ray's own adapter writes every trial as COMPLETE with its last value, so that the value of one epoch stands beside that
of ten, and leaves a NaN trial RUNNING for ever. Here a trial that ran to its end is COMPLETE with its best value; one
that ASHA stopped is PRUNED with all its values, which TPE ranks by how far it came; a diverged one is PRUNED; a failed
one is FAIL.
"""

from __future__ import annotations

import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.search import ConcurrencyLimiter, Searcher

from tuning.ray_runtime import Slots
from tuning.space import Space
from tuning.spec import COSTS, SearchSpec

STARTUP_TRIALS = 10


class OptunaSearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Asks an Optuna study for configurations, and tells it how they ended.

    Parameters
    ----------
    space : Space
        Its points come first.
    study : optuna.Study
        One direction for each of `objectives`.
    objectives : list of str
        The criterion's metric, then what else is to be optimised; all of it is in the reports of trials.
    max_epochs : int
        From this epoch on a trial has run to its end.
    seed : int
        Of the search; each trial's own seed derives from it and the trial's number.
    """

    def __init__(self, space: Space, study: optuna.Study, objectives: list[str], max_epochs: int, seed: int) -> None:
        super().__init__(metric=objectives[0], mode="max")
        self.space = space
        self.study = study
        self.objectives = objectives
        self.max_epochs = max_epochs
        self.seed = seed
        self.running: dict[str, optuna.Trial] = {}
        self.at_best: dict[int, list[float]] = {}  # the other objectives at a running trial's best epoch
        for point in space.labelled_points():
            study.enqueue_trial(point)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        trial = self.running[trial_id] = self.study.ask()
        return {**self.space.suggest(trial), "trial": trial.number, "seed": trial_seed(self.seed, trial.number)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._report(self.running[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.running.pop(trial_id, None)
        if trial is None:
            return
        if error:
            self.study.tell(trial, state=TrialState.FAIL)
        elif result is not None and self._report(trial, result) and self._ran_to_its_end(result):
            self.study.tell(trial, [result["best"], *self.at_best[trial.number]])
        else:
            self.study.tell(trial, state=TrialState.PRUNED)
        self.at_best.pop(trial.number, None)

    def _report(self, trial: optuna.Trial, result: dict[str, Any]) -> bool:
        """Report an epoch's value; False when it is not finite."""
        finite = math.isfinite(result[self.metric])
        if finite and (result[self.metric] == result["best"] or trial.number not in self.at_best):
            self.at_best[trial.number] = [result[name] for name in self.objectives[1:]]
        if finite and len(self.objectives) == 1:  # Optuna takes no intermediate values of several objectives
            trial.report(result[self.metric], result["epoch"])
        return finite

    def _ran_to_its_end(self, result: dict[str, Any]) -> bool:
        return bool(result["stopped_early"]) or result["epoch"] >= self.max_epochs

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_bytes(pickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        self.__dict__.update(pickle.loads(Path(checkpoint_path).read_bytes()))


class SlotLimiter(ConcurrencyLimiter):  # type: ignore[misc]  # Ray has no types
    """Lets a searcher suggest no more trials than there are slots at the moment: what waits has been chosen blindly."""

    def __init__(self, searcher: Searcher, slots: Slots) -> None:
        super().__init__(searcher, slots.now())
        self._slots = slots

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        self.max_concurrent = self._slots.now()
        suggestion: dict[str, Any] | None = super().suggest(trial_id)
        return suggestion


def trial_seed(search_seed: int, trial: int, *again: int) -> int:
    """Return the seed of a trial: a function of the search's seed, the trial's number, and which time it is `again`."""
    return int(np.random.SeedSequence([search_seed, trial, *again]).generate_state(1)[0])


def make_searcher(spec: SearchSpec, study_name: str) -> OptunaSearcher:
    """Return the searcher of a search.

    TPE models parameters that exist together jointly (`group`), so that those of one loss do not blur another's.
    """
    objectives = [spec.criterion.metric, *spec.objectives]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=spec.seed,
            n_startup_trials=max(1, min(STARTUP_TRIALS, spec.trials // 2)),
            multivariate=True,
            group=True,
            constant_liar=True,
        )
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study
    try:
        study = optuna.create_study(
            sampler=sampler,
            pruner=optuna.pruners.NopPruner(),
            study_name=study_name,
            directions=["minimize" if name in COSTS else "maximize" for name in objectives],
        )
    finally:
        optuna.logging.set_verbosity(verbosity)
    return OptunaSearcher(spec.space, study, objectives, spec.max_epochs, spec.seed)
