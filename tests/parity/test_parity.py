"""The trainer against `reference.py`, mini-batch by mini-batch over whole epochs: the loss and every weight.

Both start from the same random weights, in double precision, and see the same drawn negatives.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from gru4rec.data.batching import lay_sessions
from gru4rec.hyperparameters import SAMPLED_LOSSES, HyperParameters
from gru4rec.nn.network import Network
from gru4rec.training import Trainer

# Eight items. Lengths differ, one session has no target, and a long one is left alone in the end.
SESSIONS = [[0, 1, 2, 0], [3, 1], [5, 7, 2, 1], [6], [4, 2, 6], [1, 5, 5], [0, 5, 3, 4, 7, 1, 2], [2, 5, 0, 5]]
ROWS = [3, 3, 3, 3, 3, 2, 1, 1, 1]  # of each mini-batch
# Central differences are off by some 1e-11; where gradients are small, a step divides that by the root of epsilon.
CLOSE = 1e-7
SETTINGS = {
    "hidden_size": 3,
    "num_components": 2,
    "batch_size": 3,
    "num_negatives": 4,
    "sample_alpha": 0.7,
    "logq": 0.0,
    "bpreg": 0.6,
    "learning_rate": 0.1,
    "epsilon": 1e-6,
    "clipnorm": None,
    "loss_fn": "cross-entropy",
}


class Recording:
    """What the trainer did: the negatives, the loss, and the weights after each mini-batch."""

    def __init__(self, sessions, epochs=1, **parameters):
        self.settings = HyperParameters(**{**SETTINGS, **parameters})
        self.negatives, self.losses, self.weights = [], [], []
        trainer = Trainer(self.settings, sessions, seed=3)
        generator = torch.Generator().manual_seed(4)
        weights = {
            name: 0.6 * torch.randn(weight.shape, dtype=torch.float64, generator=generator)
            for name, weight in trainer.network.weights.items()
        }
        self.first_weights = {name: weight.numpy().copy() for name, weight in weights.items()}
        trainer.network = Network(sessions.num_items, self.settings, weights)
        draw, update = trainer._negatives.draw, trainer._update

        def recorded_draw(count):
            self.negatives.append(draw(count).tolist())
            return torch.tensor(self.negatives[-1])

        def recorded_update(*arguments):
            loss = update(*arguments)
            self.losses.append(loss.item())
            self.weights.append({name: weight.numpy().copy() for name, weight in weights.items()})
            return loss

        trainer._negatives.draw, trainer._update = recorded_draw, recorded_update
        for _ in range(epochs):
            trainer.train_epoch()

    def follow(self, kind, epochs=1):
        """Yield how far the reference is off, mini-batch by mini-batch, in the loss or any weight."""
        model = kind(self.settings, SESSIONS, self.first_weights, iter(self.negatives).__next__)
        losses = (loss for _ in range(epochs) for loss in model.epoch())
        for expected, loss, weights in zip(losses, self.losses, self.weights, strict=True):
            errors = [np.abs(weights[name] - weight).max() for name, weight in model.weights.items()]
            yield float(np.max([abs(loss - expected), *errors]))  # unlike max(), this keeps a NaN


@pytest.fixture(scope="module")
def sessions(make_sessions):
    return make_sessions(SESSIONS)


def worst_error(sessions, kind, epochs=1, **parameters):
    """Return how far apart the trainer and the reference get over whole epochs."""
    errors = list(Recording(sessions, epochs, **parameters).follow(kind, epochs))
    assert len(errors) == len(ROWS) * epochs
    return np.max(errors)


def test_the_log_has_the_cases_that_matter(sessions):
    """Lanes start new sessions, then drain; a row meets its own target as another row's target and as a draw."""
    grid, recording = lay_sessions(sessions, 3), Recording(sessions)
    assert grid.lanes_per_step.tolist() == ROWS
    assert grid.starts[1:].any(axis=1).sum() >= 2
    targets = [grid.targets[step, :rows].tolist() for step, rows in enumerate(ROWS)]
    assert sum(len(set(row)) < len(row) for row in targets) >= 2
    assert sum(bool(set(row) & set(drawn)) for row, drawn in zip(targets, recording.negatives, strict=True)) >= 4


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
@pytest.mark.parametrize("loss_fn", SAMPLED_LOSSES)
def test_an_epoch(reference, sessions, loss_fn, embedding, num_layers, momentum):
    parameters = {"loss_fn": loss_fn, "embedding": embedding, "num_layers": num_layers, "momentum": momentum}
    assert worst_error(sessions, reference.GRU4Rec, **parameters) < CLOSE


@pytest.mark.parametrize(
    "parameters",
    [
        {"logq": 1.0},
        {"logq": 0.6, "sample_alpha": 0.0, "embedding": "tied"},
        {"logq": 1.0, "logq_correction": "refined"},
        {"logq": 0.6, "logq_correction": "refined", "embedding": "none", "momentum": 0.5},
        {"logq": 1.0, "logq_correction": "refined", "mask_targets": False},
        *({"loss_fn": loss_fn, "mask_targets": False} for loss_fn in SAMPLED_LOSSES),
        {"loss_fn": "bpr-max", "elu_param": 0.0, "bpreg": 0.0},
        {"loss_fn": "bpr-max", "elu_param": 1.0, "bpreg": 2.0, "embedding": "tied"},
        {"optimization_algorithm": "sgd"},
        {"optimization_algorithm": "sgd", "momentum": 0.5, "embedding": "none", "num_layers": 2},
        {"loss_fn": "bpr-max", "optimization_algorithm": "sgd", "momentum": 0.5, "embedding": "tied"},
    ],
    ids=str,
)
def test_other_settings(reference, sessions, parameters):
    assert worst_error(sessions, reference.GRU4Rec, **parameters) < CLOSE


