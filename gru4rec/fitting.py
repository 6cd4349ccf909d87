"""The loop over epochs that every training outside a search runs: train, validate, keep the best."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from gru4rec.data.sessions import Sessions
from gru4rec.errors import DataError, ParameterError
from gru4rec.hyperparameters import Integer
from gru4rec.stopping import EarlyStopping, StoppingRule
from gru4rec.training import Trainer

EpochRecord = dict[str, Any]
"""One epoch: the fields of `EpochResult`, `events_per_second`, and the validation metrics by key."""

Validation = Sessions | Callable[[Trainer], dict[str, float]]


@dataclass(frozen=True)
class FitResult:
    """How a training went.

    Parameters
    ----------
    epochs : list of EpochRecord
    best_epoch : int
        Whose weights the trainer holds now; the last one without validation or with `keep_last`.
    stopped_early : bool
    """

    epochs: list[EpochRecord]
    best_epoch: int
    stopped_early: bool


def align_validation(validation: Sessions, train: Sessions) -> Sessions:
    """Return the validation sessions over the vocabulary of the training log, those with two known events or more.

    Raises
    ------
    DataError
        When none is left.
    """
    known, unknown = validation.with_items_of(train.items)
    known = known.select_sessions(known.lengths >= 2)
    if known.num_sessions == 0:
        raise DataError(
            f"no validation session has two events that the training log knows the items of "
            f"({unknown:,} of {validation.num_events:,} events have unknown items)",
            "are both logs of the same shop, and are their item ids written alike?",
        )
    return known


def run_epoch(trainer: Trainer, validation: Validation | None, metrics: Iterable[str]) -> EpochRecord:
    """Train one epoch and validate: the same in `fit` and in a trial of a search."""
    result = trainer.train_epoch()
    record: EpochRecord = asdict(result) | {"events_per_second": result.num_targets / max(result.seconds, 1e-9)}
    if callable(validation):
        record |= validation(trainer)
    elif validation is not None:
        record |= trainer.validate(validation, metrics)
    return record


def fit_trainer(
    trainer: Trainer,
    max_epochs: int,
    validation: Validation | None = None,
    *,
    criterion: StoppingRule | None = None,
    stop_early: bool = False,
    keep_last: bool = False,
    metrics: Iterable[str] = (),
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> FitResult:
    """Train for at most `max_epochs` epochs; the trainer is left with the best weights, but not fit to go on from them.

    Parameters
    ----------
    validation : Sessions or callable, optional
        Sessions over the vocabulary of the training log, or a function that returns metrics by key. Without it the last
        weights are kept.
    criterion : StoppingRule, optional
        Which epoch is best, and how long to wait for a better one.
    stop_early : bool
        Stop when the criterion's patience has run out.
    keep_last : bool
        Keep the last weights, not the best.
    metrics : iterable of str
        More metrics to record, besides the criterion's.
    on_epoch : callable, optional
        Called with the record of each epoch.

    Raises
    ------
    ParameterError
        When `max_epochs` is less than 1, or stopping early lacks validation data.
    DivergedError
        When the loss becomes NaN or infinite.
    """
    if expected := Integer(1).problem(max_epochs):
        raise ParameterError(f"max_epochs must be {expected}, got {max_epochs!r}")
    if stop_early and validation is None:
        raise ParameterError("stop_early=True needs validation data")
    criterion = criterion or StoppingRule()
    stopping = EarlyStopping(criterion)
    wanted = list(dict.fromkeys([criterion.metric, *metrics]))
    epochs: list[EpochRecord] = []
    best: dict[str, Tensor] = {}
    best_epoch = 0
    for _ in range(max_epochs):
        record = run_epoch(trainer, validation, wanted)
        epochs.append(record)
        if on_epoch is not None:
            on_epoch(record)
        if validation is not None and stopping.update(record[criterion.metric]) and not keep_last:
            best_epoch = trainer.epoch
            best = _copied(trainer.network.weights, best)
        if stop_early and stopping.exhausted:
            break
    if best and best_epoch != trainer.epoch:
        _copied(best, trainer.network.weights)
        trainer.epoch = best_epoch
    return FitResult(epochs, trainer.epoch, len(epochs) < max_epochs)


def _copied(weights: dict[str, Tensor], into: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in the memory of `into`, or in new memory where it is empty."""
    return {name: into[name].copy_(weight) if name in into else weight.clone() for name, weight in weights.items()}
