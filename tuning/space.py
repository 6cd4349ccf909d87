"""Search spaces over the hyperparameters: dimensions, conditions between them, presets, known-good points.

A dimension exists only while its `when` holds, so the sampler never wastes a trial on a parameter without effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from gru4rec.errors import ParameterError
from gru4rec.hyperparameters import HyperParameters
from gru4rec.presets import preset

Value = float | int | str | bool
Kind = Literal["float", "int", "choice"]


class Suggests(Protocol):
    """What a space needs of an Optuna trial."""

    number: int

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...
    def suggest_categorical(self, name: str, choices: tuple[Value, ...]) -> Value: ...


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter's range.

    Parameters
    ----------
    name : str
        A field of `HyperParameters`.
    kind : {'float', 'int', 'choice'}
    low, high : float or int
        Ends of the range, both included; not for 'choice'.
    step : float or int, optional
        Grid of the values, counted from `low`.
    log : bool
        Search the logarithm.
    options : tuple
        For 'choice'.
    when : mapping of str to tuple
        The dimension exists only while each of these hyperparameters has one of these values.
    """

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    options: tuple[Value, ...] = ()
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def active(self, values: Mapping[str, Any]) -> bool:
        """Whether the dimension exists beside these values."""
        return all(values.get(name) in allowed for name, allowed in self.when.items())

    def suggest(self, trial: Suggests) -> Value:
        """Let the sampler choose a value."""
        if self.kind == "float":
            return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        if self.kind == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, self.options)
        raise ParameterError(f"kind of {self.name} must be float, int or choice, got {self.kind!r}")

    def nearest(self, value: Value) -> Value | None:
        """Return the value of the range that is nearest to `value`; None when a choice lacks it."""
        if self.kind == "choice":
            return value if value in self.options else None
        bounded = min(max(float(value), self.low), self.high)
        if self.step is not None:
            bounded = self.low + round((bounded - self.low) / self.step) * self.step
            bounded = bounded if bounded <= self.high + 1e-12 else bounded - self.step
        return round(bounded) if self.kind == "int" else round(bounded, 12)


