"""The hand-written GRU against torch.nn.GRUCell, forward and, by autograd, backward."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.nn.gru import GRUWeights, gru_backward, gru_forward

SIZE, WIDTH = 3, 4
CASES = {
    "one step": ([3], [True, False, False]),
    "one row": ([1], [False]),
    "session starts inside the window": ([2, 2, 2], [False, True, True, False, False, True]),
    "lanes end": ([4, 4, 2, 1], [True] * 4 + [False] * 7),
    "two lanes end and one restarts": ([3, 1, 1], [False, False, True, False, True]),
}


class Problem:
    """Random weights and a random window in double precision; there is one lane more than rows in the first step."""

    def __init__(self, rows_per_step, starts, *, with_dropout=False, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape):
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        rows = sum(rows_per_step)
        self.rows_per_step = rows_per_step
        self.starts = torch.tensor(starts)
        self.weights = [randn(3 * SIZE, WIDTH), randn(3 * SIZE, SIZE), randn(3 * SIZE), randn(3 * SIZE)]
        self.inputs = randn(rows, WIDTH)
        self.hidden = randn(rows_per_step[0] + 1, SIZE).tanh()
        self.dropout = torch.rand(rows, SIZE, generator=generator).gt(0.3).double() / 0.7 if with_dropout else None
        self.d_states = randn(rows, SIZE)

    def forward(self):
        hidden = self.hidden.clone()
        weights = GRUWeights(*self.weights)
        states, tape = gru_forward(weights, self.inputs, self.starts, hidden, self.rows_per_step, self.dropout)
        return states, hidden, tape

    def check_forward(self, gru_steps):
        states, hidden, _ = self.forward()
        expected = gru_steps(self.weights, self.inputs, self.starts, self.hidden, self.rows_per_step, self.dropout)
        torch.testing.assert_close((states, hidden), expected, rtol=1e-12, atol=1e-13)

    def check_backward(self, gru_steps):
        leaves = [tensor.clone().requires_grad_() for tensor in (self.inputs, *self.weights)]
        inputs, *weights = leaves
        states, _ = gru_steps(weights, inputs, self.starts, self.hidden, self.rows_per_step, self.dropout)
        expected = torch.autograd.grad(states, leaves, self.d_states)
        d_inputs, d_weights = gru_backward(GRUWeights(*self.weights), self.forward()[2], self.d_states.clone())
        torch.testing.assert_close((d_inputs, *vars(d_weights).values()), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("with_dropout", [False, True])
@pytest.mark.parametrize(("rows_per_step", "starts"), CASES.values(), ids=CASES)
def test_forward_equals_gru_cell(gru_steps, rows_per_step, starts, with_dropout):
    Problem(rows_per_step, starts, with_dropout=with_dropout).check_forward(gru_steps)


@pytest.mark.parametrize("with_dropout", [False, True])
@pytest.mark.parametrize(("rows_per_step", "starts"), CASES.values(), ids=CASES)
def test_backward_equals_autograd(gru_steps, rows_per_step, starts, with_dropout):
    Problem(rows_per_step, starts, with_dropout=with_dropout).check_backward(gru_steps)


@settings(max_examples=40, deadline=None)
@given(
    rows_per_step=st.lists(st.integers(1, 4), min_size=1, max_size=5).map(lambda rows: sorted(rows, reverse=True)),
    with_dropout=st.booleans(),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_any_window(gru_steps, rows_per_step, with_dropout, seed, data):
    rows = sum(rows_per_step)
    starts = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    problem = Problem(rows_per_step, starts, with_dropout=with_dropout, seed=seed)
    problem.check_forward(gru_steps)
    problem.check_backward(gru_steps)


def test_state_of_lanes_without_rows_is_kept():
    problem = Problem([3, 1], [False] * 4)
    states, hidden, _ = problem.forward()
    assert torch.equal(hidden[3], problem.hidden[3])
    assert torch.equal(hidden[1:3], states[1:3])
    assert torch.equal(hidden[0], states[3])


def test_start_forgets_the_state():
    problem = Problem([2], [True, False])
    states, _, _ = problem.forward()
    problem.hidden = problem.hidden + 1.0
    moved, _, _ = problem.forward()
    assert torch.equal(moved[0], states[0])
    assert not torch.equal(moved[1], states[1])


def test_inputs_are_left_alone():
    problem = Problem([2, 1], [False, True, False], with_dropout=True)
    before = [tensor.clone() for tensor in (problem.inputs, problem.starts, problem.dropout, *problem.weights)]
    gru_backward(GRUWeights(*problem.weights), problem.forward()[2], problem.d_states.clone())
    after = [problem.inputs, problem.starts, problem.dropout, *problem.weights]
    assert all(map(torch.equal, before, after))
