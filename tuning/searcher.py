"""Optuna's TPE behind Ray's searcher interface, told the truth about trials that did not run to their end.

Ray's own adapter writes every trial as COMPLETE with its last value, so that the value of one epoch stands beside that
of ten, and leaves a NaN trial RUNNING for ever. Here a trial that ran to its end is COMPLETE with its best value; one
that ASHA stopped is PRUNED with all its values, which TPE ranks by how far it came; a diverged one is PRUNED without a
value, which is the worst that TPE knows; a failed one is FAIL.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.search import ConcurrencyLimiter, Searcher

from gru4rec.hyperparameters import NAMES
from tuning.journal import DIVERGED, TRIALS, Journal, PastTrial
from tuning.ray_runtime import Slots
from tuning.spec import COSTS, SearchSpec

STARTUP_TRIALS = 10
SAMPLER = 10**9  # sets the sampler's seeds apart from those of trials


class OptunaSearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Asks an Optuna study for configurations, and tells it how they ended.

    A trial that failed is settled by whoever counts its failures: given up, or suggested again before anything new.

    Parameters
    ----------
    spec : SearchSpec
        The points of its space come first.
    study : optuna.Study
        One direction for the criterion's metric and each of the spec's objectives; all of it is in trials' reports.
    journal : Journal, optional
        Where each suggestion is written down.
    past : iterable of PastTrial
        Trials of the same search, in the order of their numbers: the study learns what became of them, and those that
        have not ended are suggested once more, before anything new.
    """

    def __init__(
        self, spec: SearchSpec, study: optuna.Study, journal: Journal | None = None, past: Iterable[PastTrial] = ()
    ) -> None:
        super().__init__(metric=spec.criterion.metric, mode="max")
        self.study = study
        self.running: dict[str, RunningTrial] = {}
        self._spec = spec
        self._objectives = [spec.criterion.metric, *spec.objectives]
        self._journal = journal
        self._asked = 0
        self._failed: dict[int, RunningTrial] = {}
        self._again: list[RunningTrial] = []
        for trial in past:
            self._replay(trial)
        for point in spec.space.labelled_points()[self._asked :]:
            study.enqueue_trial(point)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._again:
            trial = self._again.pop(0)
        elif self._asked < self._spec.trials:
            trial = self._ask()
        else:
            return None if self.running or self._failed else str(self.FINISHED)
        self.running[trial_id] = trial
        return trial.config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.running[trial_id].reports.add(result, self._objectives)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.running.pop(trial_id, None)
        if trial is None:
            return
        if error:
            self._failed[trial.asked.number] = trial
            return
        finite = bool(result) and trial.reports.add(result or {}, self._objectives)
        if finite and not self._spec.objectives:  # Optuna takes no intermediate values of several objectives
            for epoch, value in trial.reports.values.items():
                trial.asked.report(value, epoch)
        if finite and result and self._ran_to_its_end(result):
            self.study.tell(trial.asked, [trial.reports.best, *trial.reports.at_best])
        else:
            self.study.tell(trial.asked, state=TrialState.PRUNED)

    def settle(self, number: int, again: bool) -> None:
        """Have a trial that failed tried again, or give it up."""
        trial = self._failed.pop(number)
        if again:
            self._again.insert(0, trial)
        else:
            self.study.tell(trial.asked, state=TrialState.FAIL)

    def _ask(self) -> RunningTrial:
        trial = self._begin()
        if self._journal is not None:
            given = {name: trial.config[name] for name in NAMES if name in trial.config}
            line = {"trial": trial.asked.number, "seed": trial.config["seed"], "hyperparameters": given}
            self._journal.append(TRIALS, line | {"params": trial.asked.params}, now=True)
        return trial

    def _begin(self) -> RunningTrial:
        asked = self.study.ask()
        self._asked += 1
        config = self._spec.space.suggest(asked)
        return RunningTrial(asked, {**config, "trial": asked.number, "seed": trial_seed(self._spec.seed, asked.number)})

    def _replay(self, past: PastTrial) -> None:
        """Learn what is known of a trial."""
        self.study.enqueue_trial(past.params)
        trial = self.running["past"] = self._begin()
        for line in past.epochs:
            self.on_trial_result("past", line)
        if past.running:
            self._again.append(self.running.pop("past"))
        elif past.end is None:
            self.on_trial_complete("past", past.epochs[-1])
        elif past.end["state"] == DIVERGED:
            self.on_trial_complete("past")
        else:
            self.on_trial_complete("past", error=True)
            self.settle(trial.asked.number, again=False)

    def _ran_to_its_end(self, result: dict[str, Any]) -> bool:
        return bool(result["stopped_early"]) or result["epoch"] >= self._spec.max_epochs

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the journal has it all."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, see `save`."""