@dataclass(frozen=True)
class Space:
    """All dimensions of a search, the constants beside them, and the points to try first.

    Parameters
    ----------
    dimensions : tuple of Dimension
        Each after those that its `when` names.
    fixed : mapping of str to value
        Hyperparameters that every trial has.
    points : tuple of mappings
        Tried in this order before the sampler takes over. What a point leaves open is sampled.
    """

    dimensions: tuple[Dimension, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    points: tuple[Mapping[str, Value], ...] = ()

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Return the hyperparameters of a trial."""
        values: dict[str, Any] = dict(self.fixed)
        for dimension in self.dimensions:
            if dimension.active(values):
                values[dimension.name] = dimension.suggest(trial)
        return values

    def fitted_points(self) -> list[dict[str, Value]]:
        """Return the points brought into the ranges; what contradicts the space or the constants is left out."""
        defaults = HyperParameters().to_dict()
        fitted = []
        for point in self.points:
            values: dict[str, Any] = dict(self.fixed)
            inside: dict[str, Value] = {}
            for dimension in self.dimensions:
                value = dimension.nearest(point[dimension.name]) if dimension.name in point else None
                if dimension.active(values) and value is not None:
                    inside[dimension.name] = values[dimension.name] = value
            words = {name: word for name, word in point.items() if isinstance(word, str)}
            contradicted = any(values.get(name, defaults[name]) != word for name, word in words.items())
            if inside and not contradicted and inside not in fitted:
                fitted.append(inside)
        return fitted


class RandomTrial:
    """Draws uniformly from ranges, for trying a space out without Optuna."""

    number = 0

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        return float(self._random.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        return int(self._random.integers(low, high, endpoint=True))

    def suggest_categorical(self, name: str, choices: tuple[Value, ...]) -> Value:
        return choices[self._random.integers(len(choices))]


def check_points(space: Space, count: int = 100) -> None:
    """Try `count` random points and the known-good ones.

    Raises
    ------
    ParameterError
        When one of them is no valid set of hyperparameters.
    """
    for seed in range(count):
        HyperParameters.from_dict(space.suggest(RandomTrial(seed)), "space: a point of it is not valid")
    for point in space.fitted_points():
        HyperParameters.from_dict({**space.fixed, **point}, "points")


def sort_dimensions(dimensions: Iterable[Dimension], fixed: Iterable[str]) -> tuple[Dimension, ...]:
    """Return the dimensions with each one after those that its `when` names.

    Raises
    ------
    ParameterError
        When a `when` names something that is neither a dimension nor fixed, or conditions go round in a circle.
    """
    waiting, known = list(dimensions), set(fixed)
    ordered: list[Dimension] = []
    while waiting:
        ready = next((dimension for dimension in waiting if known.issuperset(dimension.when)), None)
        if ready is None:
            names = sorted({name for dimension in waiting for name in dimension.when if name not in known})
            raise ParameterError(
                f"'when' of {waiting[0].name!r} can never be decided: {', '.join(names)} is neither searched nor fixed "
                "before it"
            )
        ordered.append(ready)
        known.add(ready.name)
        waiting.remove(ready)
    return tuple(ordered)


def _sampled(name: str) -> Mapping[str, tuple[Value, ...]]:
    return {"loss_fn": (name,)}


_LOSS_PARAMETERS = (
    Dimension("bpreg", "float", 0.0, 2.0, step=0.05, when=_sampled("bpr-max")),
    Dimension("elu_param", "choice", options=(0.0, 0.5, 1.0), when=_sampled("bpr-max")),
    Dimension("logq", "choice", options=(0.0, 1.0), when=_sampled("cross-entropy")),
)
_TRAINING = (
    Dimension("sample_alpha", "float", 0.0, 1.0, step=0.1),
    Dimension("learning_rate", "float", 0.01, 0.3, log=True),
    Dimension("momentum", "float", 0.0, 0.8, step=0.05),
    Dimension("dropout_embedding", "float", 0.0, 0.5, step=0.05),
    Dimension("dropout_hidden", "float", 0.0, 0.5, step=0.05),
)
_AS_PUBLISHED = {"clipnorm": None, "epsilon": 1e-6}  # what the authors' code has, for batches of 32 to 256


def _published(data_set: str) -> Mapping[str, Value]:
    values = preset(data_set).to_dict()
    of_the_loss = [dimension.name for dimension in _LOSS_PARAMETERS if dimension.active(values)]
    return {name: values[name] for name in (*_OF_A_POINT, *of_the_loss)}


_OF_A_POINT = (
    "loss_fn", "embedding", "num_layers", "hidden_size", "batch_size", "num_negatives", "sample_alpha", "learning_rate",
    "momentum", "dropout_embedding", "dropout_hidden",
)  # fmt: skip
# The first two are common defaults that did well on short click logs; the others are published, see `gru4rec.presets`.
KNOWN_GOOD: tuple[Mapping[str, Value], ...] = (
    {
        "loss_fn": "bpr-max", "embedding": "tied", "num_layers": 1, "hidden_size": 128, "batch_size": 64,
        "num_negatives": 1024, "sample_alpha": 0.5, "learning_rate": 0.05, "momentum": 0.0, "dropout_embedding": 0.0,
        "dropout_hidden": 0.0, "bpreg": 1.0, "elu_param": 0.5,
    },
    {
        "loss_fn": "cross-entropy", "embedding": "tied", "num_layers": 1, "hidden_size": 128, "batch_size": 64,
        "num_negatives": 1024, "sample_alpha": 0.5, "learning_rate": 0.1, "momentum": 0.0, "dropout_embedding": 0.0,
        "dropout_hidden": 0.2, "logq": 1.0,
    },
    _published("retailrocket"),
    _published("rsc15"),
)  # fmt: skip

PRESETS: dict[str, Space] = {
    "quick": Space(
        (
            Dimension("loss_fn", "choice", options=("cross-entropy", "bpr-max")),
            Dimension("hidden_size", "int", 64, 160, step=32),
            Dimension("batch_size", "int", 32, 128, step=16),
            Dimension("num_negatives", "int", 128, 1024, log=True),
            *_TRAINING,
            *_LOSS_PARAMETERS,
        ),
        {"embedding": "tied", "num_layers": 1, **_AS_PUBLISHED},
        KNOWN_GOOD,
    ),
    "full": Space(
        (
            Dimension("loss_fn", "choice", options=("cross-entropy", "top1", "top1-max", "bpr", "bpr-max")),
            Dimension("num_layers", "int", 1, 2),
            Dimension("hidden_size", "int", 64, 256, step=32),
            Dimension("embedding", "choice", options=("tied", "separate")),
            Dimension("num_components", "int", 64, 256, step=32, when={"embedding": ("separate",)}),
            Dimension("batch_size", "int", 32, 256, step=16),
            Dimension("num_negatives", "int", 128, 2048, log=True),
            *_TRAINING,
            *_LOSS_PARAMETERS,
        ),
        _AS_PUBLISHED,
        KNOWN_GOOD,
    ),
}
