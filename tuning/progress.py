"""What is known of a search while it runs: each trial's record, and the totals that a person wants to see."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tuning.journal import RUNNING


@dataclass
class TrialRecord:
    """One trial.

    Parameters
    ----------
    number : int
        From 0, in the order of the searcher's suggestions.
    seed : int
    hyperparameters : dict
        Those that the search space set; the others have their defaults.
    state : str
        How it ended, or 'running'.
    epochs : int
        Epochs trained.
    best_epoch : int
        0 when there is none.
    metrics : dict of str to float
        At the best epoch.
    validated_on : {'all', 'sample'}
        The validation sessions that the metrics are of. An epoch measured on all goes before one measured on a sample.
    costs : dict of str to float
        Those among the search's objectives.
    seconds : float
        Training and validation.
    error : str
    """

    number: int
    seed: int
    hyperparameters: dict[str, Any]
    state: str = RUNNING
    epochs: int = 0
    best_epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    validated_on: str = "sample"
    costs: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""

    def quality(self, metric: str) -> tuple[bool, float]:
        """Return what trials are ordered by: whether measured on all validation sessions, and the best value."""
        return self.validated_on == "all", self.metrics.get(metric, -math.inf)


@dataclass(frozen=True)
class Progress:
    """A search at one moment.

    Parameters
    ----------
    trials : int
        Trials that the search will have.
    states : dict of str to int
        Trials so far by state.
    epochs : int
        Epochs trained so far, over all trials.
    best : TrialRecord, optional
    elapsed_s : float
    left_s : float, optional
        Estimate from the trials done so far; None before the first.
    checkpoint_bytes : int
        What the checkpoints of the running trials take.
    """

    trials: int
    states: dict[str, int]
    epochs: int
    best: TrialRecord | None
    elapsed_s: float
    left_s: float | None
    checkpoint_bytes: int = 0


def best_record(records: list[TrialRecord], metric: str) -> TrialRecord | None:
    """Return the trial with the best epoch, the earliest of equals."""
    measured = [record for record in records if metric in record.metrics]
    return max(measured, key=lambda record: (*record.quality(metric), -record.number), default=None)