@dataclass
class Reports:
    """What a trial has reported.

    Parameters
    ----------
    values : dict of int to float
        The metric by epoch. An epoch that is reported twice counts once.
    best : float
        What the trial counts as its best so far.
    at_best : list of float
        The other objectives at the best epoch.
    """

    values: dict[int, float] = field(default_factory=dict)
    best: float = -math.inf
    at_best: list[float] = field(default_factory=list)

    def add(self, result: dict[str, Any], objectives: list[str]) -> bool:
        """Add a report; False when its value is not finite."""
        value = result[objectives[0]]
        if not math.isfinite(value):
            return False
        if result["epoch"] not in self.values:
            self.best = result["best"]
            if value == self.best or not self.values:
                self.at_best = [result[name] for name in objectives[1:]]
            self.values[result["epoch"]] = value
        return True


@dataclass
class RunningTrial:
    """A trial that has not ended.

    Parameters
    ----------
    asked : optuna.Trial
    config : dict
    reports : Reports
    """

    asked: optuna.Trial
    config: dict[str, Any]
    reports: Reports = field(default_factory=Reports)


class SeedPerTrial(optuna.samplers.BaseSampler):  # type: ignore[misc]  # Optuna has no types
    """A sampler whose chance depends on the search's seed and the trial's number, on nothing else.

    Whoever knows the trials so far suggests the next one just so: a search that goes on after a crash included.

    Parameters
    ----------
    make : callable
        Seed -> sampler.
    seed : int
        Of the search.
    """

    def __init__(self, make: Callable[[int], optuna.samplers.BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        self._sampler = self._make(trial_seed(self._seed, trial.number, SAMPLER))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        space: dict[str, optuna.distributions.BaseDistribution] = self._sampler.infer_relative_search_space(
            study, trial
        )
        return space

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        params: dict[str, Any] = self._sampler.sample_relative(study, trial, search_space)
        return params

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


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


def make_searcher(
    spec: SearchSpec, study_name: str, journal: Journal | None = None, past: Iterable[PastTrial] = ()
) -> OptunaSearcher:
    """Return the searcher of a search.

    TPE models parameters that exist together jointly (`group`), so that those of one loss do not blur another's.
    """
    sampler = SeedPerTrial(partial(_tpe, startup=max(1, min(STARTUP_TRIALS, spec.trials // 2))), spec.seed)
    return OptunaSearcher(spec, make_study(spec, study_name, sampler=sampler), journal, past)


def make_study(
    spec: SearchSpec,
    name: str,
    storage: optuna.storages.BaseStorage | None = None,
    sampler: optuna.samplers.BaseSampler | None = None,
) -> optuna.Study:
    """Return the study of a search: in memory, or the one of that name in a storage."""
    objectives = [spec.criterion.metric, *spec.objectives]
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study
    try:
        return optuna.create_study(
            storage=storage,
            sampler=sampler,
            pruner=optuna.pruners.NopPruner(),
            study_name=name,
            directions=["minimize" if name in COSTS else "maximize" for name in objectives],
            load_if_exists=storage is not None,
        )
    finally:
        optuna.logging.set_verbosity(verbosity)


def _tpe(seed: int, startup: int) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True
        )
