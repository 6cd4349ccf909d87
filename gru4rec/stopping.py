"""When to stop training: the criterion that names the metric, and early stopping by patience.

The one place of the rule: `fit`, every trial of a search and ASHA read the same `StoppingCriterion`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gru4rec.errors import ParameterError
from gru4rec.metrics import METRICS, parse_metric

DEFAULT_CUTOFF = 50


@dataclass(frozen=True)
class StoppingCriterion:
    """The validation metric to maximise, and how long to wait for it to improve.

    Parameters
    ----------
    metric : str
        A key such as 'recall@20', or a bare name, which means the cut-off 50 (recpack's default).
    max_iter_no_change : int
        Epochs in a row without improvement after which training stops.
    min_improvement : float
        A value counts as better only when it exceeds the best so far by more than this.

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
        parse_metric(self.metric)
        if type(self.max_iter_no_change) is not int or self.max_iter_no_change < 1:
            raise ParameterError(f"max_iter_no_change must be a whole number >= 1, got {self.max_iter_no_change!r}")
        number = isinstance(self.min_improvement, (int, float)) and math.isfinite(self.min_improvement)
        if not (number and self.min_improvement >= 0):
            raise ParameterError(f"min_improvement must be a number >= 0, got {self.min_improvement!r}")


class EarlyStopping:
    """Follows one training: which epoch was best, and whether patience has run out.

    >>> stopping = EarlyStopping(StoppingCriterion("recall@20", max_iter_no_change=2))
    >>> [stopping.update(value) for value in (0.1, 0.3, 0.3, 0.2)]
    [True, True, False, False]
    >>> stopping.best_epoch, stopping.best_value, stopping.exhausted
    (2, 0.3, True)
    """

    def __init__(self, criterion: StoppingCriterion) -> None:
        self.criterion = criterion
        self.epoch = 0
        self.best_epoch = 0
        self.best_value = -math.inf

    def update(self, value: float) -> bool:
        """Record the value of the next epoch; True when it is the best so far."""
        self.epoch += 1
        if value > self.best_value + self.criterion.min_improvement:
            self.best_epoch, self.best_value = self.epoch, value
            return True
        return False

    @property
    def exhausted(self) -> bool:
        """Whether `max_iter_no_change` epochs in a row brought no improvement."""
        return self.epoch - self.best_epoch >= self.criterion.max_iter_no_change

    def state_dict(self) -> dict[str, float]:
        """Return the progress so far, to go on from with `load_state_dict`."""
        return {"epoch": self.epoch, "best_epoch": self.best_epoch, "best_value": self.best_value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a saved progress."""
        self.epoch, self.best_epoch = int(state["epoch"]), int(state["best_epoch"])
        self.best_value = float(state["best_value"])
