"""Which hyperparameters the best trials owe their place to: PED-ANOVA, and what it would say by chance.

Conditional PED-ANOVA needs only an order of the trials, so that those ASHA stopped can take part, and it knows
parameters that exist in some trials alone. fANOVA would explain values, which after two epochs and after ten are not of
one kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from tuning.progress import TrialRecord
from tuning.space import Dimension, Space, Value

LEAST_TRIALS, MOST_TRIALS = 20, 500
LEAST_AMONG_THE_BEST = 5
BEST_SHARE = 0.1
SHUFFLES = 20
CHANCE = 0.95


@dataclass(frozen=True)
class Importance:
    """What a hyperparameter has to do with being among the best.

    Parameters
    ----------
    name : str
    share : float
        Of all that the hyperparameters have to do with it.
    chance : float
        The share that it has, once in twenty times, when the order of the trials is random.
    trials : int
        That have it.
    """

    name: str
    share: float
    chance: float
    trials: int

    @property
    def told(self) -> bool:
        """Whether the share is more than chance gives."""
        return self.share > self.chance


def best_share(num_trials: int) -> float:
    """Return the share of the trials that are the best ones: a tenth, and five of them at least.

    >>> best_share(20), best_share(200)
    (0.25, 0.1)
    """
    return max(BEST_SHARE, LEAST_AMONG_THE_BEST / num_trials)


def find_importances(space: Space, ranked: Sequence[TrialRecord], seed: int = 0) -> list[Importance]:
    """Return the importance of each hyperparameter, the largest first; none where nothing can be told.

    Parameters
    ----------
    space : Space
    ranked : sequence of TrialRecord
        The best first. Fewer than `LEAST_TRIALS` tell nothing; of more than `MOST_TRIALS` so many are taken, evenly.
    seed : int
        Of the random orders.

    References
    ----------
    Watanabe et al., "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces", IJCAI 2023.
    """
    if len(ranked) < LEAST_TRIALS:
        return []
    step = max(1.0, len(ranked) / MOST_TRIALS)
    ranked = [ranked[int(place * step)] for place in range(min(len(ranked), MOST_TRIALS))]
    points = [labelled(space, trial) for trial in ranked]
    ranges = {name: found for name, found in distributions_of(space, points).items() if not found.single()}
    points = [{name: value for name, value in point.items() if name in ranges} for point in points]
    if not ranges:
        return []
    with _quiet_optuna():
        study = optuna.create_study()
        study.add_trials(
            optuna.trial.create_trial(params=point, distributions={name: ranges[name] for name in point}, value=0.0)
            for point in points
        )
        found = _evaluate(study, np.arange(len(points)))
        generator = np.random.default_rng(seed)
        shuffled = [_evaluate(study, generator.permutation(len(points))) for _ in range(SHUFFLES)]
    total = sum(found.values())
    if total <= 0:
        return []
    return [
        Importance(
            name,
            value / total,
            float(np.quantile([other[name] for other in shuffled], CHANCE)) / total,
            sum(name in point for point in points),
        )
        for name, value in sorted(found.items(), key=lambda item: -item[1])
    ]


def labelled(space: Space, trial: TrialRecord) -> dict[str, Value]:
    """Return what a trial's search space chose, under the sampler's names; of a function, whatever is not constant."""
    values = trial.hyperparameters
    if space.dimensions:
        return {
            space.label(dimension): values[dimension.name]
            for dimension in space.dimensions
            if dimension.active(values) and dimension.name in values
        }
    return {name: value for name, value in values.items() if name not in space.fixed and value is not None}


def distributions_of(space: Space, points: Sequence[dict[str, Value]]) -> dict[str, BaseDistribution]:
    """Return Optuna's form of the ranges, as wide as the values; of a function's parameters only these are known."""
    ranges = {space.label(dimension): dimension for dimension in space.dimensions}
    found: dict[str, list[Value]] = {}
    for point in points:
        for name, value in point.items():
            found.setdefault(name, []).append(value)
    return {name: _distribution(ranges.get(name), values) for name, values in found.items()}


def _distribution(dimension: Dimension | None, values: list[Value]) -> BaseDistribution:
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(values) or (dimension is not None and dimension.kind == "choice"):
        options = dimension.options if dimension is not None else ()
        return CategoricalDistribution(tuple(dict.fromkeys([*options, *values])))
    ends = [*numbers, *([dimension.low, dimension.high] if dimension is not None else [])]
    log = dimension.log if dimension is not None else min(ends) > 0 and max(ends) / min(ends) >= 10
    if all(isinstance(number, int) for number in numbers):
        return IntDistribution(int(min(ends)), int(max(ends)), log=log)
    return FloatDistribution(min(ends), max(ends), log=log)


def _evaluate(study: optuna.Study, ranks: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    evaluator = PedAnovaImportanceEvaluator(target_quantile=best_share(len(ranks)))
    found = get_param_importances(
        study, evaluator=evaluator, target=lambda trial: float(ranks[trial.number]), normalize=False
    )
    return {name: float(value) for name, value in found.items()}


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is experimental, and that low ranks are taken for good ones
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
