"""The loop over epochs, driven with written-out validation values: which epoch is kept, and when it stops."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.errors import DivergedError, ParameterError
from gru4rec.fitting import fit_trainer, run_epoch
from gru4rec.hyperparameters import HyperParameters
from gru4rec.stopping import StoppingRule
from gru4rec.training import EpochResult, Trainer

VALIDATION = object()  # the scripted trainers only look whether there is one
VALUES = st.lists(st.integers(0, 4).map(lambda n: n / 4), min_size=1, max_size=9)


class ScriptedTrainer:
    """A trainer whose n-th epoch validates to values[n - 1] and whose only weight is the number of the epoch."""

    def __init__(self, values):
        self.values = values
        self.epoch = 0
        self.network = SimpleNamespace(weights={"weight": torch.zeros(1)})
        self.asked = []

    @property
    def weight(self):
        return self.network.weights["weight"].item()

    def train_epoch(self):
        self.epoch += 1
        self.network.weights["weight"].fill_(self.epoch)
        return EpochResult(self.epoch, loss=1 / self.epoch, num_targets=30, seconds=0.5)

    def validate(self, validation, metrics):
        self.asked.append(list(metrics))
        return dict.fromkeys(metrics, self.values[self.epoch - 1])


def first_place_of_maximum(values):
    """The epoch, from 1, that first reaches the highest value."""
    return values.index(max(values)) + 1


def epochs_until(values, patience):
    """How many epochs run until `patience` in a row have brought nothing better, or all have run."""
    done = (n for n in range(1, len(values) + 1) if n - first_place_of_maximum(values[:n]) >= patience)
    return next(done, len(values))


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_the_first_best_epoch_is_kept(values):
    trainer = ScriptedTrainer(values)
    result = fit_trainer(trainer, len(values), VALIDATION)
    assert result.best_epoch == trainer.weight == first_place_of_maximum(values)
    assert [record["epoch"] for record in result.epochs] == list(range(1, len(values) + 1))
    assert not result.stopped_early


@settings(max_examples=200, deadline=None)
@given(VALUES, st.integers(1, 4))
def test_early_stopping_waits_for_the_patience(values, patience):
    trainer = ScriptedTrainer(values)
    criterion = StoppingRule(max_iter_no_change=patience)
    result = fit_trainer(trainer, len(values), VALIDATION, criterion=criterion, stop_early=True)
    epochs = epochs_until(values, patience)
    assert len(result.epochs) == epochs
    assert result.best_epoch == trainer.weight == first_place_of_maximum(values[:epochs])
    assert result.stopped_early == (epochs < len(values))


@pytest.mark.parametrize(("stop_early", "num_epochs"), [(False, 4), (True, 3)])
def test_keep_last_keeps_the_last_epoch_that_ran(stop_early, num_epochs):
    trainer = ScriptedTrainer([0.9, 0.1, 0.2, 0.3])
    criterion = StoppingRule(max_iter_no_change=2)
    result = fit_trainer(trainer, 4, VALIDATION, criterion=criterion, stop_early=stop_early, keep_last=True)
    assert (len(result.epochs), result.best_epoch, trainer.weight) == (num_epochs, num_epochs, num_epochs)


def test_without_validation_the_last_epoch_is_kept_and_nothing_is_ranked():
    trainer = ScriptedTrainer([])
    result = fit_trainer(trainer, 3)
    assert (result.best_epoch, trainer.weight, trainer.asked) == (3, 3, [])


def test_an_improvement_below_the_minimum_does_not_count():
    trainer = ScriptedTrainer([0.50, 0.55, 0.61, 0.70])
    result = fit_trainer(trainer, 4, VALIDATION, criterion=StoppingRule(min_improvement=0.1))
    assert result.best_epoch == trainer.weight == 3


def test_the_criterion_comes_first_and_each_metric_is_asked_once():
    trainer = ScriptedTrainer([0.5])
    fit_trainer(trainer, 1, VALIDATION, criterion=StoppingRule("mrr@10"), metrics=["recall@20", "mrr@10"])
    assert trainer.asked == [["mrr@10", "recall@20"]]


def test_other_metrics_do_not_decide():
    class Opposed(ScriptedTrainer):
        def validate(self, validation, metrics):
            return {"mrr@10": self.values[self.epoch - 1], "recall@20": -self.values[self.epoch - 1]}

    criterion = StoppingRule("mrr@10")
    assert (
        fit_trainer(Opposed([0.3, 0.5, 0.1]), 3, VALIDATION, criterion=criterion, metrics=["recall@20"]).best_epoch == 2
    )


def test_each_record_is_shown_when_its_epoch_ends():
    trainer, shown = ScriptedTrainer([0.5, 0.25]), []
    result = fit_trainer(trainer, 2, VALIDATION, on_epoch=lambda record: shown.append((trainer.epoch, record)))
    assert shown == list(enumerate(result.epochs, start=1))
    assert result.epochs[1] == {
        "epoch": 2,
        "loss": 0.5,
        "num_targets": 30,
        "seconds": 0.5,
        "events_per_second": 60.0,
        "recall@50": 0.25,
    }


def test_an_epoch_without_validation_has_no_metrics():
    assert run_epoch(ScriptedTrainer([]), None, ["mrr@20"]).keys() == {
        "epoch",
        "loss",
        "num_targets",
        "seconds",
        "events_per_second",
    }


def test_an_epoch_that_takes_no_time_has_a_finite_speed(monkeypatch):
    trainer = ScriptedTrainer([])
    monkeypatch.setattr(trainer, "train_epoch", lambda: EpochResult(1, 0.5, 30, 0.0))
    assert 0 < run_epoch(trainer, None, [])["events_per_second"] < float("inf")


@pytest.mark.parametrize("max_epochs", [0, -1])
def test_at_least_one_epoch(max_epochs):
    trainer = ScriptedTrainer([])
    with pytest.raises(ParameterError, match=f"^max_epochs must be a whole number >= 1, got {max_epochs}$"):
        fit_trainer(trainer, max_epochs)
    assert trainer.epoch == 0


def test_early_stopping_needs_validation():
    trainer = ScriptedTrainer([])
    with pytest.raises(ParameterError, match=r"^stop_early=True needs validation data$"):
        fit_trainer(trainer, 3, stop_early=True)
    assert trainer.epoch == 0


def test_divergence_is_not_hidden():
    class Diverging(ScriptedTrainer):
        def train_epoch(self):
            raise DivergedError("loss became nan")

    with pytest.raises(DivergedError, match="loss became nan"):
        fit_trainer(Diverging([]), 3)


# --- a real trainer --------------------------------------------------------------------------------------------------


@pytest.fixture
def make_trainer(make_sessions):
    sessions = make_sessions([[0, 1, 2, 0], [3, 1], [2, 2, 1, 0], [1, 3, 0]])
    hyperparameters = HyperParameters(hidden_size=4, num_components=3, batch_size=2, num_negatives=3, momentum=0.5)
    return lambda: Trainer(hyperparameters, sessions, seed=3)


def assert_same_state(found, expected):
    assert found["epoch"] == expected["epoch"]
    for part in ("weights", "optimizer", "generators"):
        assert found[part].keys() == expected[part].keys()
        assert all(torch.equal(found[part][name], expected[part][name]) for name in found[part])


@pytest.mark.parametrize("values", [[0.1, 0.5, 0.3, 0.5], [0.5, 0.3, 0.2], [0.1, 0.2, 0.3]], ids=str)
def test_the_trainer_has_the_weights_of_its_best_epoch(make_trainer, monkeypatch, values):
    trainer, shorter = make_trainer(), make_trainer()
    monkeypatch.setattr(trainer, "validate", lambda validation, metrics: {"recall@50": values[trainer.epoch - 1]})
    fit_trainer(trainer, len(values), VALIDATION)
    for _ in range(first_place_of_maximum(values)):
        shorter.train_epoch()
    assert trainer.epoch == shorter.epoch
    torch.testing.assert_close(trainer.network.weights, shorter.network.weights, rtol=0, atol=0)


def test_validation_does_not_change_the_training(make_trainer, make_sessions):
    with_validation, without = make_trainer(), make_trainer()
    validation = make_sessions([[0, 1, 2, 3], [3, 2]])
    fit_trainer(with_validation, 3, validation, keep_last=True)
    fit_trainer(without, 3)
    assert_same_state(with_validation.state_dict(), without.state_dict())
