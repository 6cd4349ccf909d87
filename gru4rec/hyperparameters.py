"""THE list of hyperparameters: names, defaults, ranges, meaning.

Estimators, search spaces, configuration files and commands take their names and ranges from here. What belongs to one
run and not to the model (epochs, stopping, seed, device) is not a hyperparameter.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from gru4rec.errors import ParameterError, unknown_name
from gru4rec.numbers import LARGEST_INTEGER, is_number
from gru4rec.official import read_official

SAMPLED_LOSSES = ("cross-entropy", "top1", "top1-max", "bpr", "bpr-max")


class Domain(Protocol):
    """The set of values that a hyperparameter may take."""

    def problem(self, value: object) -> str | None:
        """Return what was expected when `value` is not in the domain, else None."""


@dataclass(frozen=True)
class Integer:
    """Whole numbers of at least `low`, or one of the words in `words`."""

    low: int
    words: tuple[str | None, ...] = ()

    def problem(self, value: object) -> str | None:
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            if self.low <= int(value) <= LARGEST_INTEGER:
                return None
            if value > self.low:
                return f"a whole number from {self.low} to {LARGEST_INTEGER}"
        elif (isinstance(value, str) or value is None) and value in self.words:
            return None
        return " or ".join([f"a whole number >= {self.low}", *map(repr, self.words)])


@dataclass(frozen=True)
class Real:
    """Finite numbers from `low` to `high`; `open_low` and `open_high` exclude the ends; None where `optional`."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    optional: bool = False

    def problem(self, value: object) -> str | None:
        if value is None and self.optional:
            return None
        if is_number(value):
            above = value > self.low if self.open_low else value >= self.low
            below = value < self.high if self.open_high else value <= self.high
            if above and below:
                return None
        return f"in {self}" + (" or None" if self.optional else "")

    def __str__(self) -> str:
        left = "(" if self.open_low else "["
        right = ")" if self.open_high or math.isinf(self.high) else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True)
class Choice:
    """One of the given words."""

    options: tuple[str, ...]

    def problem(self, value: object) -> str | None:
        return None if value in self.options else f"one of {', '.join(self.options)}"


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def problem(self, value: object) -> str | None:
        return None if isinstance(value, bool) else "True or False"


def _parameter(default: Any, domain: Domain) -> Any:
    return field(default=default, metadata={"domain": domain})


