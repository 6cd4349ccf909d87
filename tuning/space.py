"""Search spaces over the hyperparameters: dimensions and conditions between them, or a function in Optuna's style.

A dimension exists only while its `when` holds, so the sampler never wastes a trial on a parameter without effect.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from gru4rec.errors import ParameterError
from gru4rec.hyperparameters import HyperParameters

Value = float | int | str | bool
Kind = Literal["float", "int", "choice"]


class Suggests(Protocol):
    """What a space needs of an Optuna trial."""

    number: int

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
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

    def suggest(self, trial: Suggests, label: str) -> Value:
        """Let the sampler, which knows the dimension by its label, choose a value."""
        if self.kind == "float":
            return trial.suggest_float(label, self.low, self.high, step=self.step, log=self.log)
        if self.kind == "int":
            return trial.suggest_int(label, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        if self.kind == "choice":
            return trial.suggest_categorical(label, self.options)
        raise ParameterError(f"kind of {self.name} must be float, int or choice, got {self.kind!r}")

    def nearest(self, value: Value | None) -> Value | None:
        """Return the value of the range that is nearest to `value`; None when a choice lacks it, or it is no number."""
        if self.kind == "choice":
            return value if value in self.options else None
        if value is None or isinstance(value, str):
            return None
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
        Each after those that its `when` names. A name may come up again, with a `when` that excludes the others': a
        learning rate for each optimizer.
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
                values[dimension.name] = dimension.suggest(trial, self.label(dimension))
        return values

    def label(self, dimension: Dimension) -> str:
        """Return the sampler's name of a dimension: one name must not have two ranges."""
        if sum(other.name == dimension.name for other in self.dimensions) == 1:
            return dimension.name
        return " ".join([dimension.name, *(str(value) for values in dimension.when.values() for value in values)])

    def fitted_points(self) -> list[dict[str, Value]]:
        """Return the points brought into the ranges; what contradicts the space or the constants is left out."""
        return [{dimension.name: value for dimension, value in point} for point in self._fit()]

    def labelled_points(self) -> list[dict[str, Value]]:
        """Return the fitted points under the sampler's names."""
        return [{self.label(dimension): value for dimension, value in point} for point in self._fit()]

    def _fit(self) -> list[list[tuple[Dimension, Value]]]:
        defaults = HyperParameters().to_dict()
        fitted = []
        for point in self.points:
            values: dict[str, Any] = dict(self.fixed)
            inside = []
            for dimension in self.dimensions:
                value = dimension.nearest(point[dimension.name]) if dimension.name in point else None
                if dimension.active(values) and value is not None:
                    values[dimension.name] = value
                    inside.append((dimension, value))
            words = {name: word for name, word in point.items() if isinstance(word, str)}
            contradicted = any(values.get(name, defaults[name]) != word for name, word in words.items())
            if inside and not contradicted and inside not in fitted:
                fitted.append(inside)
        return fitted

    def for_catalogue(self, num_items: int) -> Space:
        """Return the space with no more negatives than there are items."""
        dimensions = tuple(
            replace(dimension, low=min(dimension.low, num_items), high=min(dimension.high, num_items))
            if dimension.name == "num_negatives" and dimension.kind == "int"
            else dimension
            for dimension in self.dimensions
        )
        return replace(self, dimensions=dimensions)

    def with_points(self, points: Iterable[Mapping[str, Value]]) -> Space:
        """Return the space with points to be tried before its own."""
        return replace(self, points=(*points, *self.points))


@dataclass(frozen=True)
class FunctionSpace(Space):
    """A space that a function in Optuna's style defines: it takes a trial, and returns hyperparameters by name.

    Parameters
    ----------
    function : str
        'module:name', importable wherever trials are suggested.
    """

    dimensions: tuple[Dimension, ...] = ()
    function: str = ""

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        return {**self.fixed, **dict(self._load()(trial))}

    def labelled_points(self) -> list[dict[str, Value]]:
        return [dict(point) for point in self.points]

    fitted_points = labelled_points

    def _load(self) -> Callable[[Suggests], Mapping[str, Any]]:
        module, _, name = self.function.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except Exception as error:  # an import runs what stands in the module
            raise ParameterError(f"the function {self.function!r} of the space cannot be imported: {error}") from None
        if not callable(function):
            raise ParameterError(f"{self.function!r} of the space is no function, it is {function!r}")
        return function  # type: ignore[no-any-return]


def function_space(function: Callable[[Any], Mapping[str, Any]]) -> FunctionSpace:
    """Return the space that a function defines.

    Raises
    ------
    ParameterError
        When other processes could not import it: a lambda, a local function, one of the main script.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<lambda>")
    if module in (None, "__main__") or "<" in name or "." in name:
        raise ParameterError(
            f"the space must be a function at the top of an importable module, got {name} of {module}",
            "move it into a file of its own, and import it",
        )
    return FunctionSpace(function=f"{module}:{name}")


class RandomTrial:
    """Draws uniformly from ranges, for trying a space out without Optuna."""

    number = 0

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            return min(high, low + step * int(self._random.integers(int((high - low) / step + 1e-9), endpoint=True)))
        if log:
            return float(np.exp(self._random.uniform(np.log(low), np.log(high))))
        return float(self._random.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return min(high, int(np.exp(self._random.uniform(np.log(low), np.log(high + 1)))))
        return low + step * int(self._random.integers((high - low) // step, endpoint=True))

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
        try:
            values = space.suggest(RandomTrial(seed))
        except ParameterError:
            raise
        except Exception as error:  # a function of the user may raise anything
            raise ParameterError(f"space: no point can be drawn from it: {type(error).__name__}: {error}") from error
        HyperParameters.from_dict(values, "space: a point of it is not valid")
    for point in space.fitted_points():
        HyperParameters.from_dict({**space.fixed, **point}, "points")


def sort_dimensions(dimensions: Iterable[Dimension], fixed: Iterable[str]) -> tuple[Dimension, ...]:
    """Return the dimensions with each one after those that its `when` names.

    Raises
    ------
    ParameterError
        When a `when` names something that is neither a dimension nor fixed, conditions go round in a circle, or two
        dimensions of one name could exist side by side.
    """
    dimensions = list(dimensions)
    for number, one in enumerate(dimensions):
        for other in dimensions[:number]:
            if one.name == other.name and not _exclude_each_other(one.when, other.when):
                raise ParameterError(
                    f"{one.name!r} has two ranges that could hold at once", "give them a 'when' that excludes the other"
                )
    waiting, known = dimensions.copy(), set(fixed)
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


def _exclude_each_other(one: Mapping[str, tuple[Value, ...]], other: Mapping[str, tuple[Value, ...]]) -> bool:
    return any(set(one[name]).isdisjoint(other[name]) for name in one if name in other)
