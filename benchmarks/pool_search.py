"""Searchers that choose from a pool of recorded configurations: at random, or what a sampler's proposal is nearest to.

An Optuna sampler proposes a point of the whole space. It gets the nearest configuration of the pool that has not been
tried instead, and learns of that one, not of its proposal. No model of the curves is involved; but a sampler can try
nothing that was not drawn at random before, which is to its disadvantage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from curves import Curve, Distance
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher
from replay import Replay

from tuning.searcher import OptunaSearcher, trial_seed
from tuning.space import Dimension, Space


class PoolRandom(Searcher):  # type: ignore[misc]  # Ray has no types
    """Hands out curves in their order.

    Parameters
    ----------
    metric : str
    replay : Replay
    order : sequence of Curve
    """

    def __init__(self, metric: str, replay: Replay, order: Sequence[Curve]) -> None:
        super().__init__(metric=metric, mode="max")
        self._configs = [curve.config for curve in order]
        self._given = 0
        for seed, curve in enumerate(order):
            replay.assign(seed, curve)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        if self._given == len(self._configs):
            return str(Searcher.FINISHED)
        self._given += 1
        return {**self._configs[self._given - 1], "trial": self._given - 1, "seed": self._given - 1}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Learn nothing."""

    def settle(self, number: int, again: bool) -> None:
        """Nothing fails in a replay."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class LastValueSearcher(OptunaSearcher):
    """Tells Optuna the value of the last epoch, not the best one, as a training without validation between would."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        super().on_trial_complete(trial_id, result and {**result, "best": result[self.metric]}, error)


class Nearest:
    """Which curve a proposal gets.

    Parameters
    ----------
    space : Space
    curves : sequence of Curve
        Known-good points are given out only to proposals that are known-good points.
    reuse : bool
        Whether the curves of a loss may be given out once more when none of them is left.
    """

    def __init__(self, space: Space, curves: Sequence[Curve], reuse: bool = False) -> None:
        self._distance = Distance(space.dimensions)
        self._curves = curves
        self._reuse = reuse
        self._places = np.array([self._distance.coordinates(curve.config) for curve in curves])
        self._losses = np.array([curve.config["loss_fn"] for curve in curves])
        self._known = np.array([curve.source == "portfolio" for curve in curves])
        self._free = np.ones(len(curves), dtype=bool)

    def take(self, config: dict[str, Any], known: bool) -> Curve:
        """Return the nearest curve that is free, one of the same loss first."""
        same_loss = self._losses == config["loss_fn"]
        random = ~self._known
        if self._reuse and not (self._free & random & same_loss).any():
            self._free |= random & same_loss
        preferred = [self._known & same_loss, self._known] if known else []
        for group in (*preferred, random & same_loss, random):
            numbers = np.flatnonzero(self._free & group)
            if numbers.size:
                gaps = self._distance.to_all(self._distance.coordinates(config), self._places[numbers])
                number = int(numbers[np.argmin(gaps)])
                self._free[number] = False
                return self._curves[number]
        raise ValueError(f"all {len(self._curves)} curves have been tried")


class SnappingAsk:
    """Stands in for `Study.ask`: a trial that it returns has the hyperparameters of the curve nearest to a proposal.

    The proposal is a trial of its own, told to have failed, which samplers leave out. Finding the nearest curve is no
    work of the controller.

    Parameters
    ----------
    study : optuna.Study
    space : Space
    search_seed : int
    replay : Replay
    nearest : Nearest
    """

    def __init__(self, study: optuna.Study, space: Space, search_seed: int, replay: Replay, nearest: Nearest) -> None:
        self._ask = study.ask
        self._study = study
        self._space = space
        self._search_seed = search_seed
        self._replay = replay
        self._nearest = nearest

    def __call__(self) -> optuna.Trial:
        proposed = self._ask()
        proposal = self._space.suggest(proposed)
        with self._replay.clock.excluded():
            known = bool(proposed._fixed_params)  # it was in the queue
            curve = self._nearest.take(proposal, known)
            self._study.tell(proposed, state=TrialState.FAIL)
            trial = _add_trial(self._study, self._space, curve.config)
            self._replay.assign(trial_seed(self._search_seed, trial.number), curve)
            return trial

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()  # Ray pickles the study; the curves stay behind


def _add_trial(study: optuna.Study, space: Space, config: dict[str, Any]) -> optuna.Trial:
    """Return a new running trial of a study that has these hyperparameters."""
    active = [dimension for dimension in space.dimensions if dimension.active(config)]
    given: dict[str, Any] = {space.label(dimension): dimension.nearest(config[dimension.name]) for dimension in active}
    distributions = {space.label(dimension): _distribution(dimension) for dimension in active}
    trial = create_trial(state=TrialState.RUNNING, params=given, distributions=distributions)
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, trial))


def _distribution(dimension: Dimension) -> Any:
    if dimension.kind == "choice":
        return CategoricalDistribution(dimension.options)
    if dimension.kind == "int":
        step = int(dimension.step or 1)
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
