"""What a search will cost, from a little training of a few of its configurations."""

from __future__ import annotations

import math
import os
import statistics
import time
from dataclasses import dataclass

from gru4rec.data.sessions import sample_sessions
from gru4rec.device import cpu_threads, resolve_device
from gru4rec.errors import DivergedError
from gru4rec.hyperparameters import HyperParameters
from gru4rec.training import Trainer
from tuning.space import RandomTrial
from tuning.spec import SearchSpec
from tuning.trainable import TrialTask

CONFIGURATIONS = 8
TARGETS = 10_000  # that each of them is trained and validated on
WARM_UP = 5  # mini-batches that are not timed


@dataclass(frozen=True)
class Cost:
    """The estimate. Seconds are those of this machine.

    Parameters
    ----------
    trials : int
    epochs, epochs_at_most : int
        Over all trials: what ASHA leaves of them when each rung lets one in `reduction_factor` pass, and without it.
    epoch_s : float
        Median over the tried configurations, with validation.
    epoch_s_from, epoch_s_to : float
        The fastest and the slowest of them.
    trials_at_once : int
        On this machine.
    search_s : float
        From beginning to end, on this machine; the winner's training comes on top.
    """

    trials: int
    epochs: int
    epochs_at_most: int
    epoch_s: float
    epoch_s_from: float
    epoch_s_to: float
    trials_at_once: int
    search_s: float

    def render(self) -> str:
        """Return the estimate as a sentence or two."""
        return (
            f"estimate: {self.trials} trials, about {self.epochs:,} epochs (at most {self.epochs_at_most:,}) of "
            f"{self.epoch_s:.1f} s ({self.epoch_s_from:.1f} to {self.epoch_s_to:.1f} s by configuration): "
            f"about {self.search_s / 60:.0f} minutes on this machine, {self.trials_at_once} trials at a time"
        )


def estimate_cost(spec: SearchSpec, task: TrialTask) -> Cost:
    """Time a few random configurations on a part of the logs, and extrapolate; those that diverge are left out."""
    space = spec.space.for_catalogue(task.train.num_items)
    samples = [HyperParameters.from_dict(space.suggest(RandomTrial(number))) for number in range(CONFIGURATIONS)]
    with cpu_threads(task.threads):
        found = [_epoch_seconds(hyperparameters, task) for hyperparameters in samples]
    seconds = sorted(value for value in found if math.isfinite(value)) or [math.nan]
    epochs = expected_epochs(spec)
    at_once = max(1, (os.cpu_count() or 1) // spec.cpus_per_trial)
    if spec.max_concurrent_trials != "auto":
        at_once = min(at_once, spec.max_concurrent_trials)
    at_once = min(at_once, spec.trials)
    epoch_s = statistics.median(seconds)
    search_s = min(epochs * statistics.fmean(seconds) / at_once, spec.time_budget_s or float("inf"))
    return Cost(spec.trials, epochs, spec.trials * spec.max_epochs, epoch_s, seconds[0], seconds[-1], at_once, search_s)


def expected_epochs(spec: SearchSpec) -> int:
    """Return the epochs of all trials when each rung lets one in `reduction_factor` of them pass.

    >>> from tuning.space import Space
    >>> expected_epochs(SearchSpec(Space(()), trials=27, max_epochs=10, grace_period=1))
    64
    """
    ends = [*spec.rungs, spec.max_epochs]
    begins = [0, *spec.rungs]
    stages = enumerate(zip(begins, ends, strict=True))
    epochs_per_trial = sum((end - begin) / float(spec.reduction_factor) ** passed for passed, (begin, end) in stages)
    epochs = round(spec.trials * epochs_per_trial)
    return min(epochs, spec.epoch_budget) if spec.epoch_budget is not None else epochs


def _epoch_seconds(hyperparameters: HyperParameters, task: TrialTask) -> float:
    """Return the seconds of an epoch with validation."""
    trainer = Trainer(hyperparameters, task.train, seed=0, device=resolve_device(task.device))
    share = min(1.0, TARGETS / task.validation.num_targets)
    validation = sample_sessions(task.validation, math.ceil(share * task.validation.num_sessions), seed=0)
    mini_batches = math.ceil(TARGETS / (hyperparameters.batch_size * hyperparameters.bptt))
    try:
        trainer.train_epoch(WARM_UP)
        trained = trainer.train_epoch(mini_batches)
        began = time.perf_counter()
        trainer.validate(validation, task.metrics)
        validated_s = time.perf_counter() - began
    except DivergedError:
        return math.nan
    return (
        trained.seconds * task.train.num_targets / trained.num_targets
        + validated_s * task.validation.num_targets / validation.num_targets
    )
