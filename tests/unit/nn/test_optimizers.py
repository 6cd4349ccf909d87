"""Adagrad and SGD against the same rules on plain floats, number by number and row by row."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.errors import ParameterError
from gru4rec.hyperparameters import HyperParameters
from gru4rec.nn.optimizers import SGD, Adagrad, make_optimizer

ALL_KINDS = pytest.mark.parametrize(
    ("kind", "momentum"), [(SGD, 0.0), (SGD, 0.9), (Adagrad, 0.0), (Adagrad, 0.3)], ids=lambda value: str(value)
)
RATE = 0.1


class NumberByNumber:
    """The update rules for one number at a time; a number that is not touched keeps its memory too."""

    def __init__(self, kind, momentum):
        self.kind, self.momentum = kind, momentum
        self.squares = defaultdict(float)
        self.velocity = defaultdict(float)

    def step(self, numbers, place, gradient):
        if self.kind is Adagrad:
            self.squares[place] += gradient**2
            gradient /= math.sqrt(self.squares[place] + 1e-6)  # the epsilon of the authors' code, inside the root
        self.velocity[place] = self.momentum * self.velocity[place] - RATE * gradient
        numbers[place[0]][place[1]] += self.velocity[place]


def randn(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def follow(kind, momentum, touched_rows):
    """Return the table after steps that touch these rows, by our optimizer and number by number."""
    table = randn(5, 3, seed=1)
    numbers = table.tolist()
    optimizer, reference = kind(RATE, momentum, 1e-6), NumberByNumber(kind, momentum)
    for step, rows in enumerate(touched_rows):
        gradient = randn(len(rows), 3, seed=step)
        for place, row in enumerate(rows):
            for column in range(3):
                reference.step(numbers, (row, column), gradient[place, column].item())
        optimizer.update_rows("table", table, torch.tensor(rows, dtype=torch.int64), gradient)
    return table, torch.tensor(numbers, dtype=torch.float64)


@ALL_KINDS
@settings(max_examples=20, deadline=None)
@given(touched_rows=st.lists(st.lists(st.integers(0, 4), max_size=5, unique=True), min_size=1, max_size=5))
def test_update_rows_equals_a_loop(kind, momentum, touched_rows):
    torch.testing.assert_close(*follow(kind, momentum, touched_rows), rtol=1e-12, atol=1e-14)


@ALL_KINDS
def test_rows_that_are_not_touched_do_not_move(kind, momentum):
    before = randn(5, 3, seed=1)
    after_one, _ = follow(kind, momentum, [[0, 3]])
    after_two, _ = follow(kind, momentum, [[0, 3], [4]])
    assert torch.equal(after_one[[1, 2, 4]], before[[1, 2, 4]])
    assert torch.equal(after_two[[0, 1, 2, 3]], after_one[[0, 1, 2, 3]])
    assert not torch.equal(after_two[4], after_one[4])


@ALL_KINDS
@pytest.mark.parametrize("shape", [(4, 3), (4,)])
def test_update_equals_update_of_all_rows(kind, momentum, shape):
    whole, by_rows = randn(*shape, seed=1), randn(*shape, seed=1)
    one, other = kind(RATE, momentum, 1e-6), kind(RATE, momentum, 1e-6)
    rows = torch.tensor([2, 0, 3, 1])
    for step in range(3):
        gradient = randn(*shape, seed=step)
        one.update("weight", whole, gradient.clone())
        other.update_rows("weight", by_rows, rows, gradient[rows])
    torch.testing.assert_close(by_rows, whole, rtol=1e-13, atol=1e-15)


@ALL_KINDS
def test_repeated_rows_without_gradient_change_nothing(kind, momentum):
    once, repeated = randn(5, 3, seed=1), randn(5, 3, seed=1)
    one, other = kind(RATE, momentum, 1e-6), kind(RATE, momentum, 1e-6)
    for step in range(3):
        gradient = randn(2, 3, seed=step)
        one.update_rows("table", once, torch.tensor([4, 2]), gradient.clone())
        padded = torch.cat([gradient, torch.zeros(2, 3, dtype=torch.float64)])[[0, 2, 1, 3]]
        is_first = torch.tensor([True, False, True, False])
        other.update_rows("table", repeated, torch.tensor([4, 4, 2, 4]), padded, is_first)
    torch.testing.assert_close(repeated, once, rtol=1e-12, atol=1e-14)


def test_adagrad_with_momentum_by_hand():
    optimizer, parameter = Adagrad(0.5, 0.25, 1e-6), torch.tensor([1.0], dtype=torch.float64)
    first = -0.5 * 3 / math.sqrt(9 + 1e-6)
    second = 0.25 * first - 0.5 * -4 / math.sqrt(9 + 16 + 1e-6)
    for gradient in (3.0, -4.0):
        optimizer.update("weight", parameter, torch.tensor([gradient], dtype=torch.float64))
    assert parameter.item() == pytest.approx(1 + first + second, rel=1e-12)


def test_parameters_have_their_own_memory():
    optimizer = Adagrad(RATE, 0.9, 1e-6)
    apart, beside = (torch.zeros(2, dtype=torch.float64) for _ in range(2))
    optimizer.update("first", apart, torch.ones(2, dtype=torch.float64))
    optimizer.update("second", beside, torch.ones(2, dtype=torch.float64))
    assert torch.equal(apart, beside)


@pytest.mark.parametrize(
    ("kind", "momentum", "kinds"),
    [(SGD, 0.0, []), (SGD, 0.9, ["velocity"]), (Adagrad, 0.0, ["squares"]), (Adagrad, 0.9, ["squares", "velocity"])],
)
def test_state_holds_only_what_is_needed(kind, momentum, kinds):
    optimizer = kind(RATE, momentum, 1e-6)
    optimizer.update("weight", torch.zeros(2), torch.ones(2))
    optimizer.update_rows("table", torch.zeros(3, 2), torch.tensor([1]), torch.ones(1, 2))
    shapes = {name: tuple(state.shape) for name, state in optimizer.state.items()}
    assert shapes == {
        f"{kind}.{name}": shape for kind in kinds for name, shape in (("weight", (2,)), ("table", (3, 2)))
    }


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adagrad", Adagrad)])
def test_make_optimizer(name, kind):
    optimizer = make_optimizer(
        HyperParameters(optimization_algorithm=name, learning_rate=0.2, momentum=0.4, epsilon=0.5)
    )
    assert type(optimizer) is kind
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.epsilon) == (0.2, 0.4, 0.5)


def test_unknown_optimizer_is_refused():
    hyperparameters = HyperParameters()
    object.__setattr__(hyperparameters, "optimization_algorithm", "adagrat")
    with pytest.raises(ParameterError, match="unknown optimization_algorithm 'adagrat'; did you mean 'adagrad'"):
        make_optimizer(hyperparameters)