@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
def test_a_second_epoch_goes_on_with_the_memory_of_the_optimizer_and_without_states(reference, sessions, embedding):
    parameters = {"loss_fn": "bpr-max", "embedding": embedding, "momentum": 0.5}
    assert worst_error(sessions, reference.GRU4Rec, epochs=2, **parameters) < CLOSE


# --- the comparison finds mistakes -----------------------------------------------------------------------------------


def mistake(first_bad, **parameters):
    """Mark a method as wrong: parity must fail, and just from the mini-batch `first_bad` on."""

    def mark(method):
        MISTAKES.append(pytest.param(method, first_bad, parameters, id=method.__name__))
        return method

    return mark


MISTAKES = []


@mistake(first_bad=ROWS.index(2))
def divisor__of_the_lanes_that_are_left(model, batch):
    return len(batch.targets)


@mistake(first_bad=1)
def hidden_of_new_session__left_by_the_one_before(model, lane):
    return lane.hidden


@mistake(first_bad=1)
def train__with_a_state_that_is_always_reset(model, lanes):
    for lane in lanes:
        lane.hidden = model.first_hidden()
    return model.right("train")(lanes)


@mistake(first_bad=0)
def row_loss__of_a_softmax_applied_twice(model, own, negatives):
    scores = np.concatenate([own, negatives], axis=1)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return model.right("row_loss")(shares[:, :1], shares[:, 1:])


@mistake(first_bad=0, loss_fn="bpr-max")
def row_loss__of_bpr_max_with_a_plain_sum_as_penalty(model, own, negatives):
    own, negatives = (np.where(x > 0, x, model.settings.elu_param * (np.exp(x) - 1)) for x in (own, negatives))
    weights = np.exp(negatives) / np.exp(negatives).sum(axis=1, keepdims=True)
    won = np.sum(weights / (1 + np.exp(negatives - own)), axis=1)
    return -np.log(won) + model.settings.bpreg * np.sum(negatives**2, axis=1)


@mistake(first_bad=0)
def loss__without_item_bias(model, weights, batch):
    return model.right("loss")({**weights, "item_bias": 0 * weights["item_bias"]}, batch)


@mistake(first_bad=0, logq=1.0)
def correction__without_the_exponent_of_the_draws(model, batch, column):
    item = (batch.targets + batch.negatives)[column]
    return float(np.log(model.popularity[item]))


@mistake(first_bad=0, logq=1.0, logq_correction="refined")
def correction__as_if_the_own_target_were_expected_again(model, batch, column):
    one_more = replace(batch, targets=[*batch.targets, 0])
    return model.right("correction")(one_more, column + (column >= len(batch.targets)))


@mistake(first_bad=0)
def update__by_an_accumulator_that_starts_at_a_tenth(model, name, rows, gradient):
    if not hasattr(model, "begun"):
        model.begun = set()
    if name not in model.begun:
        model.begun.add(name)
        model.squares[name] += 0.1
    model.right("update")(name, rows, gradient)


@mistake(first_bad=0)
def update__with_epsilon_outside_the_root(model, name, rows, gradient):
    model.squares[name][rows] += gradient[rows] ** 2
    model.weights[name][rows] -= 0.1 * gradient[rows] / (np.sqrt(model.squares[name][rows]) + model.settings.epsilon)


@mistake(first_bad=1, momentum=0.5)
def touched__rows_are_all_rows(model, name, batch):
    return list(range(len(model.weights[name])))


@mistake(first_bad=1, momentum=0.5)
def update__without_momentum(model, name, rows, gradient):
    model.velocity[name][:] = 0.0
    model.right("update")(name, rows, gradient)


@pytest.mark.parametrize(("method", "first_bad", "parameters"), MISTAKES)
def test_a_mistake_is_found(reference, sessions, method, first_bad, parameters):
    def right(model, name):
        return getattr(super(mistaken, model), name)

    name = method.__name__.split("__")[0]
    mistaken = type("Mistaken", (reference.GRU4Rec,), {name: method, "right": right})
    assert hasattr(reference.GRU4Rec, name)
    errors = list(Recording(sessions, **parameters).follow(mistaken))
    assert all(error < CLOSE for error in errors[:first_bad])
    assert all(error > 100 * CLOSE for error in errors[first_bad:])


def test_lanes_dropped_at_the_end_are_found(reference, sessions):
    """An epoch that ends with the first lane that is left without a session has too few mini-batches."""

    class Dropping(reference.GRU4Rec):
        def epoch(self):
            return islice(super().epoch(), ROWS.index(2))

    with pytest.raises(ValueError, match="is longer than argument 1"):
        list(Recording(sessions).follow(Dropping))
