"""The hand-written GRU, forward and, by autograd, backward: against torch.nn.GRUCell and against the paper's equations.

The reset gate acts after the recurrent product in torch's cell and before it in the paper's.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.nn.gru import GRUWeights, gru_backward, gru_forward

SIZE = 3
CASES = {
    "one step": ([3], [True, False, False]),
    "one row": ([1], [False]),
    "session starts inside the window": ([2, 2, 2], [False, True, True, False, False, True]),
    "lanes end": ([4, 4, 2, 1], [True] * 4 + [False] * 7),
    "two lanes end and one restarts": ([3, 1, 1], [False, False, True, False, True]),
}
RESETS = pytest.mark.parametrize("reset", ["after", "before"])


class Problem:
    """Random weights and a random window in double precision; there is one lane more than rows in the first step."""

    def __init__(self, rows_per_step, starts, *, reset="after", with_dropout=False, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape):
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        rows = sum(rows_per_step)
        self.rows_per_step = rows_per_step
        self.starts = torch.tensor(starts)
        self.recurrent = [randn(3 * SIZE, SIZE)] + ([randn(3 * SIZE)] if reset == "after" else [])
        self.products = randn(rows, 3 * SIZE)
        self.hidden = randn(rows_per_step[0] + 1, SIZE).tanh()
        self.dropout = torch.rand(rows, SIZE, generator=generator).gt(0.3).double() / 0.7 if with_dropout else None
        self.d_states = randn(rows, SIZE)

    @property
    def weights(self):
        return GRUWeights(*self.recurrent) if len(self.recurrent) == 2 else GRUWeights(*self.recurrent, None)

    def forward(self):
        hidden, products = self.hidden.clone(), self.products.clone()
        states, tape = gru_forward(self.weights, products, self.starts, hidden, self.rows_per_step, self.dropout)
        return states, hidden, tape

    def reference(self, gru_steps, products, *recurrent):
        window = (self.starts, self.hidden, self.rows_per_step, self.dropout)
        if len(recurrent) == 1:
            return reset_before_steps(recurrent[0], products, *window)
        # The identity as input weights hands the cell the products as they are.
        identity, nothing = torch.eye(3 * SIZE, dtype=torch.float64), torch.zeros(3 * SIZE, dtype=torch.float64)
        return gru_steps((identity, recurrent[0], nothing, recurrent[1]), products, *window)

    def check_forward(self, gru_steps):
        states, hidden, _ = self.forward()
        expected = self.reference(gru_steps, self.products, *self.recurrent)
        torch.testing.assert_close((states, hidden), expected, rtol=1e-12, atol=1e-13)

    def check_backward(self, gru_steps):
        leaves = [tensor.clone().requires_grad_() for tensor in (self.products, *self.recurrent)]
        states, _ = self.reference(gru_steps, *leaves)
        expected = torch.autograd.grad(states, leaves, self.d_states)
        d_products, d_weights = gru_backward(self.weights, self.forward()[2], self.d_states.clone())
        assert (d_weights.recurrent_bias is None) == (len(self.recurrent) == 1)
        actual = (d_products, *(value for value in vars(d_weights).values() if value is not None))
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def reset_before_steps(recurrent, products, starts, hidden, rows_per_step, dropout):
    """The cell of Hidasi et al. (ICLR 2016), row by row; returns the state after each row, and after the window."""
    w_r, w_z, w_n = recurrent.split(SIZE)
    lanes, states, row = list(hidden), [], 0
    for rows in rows_per_step:
        for lane in range(rows):
            h = torch.zeros_like(lanes[lane]) if starts[row] else lanes[lane]
            x_r, x_z, x_n = products[row].split(SIZE)
            r, z = torch.sigmoid(x_r + w_r @ h), torch.sigmoid(x_z + w_z @ h)
            n = torch.tanh(x_n + w_n @ (r * h))
            new = (1 - z) * n + z * h
            lanes[lane] = new if dropout is None else new * dropout[row]
            states.append(lanes[lane])
            row += 1
    return torch.stack(states), torch.stack(lanes)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("bias", "candidate"),
    [
        (None, lambda r: math.tanh(0.4 + 1.5 * (r * 0.8))),
        (0.7, lambda r: math.tanh(0.4 + r * (1.5 * 0.8 + 0.7))),
    ],
    ids=["reset before", "reset after"],
)
def test_one_unit_by_hand(bias, candidate):
    shift = 0.0 if bias is None else bias
    r, z = sigmoid(0.2 + 0.5 * 0.8 + shift), sigmoid(-0.3 - 1.0 * 0.8 + shift)
    weights = GRUWeights(
        torch.tensor([[0.5], [-1.0], [1.5]], dtype=torch.float64),
        None if bias is None else torch.full((3,), bias, dtype=torch.float64),
    )
    products = torch.tensor([[0.2, -0.3, 0.4]], dtype=torch.float64)
    hidden = torch.tensor([[0.8]], dtype=torch.float64)
    states, _ = gru_forward(weights, products, torch.tensor([False]), hidden, [1])
    assert states.item() == pytest.approx((1 - z) * candidate(r) + z * 0.8, rel=1e-12)


@RESETS
@pytest.mark.parametrize("with_dropout", [False, True])
@pytest.mark.parametrize(("rows_per_step", "starts"), CASES.values(), ids=CASES)
def test_forward_equals_the_reference(gru_steps, rows_per_step, starts, with_dropout, reset):
    Problem(rows_per_step, starts, reset=reset, with_dropout=with_dropout).check_forward(gru_steps)


@RESETS
@pytest.mark.parametrize("with_dropout", [False, True])
@pytest.mark.parametrize(("rows_per_step", "starts"), CASES.values(), ids=CASES)
def test_backward_equals_autograd(gru_steps, rows_per_step, starts, with_dropout, reset):
    Problem(rows_per_step, starts, reset=reset, with_dropout=with_dropout).check_backward(gru_steps)


@RESETS
@settings(max_examples=30, deadline=None)
@given(
    rows_per_step=st.lists(st.integers(1, 4), min_size=1, max_size=5).map(lambda rows: sorted(rows, reverse=True)),
    with_dropout=st.booleans(),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_any_window(gru_steps, reset, rows_per_step, with_dropout, seed, data):
    rows = sum(rows_per_step)
    starts = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    problem = Problem(rows_per_step, starts, reset=reset, with_dropout=with_dropout, seed=seed)
    problem.check_forward(gru_steps)
    problem.check_backward(gru_steps)


@RESETS
def test_state_of_lanes_without_rows_is_kept(reset):
    problem = Problem([3, 1], [False] * 4, reset=reset)
    states, hidden, _ = problem.forward()
    assert torch.equal(hidden[3], problem.hidden[3])
    assert torch.equal(hidden[1:3], states[1:3])
    assert torch.equal(hidden[0], states[3])


@RESETS
def test_start_forgets_the_state(reset):
    problem = Problem([2], [True, False], reset=reset)
    states, _, _ = problem.forward()
    problem.hidden = problem.hidden + 1.0
    moved, _, _ = problem.forward()
    assert torch.equal(moved[0], states[0])
    assert not torch.equal(moved[1], states[1])


@RESETS
def test_only_the_first_step_of_a_session_forgets_the_state(reset):
    """The mask of one step must not linger: the second step of a session knows of its first."""
    problem = Problem([2, 2], [True, True, False, False], reset=reset)
    states, _, _ = problem.forward()
    problem.products[:2] += 1.0
    moved, _, _ = problem.forward()
    assert not torch.isclose(moved[2:], states[2:], rtol=1e-6).any()


@RESETS
def test_no_gradient_flows_over_a_start(reset):
    problem = Problem([2, 2], [True, True, True, False], reset=reset)
    problem.d_states[:2] = 0.0  # only the second step is asked
    d_products, _ = gru_backward(problem.weights, problem.forward()[2], problem.d_states.clone())
    assert not d_products[0].any()
    assert d_products[1].any()


@RESETS
def test_inputs_are_left_alone(reset):
    problem = Problem([2, 1], [False, True, False], reset=reset, with_dropout=True)
    before = [tensor.clone() for tensor in (problem.starts, problem.dropout, *problem.recurrent)]
    gru_backward(problem.weights, problem.forward()[2], problem.d_states.clone())
    after = [problem.starts, problem.dropout, *problem.recurrent]
    assert all(map(torch.equal, before, after))
