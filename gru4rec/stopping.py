"""When to stop training: the rule that names the metric and the patience, and what follows one training by it.

The one place of the rule: `fit`, every trial of a search and ASHA read the same `StoppingRule`. `StoppingCriterion` is
recpack's interface to it, for score matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from scipy import sparse

from gru4rec import matrix_metrics
from gru4rec.errors import ParameterError, unknown_name
from gru4rec.metrics import METRICS, parse_metric

DEFAULT_CUTOFF = 50
LOSSES = ("bpr", "warp")  # of score matrices only, and minimised


@dataclass(frozen=True)
class StoppingRule:
    """The validation metric that says which epoch is best, and how long to wait for it to improve.

    Parameters
    ----------
    metric : str
        A key such as 'recall@20', maximised; a bare name means the cut-off 50 (recpack's default). 'bpr' and 'warp' are
        minimised.
    max_iter_no_change : int
        Epochs in a row without improvement after which training stops.
    min_improvement : float
        A value counts as better only when it is better than the best so far by more than this.

    Raises
    ------
    ParameterError
        When the metric is unknown or a number is out of range.
    """

    metric: str = "recall"
    max_iter_no_change: int = 5
    min_improvement: float = 0.0

    def __post_init__(self) -> None:
        if self.metric in METRICS:
            object.__setattr__(self, "metric", f"{self.metric}@{DEFAULT_CUTOFF}")
        if not self.minimize:
            parse_metric(self.metric)
        if type(self.max_iter_no_change) is not int or self.max_iter_no_change < 1:
            raise ParameterError(f"max_iter_no_change must be a whole number >= 1, got {self.max_iter_no_change!r}")
        number = isinstance(self.min_improvement, (int, float)) and math.isfinite(self.min_improvement)
        if not (number and self.min_improvement >= 0):
            raise ParameterError(f"min_improvement must be a number >= 0, got {self.min_improvement!r}")

    @property
    def minimize(self) -> bool:
        """Whether lower is better."""
        return self.metric in LOSSES


class EarlyStopping:
    """Follows one training: which epoch was best, and whether patience has run out.

    >>> stopping = EarlyStopping(StoppingRule("recall@20", max_iter_no_change=2))
    >>> [stopping.update(value) for value in (0.1, 0.3, 0.3, 0.2)]
    [True, True, False, False]
    >>> stopping.best_epoch, stopping.best_value, stopping.exhausted
    (2, 0.3, True)
    """

    def __init__(self, rule: StoppingRule) -> None:
        self.rule = rule
        self.epoch = 0
        self.best_epoch = 0
        self.best_value = math.inf if rule.minimize else -math.inf

    def update(self, value: float) -> bool:
        """Record the value of the next epoch; True when it is the best so far."""
        self.epoch += 1
        gain = self.best_value - value if self.rule.minimize else value - self.best_value
        if gain > self.rule.min_improvement:
            self.best_epoch, self.best_value = self.epoch, value
            return True
        return False

    @property
    def exhausted(self) -> bool:
        """Whether `max_iter_no_change` epochs in a row brought no improvement."""
        return self.epoch - self.best_epoch >= self.rule.max_iter_no_change

    def state_dict(self) -> dict[str, float]:
        """Return the progress so far, to go on from with `load_state_dict`."""
        return {"epoch": self.epoch, "best_epoch": self.best_epoch, "best_value": self.best_value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a saved progress."""
        self.epoch, self.best_epoch = int(state["epoch"]), int(state["best_epoch"])
        self.best_value = float(state["best_value"])


class EarlyStoppingException(Exception):  # noqa: N818 - recpack's name
    """`StoppingCriterion.update` saw no improvement for `max_iter_no_change` calls in a row."""


class StoppingCriterion:
    """A function of (X_true, X_pred), and whether its value still improves; recpack's interface.

    Parameters
    ----------
    loss_function : callable
        (X_true, X_pred, **kwargs) -> float, where both are csr matrices, users x items.
    minimize : bool
    stop_early : bool
        Raise `EarlyStoppingException` after `max_iter_no_change` updates in a row without improvement.
    max_iter_no_change : int
    min_improvement : float
    **kwargs
        Passed on to `loss_function`, e.g. k.
    """

    FUNCTIONS: ClassVar[dict[str, dict[str, Any]]] = {
        "recall": {"loss_function": matrix_metrics.recall_k, "minimize": False, "k": DEFAULT_CUTOFF},
        "ndcg": {"loss_function": matrix_metrics.ndcg_k, "minimize": False, "k": DEFAULT_CUTOFF},
        "precision": {"loss_function": matrix_metrics.precision_k, "minimize": False, "k": DEFAULT_CUTOFF},
        "mrr": {"loss_function": matrix_metrics.mrr_k, "minimize": False, "k": DEFAULT_CUTOFF},
        "bpr": {"loss_function": matrix_metrics.bpr_loss, "minimize": True},
        "warp": {"loss_function": matrix_metrics.warp_loss, "minimize": True},
    }

    def __init__(
        self,
        loss_function: Callable[..., float],
        minimize: bool = False,
        stop_early: bool = False,
        max_iter_no_change: int = 5,
        min_improvement: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.loss_function = loss_function
        self.minimize = minimize
        self.stop_early = stop_early
        self.kwargs = kwargs
        direction = LOSSES[0] if minimize else "recall"
        self._stopping = EarlyStopping(StoppingRule(direction, max_iter_no_change, min_improvement))

    @classmethod
    def create(cls, criterion_name: str, **kwargs: Any) -> StoppingCriterion:
        """Make the criterion of that name; keyword arguments override its own.

        Raises
        ------
        ParameterError
            When the name is not one of `FUNCTIONS`.
        """
        if criterion_name not in cls.FUNCTIONS:
            raise ParameterError(unknown_name(criterion_name, cls.FUNCTIONS, "stopping criterion"))
        return cls(**{**cls.FUNCTIONS[criterion_name], **kwargs})

    @classmethod
    def from_rule(cls, rule: StoppingRule) -> StoppingCriterion:
        """Make the criterion that computes the metric of a rule."""
        if rule.minimize:
            return cls.create(rule.metric)
        name, k = parse_metric(rule.metric)
        return cls.create(name, k=k)

    @property
    def best_value(self) -> float:
        """The best value so far."""
        return self._stopping.best_value

    def evaluate(self, X_true: sparse.csr_matrix, X_pred: sparse.csr_matrix) -> float:  # noqa: N803
        """Return the value for these matrices, without recording it."""
        return self.loss_function(X_true, X_pred, **self.kwargs)

    def update(self, X_true: sparse.csr_matrix, X_pred: sparse.csr_matrix) -> bool:  # noqa: N803
        """Record the value for these matrices; True when it is the best so far.

        Raises
        ------
        EarlyStoppingException
            When `stop_early` is set and patience has run out.
        """
        better = self._stopping.update(self.evaluate(X_true, X_pred))
        if self.stop_early and self._stopping.exhausted:
            raise EarlyStoppingException(
                f"no improvement in the last {self._stopping.rule.max_iter_no_change} updates; best: {self.best_value}"
            )
        return better