@dataclass(frozen=True, kw_only=True)
class HyperParameters:
    """Everything that defines the model and one update of it. Defaults are those of recpack's GRU4RecNegSampling.

    Parameters
    ----------
    num_layers : int
        GRU layers.
    hidden_size : int
        Units in each GRU layer.
    embedding : {'separate', 'tied', 'none'}
        'separate': an input table of `num_components` columns and an output table. 'tied': one table of `hidden_size`
        columns is both (the authors' "constrained embedding"). 'none': one-hot inputs, the first GRU layer's input
        weights are the table; `dropout_embedding` then acts on that layer's state. `num_components` is for 'separate'.
    num_components : int
        Columns of the separate input table.
    dropout : float in [0, 1)
        Dropout of the item embedding and of the GRU states, unless overridden by the two below.
    dropout_embedding, dropout_hidden : float in [0, 1), optional
        Dropout of one of them alone.
    loss_fn : {'cross-entropy', 'top1', 'top1-max', 'bpr', 'bpr-max'}
        See `gru4rec.nn.losses`.
    bpreg : float >= 0
        Weight of BPR-max's score regularisation (lambda in the paper). Only for 'bpr-max'.
    elu_param : float >= 0
        BPR-max sees ELU(score, elu_param); 0 leaves scores linear. Only for 'bpr-max'.
    logq : float in [0, 1]
        Strength of the logQ correction of cross-entropy over shared negatives; 1 corrects fully, 0 not at all.
    logq_correction : {'published', 'refined'}
        'published': the authors' correction, which also takes the target's own logarithm off its score. 'refined': the
        target is not corrected, since it is not sampled (Khrylchenko et al., RecSys 2025). See `gru4rec.nn.scoring`.
    num_negatives : int or 'all'
        Negatives drawn per positive. 'all' scores every item (full softmax), for 'cross-entropy' only.
    negatives : {'shared', 'per_target'}
        'shared': one draw serves the whole mini-batch, and the other targets of the batch count as negatives too.
        'per_target': each target has its own draw.
    mask_targets : bool
        Whether a row's own target, when another row or a draw brings it up again, is left out of the row's negatives.
        False leaves out only the row's own place, as the authors' code does. Only for shared negatives.
    sample_alpha : float >= 0
        Negatives are drawn with probability proportional to popularity ** sample_alpha; 0 is uniform.
    optimization_algorithm : {'adagrad', 'sgd'}
        Both treat item tables row by row.
    learning_rate : float > 0
    momentum : float in [0, 1)
    epsilon : float > 0
        Added to Adagrad's sum of squared gradients under the root. Gradients shrink as `batch_size` grows; where they
        are below sqrt(epsilon) it slows learning. The authors' code has 1e-6, which suits their batches of 32 to 256.
    clipnorm : float > 0, optional
        Bound on the l2 norm of the whole gradient; None for no clipping.
    batch_size : int
        Parallel lanes, each holding one session at a time.
    bptt : int
        Steps of backpropagation through time per update; 1 is the algorithm of the papers.

    Raises
    ------
    ParameterError
        When a value is outside its range, or two values exclude each other.
    """

    num_layers: int = _parameter(1, Integer(1))
    hidden_size: int = _parameter(100, Integer(1))
    embedding: Literal["separate", "tied", "none"] = _parameter("separate", Choice(("separate", "tied", "none")))
    num_components: int = _parameter(250, Integer(1))
    dropout: float = _parameter(0.0, Real(0, 1, open_high=True))
    dropout_embedding: float | None = _parameter(None, Real(0, 1, open_high=True, optional=True))
    dropout_hidden: float | None = _parameter(None, Real(0, 1, open_high=True, optional=True))
    loss_fn: str = _parameter("bpr", Choice(SAMPLED_LOSSES))
    bpreg: float = _parameter(1.0, Real(0))
    elu_param: float = _parameter(0.5, Real(0))
    logq: float = _parameter(1.0, Real(0, 1))
    logq_correction: Literal["published", "refined"] = _parameter("published", Choice(("published", "refined")))
    num_negatives: int | Literal["all"] = _parameter(50, Integer(0, words=("all",)))
    negatives: Literal["shared", "per_target"] = _parameter("shared", Choice(("shared", "per_target")))
    mask_targets: bool = _parameter(True, Flag())
    sample_alpha: float = _parameter(0.5, Real(0))
    optimization_algorithm: Literal["adagrad", "sgd"] = _parameter("adagrad", Choice(("adagrad", "sgd")))
    learning_rate: float = _parameter(0.03, Real(0, open_low=True))
    momentum: float = _parameter(0.0, Real(0, 1, open_high=True))
    epsilon: float = _parameter(1e-12, Real(0, open_low=True))
    clipnorm: float | None = _parameter(1.0, Real(0, open_low=True, optional=True))
    batch_size: int = _parameter(512, Integer(1))
    bptt: int = _parameter(1, Integer(1))

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, np.generic):  # a grid made with numpy
                object.__setattr__(self, name, value.item())
        problems = [
            f"{name} must be {expected}, got {value!r}"
            for name, value in dataclasses.asdict(self).items()
            if (expected := domain_of(name).problem(value))
        ]
        if not problems:
            problems = self._conflicts()
        if problems:
            raise ParameterError("; ".join(problems))

    def _conflicts(self) -> list[str]:
        problems = []
        if self.num_negatives == "all" and self.loss_fn != "cross-entropy":
            problems.append(f"num_negatives='all' needs loss_fn='cross-entropy', got {self.loss_fn!r}")
        if self.num_negatives == 0 and (self.negatives == "per_target" or self.batch_size == 1):
            problems.append("num_negatives=0 leaves no negative unless negatives='shared' and batch_size >= 2")
        return problems

    @property
    def embedding_size(self) -> int:
        """Columns of the table that embeds the input items."""
        return {"tied": self.hidden_size, "separate": self.num_components, "none": 3 * self.hidden_size}[self.embedding]

    @property
    def embedding_dropout(self) -> float:
        """Dropout of the item embedding."""
        return self.dropout if self.dropout_embedding is None else self.dropout_embedding

    @property
    def hidden_dropout(self) -> float:
        """Dropout of the GRU states."""
        return self.dropout if self.dropout_hidden is None else self.dropout_hidden

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str | None = None) -> HyperParameters:
        """Make hyperparameters from a mapping; `source` names where it came from in errors.

        Raises
        ------
        ParameterError
            On an unknown name or a value outside its range.
        """
        place = f"{source}: " if source else ""
        unknown = [unknown_name(name, NAMES, "hyperparameter") for name in values if name not in NAMES]
        if unknown:
            raise ParameterError(place + "; ".join(unknown))
        try:
            return cls(**values)
        except ParameterError as error:
            raise ParameterError(f"{place}{error}") from None

    @classmethod
    def from_official(cls, source: Mapping[str, Any] | str | Path) -> HyperParameters:
        """Make hyperparameters from those of the authors' code: a mapping, a parameter file, or a parameter string.

        See `gru4rec.official.read_official`, which also returns the number of epochs.

        Raises
        ------
        ParameterError
            When the source cannot be read, or asks for something that this project does not have.
        """
        settings = read_official(source)
        return cls.from_dict(settings.values, str(source) if isinstance(source, (str, Path)) else None)

    def to_dict(self) -> dict[str, Any]:
        """Return all values by name, fit for JSON."""
        return dataclasses.asdict(self)


NAMES = tuple(f.name for f in dataclasses.fields(HyperParameters))
_DOMAINS: dict[str, Domain] = {f.name: f.metadata["domain"] for f in dataclasses.fields(HyperParameters)}


def domain_of(name: str) -> Domain:
    """Return the range of the hyperparameter `name`."""
    return _DOMAINS[name]
