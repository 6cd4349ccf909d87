"""Closed-form losses against figures by hand and, for gradients, against autograd row by row."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.errors import ParameterError
from gru4rec.hyperparameters import HyperParameters
from gru4rec.nn.losses import Candidates, make_loss

NOTHING = (torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
BPR_MAX = [
    {"loss_fn": "bpr-max", "bpreg": bpreg, "elu_param": elu_param}
    for bpreg in (0.0, 0.7)
    for elu_param in (0.0, 0.5, 1.0)
]
LOSSES = [{"loss_fn": name} for name in ("cross-entropy", "top1", "top1-max", "bpr")] + BPR_MAX


def make(parameters):
    return make_loss(HyperParameters(**parameters))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


S_I, S_J, S_K = 0.8, 0.3, -0.5  # scores of the target and of two negatives
W_J, W_K = (math.exp(s) / (math.exp(S_J) + math.exp(S_K)) for s in (S_J, S_K))


def bpr_max_by_hand(bpreg, elu_param):
    s_k = elu_param * (math.exp(S_K) - 1) if elu_param else S_K
    w_j, w_k = (math.exp(s) / (math.exp(S_J) + math.exp(s_k)) for s in (S_J, s_k))
    won = w_j * sigmoid(S_I - S_J) + w_k * sigmoid(S_I - s_k)
    return -math.log(won) + bpreg * (w_j * S_J**2 + w_k * s_k**2)


J_WINS, K_WINS = sigmoid(S_J - S_I) + sigmoid(S_J**2), sigmoid(S_K - S_I) + sigmoid(S_K**2)
BY_HAND = [
    ({"loss_fn": "cross-entropy"}, math.log(math.exp(S_I) + math.exp(S_J) + math.exp(S_K)) - S_I),
    ({"loss_fn": "top1"}, (J_WINS + K_WINS) / 2),
    ({"loss_fn": "top1-max"}, W_J * J_WINS + W_K * K_WINS),
    ({"loss_fn": "bpr"}, -(math.log(sigmoid(S_I - S_J)) + math.log(sigmoid(S_I - S_K))) / 2),
    *((case, bpr_max_by_hand(case["bpreg"], case["elu_param"])) for case in BPR_MAX),
]


@pytest.mark.parametrize(("parameters", "expected"), BY_HAND, ids=str)
def test_one_row_by_hand(parameters, expected):
    scores = torch.tensor([[S_J, S_I, S_K]], dtype=torch.float64)
    loss, _ = make(parameters)(scores, Candidates(torch.tensor([1]), NOTHING))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@st.composite
def problems(draw):
    """Draw scores, the column of each row's target, and which other columns are excluded; each row keeps a negative."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(2, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scores = torch.randn(rows, columns, dtype=torch.float64, generator=generator) * draw(
        st.sampled_from([0.1, 1.0, 4.0])
    )
    positives = torch.tensor([draw(st.integers(0, columns - 1)) for _ in range(rows)])
    excluded = torch.zeros(rows, columns, dtype=torch.bool)
    for row in range(rows):
        others = [column for column in range(columns) if column != positives[row]]
        excluded[row, draw(st.lists(st.sampled_from(others), max_size=len(others) - 1, unique=True))] = True
    return scores, positives, excluded


def row_by_row(row_loss, parameters, scores, positives, excluded):
    """Return loss and gradient by autograd over the lists of scores that are left."""
    scores = scores.clone().requires_grad_()
    hyperparameters = HyperParameters(**parameters)
    loss = sum(
        row_loss(
            hyperparameters.loss_fn,
            scores[row, positive],
            scores[row, [c for c in range(scores.shape[1]) if c != positive and not excluded[row, c]]],
            hyperparameters.bpreg,
            hyperparameters.elu_param,
        )
        for row, positive in enumerate(positives.tolist())
    )
    return loss.detach(), torch.autograd.grad(loss, scores)[0]


@pytest.mark.parametrize("parameters", LOSSES, ids=str)
@settings(max_examples=25, deadline=None)
@given(problem=problems())
def test_value_and_gradient_equal_autograd_without_the_excluded(row_loss, parameters, problem):
    scores, positives, excluded = problem
    expected = row_by_row(row_loss, parameters, *problem)
    actual = make(parameters)(scores.clone(), Candidates(positives, excluded.nonzero(as_tuple=True)))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("parameters", LOSSES, ids=str)
def test_row_without_negatives_loses_nothing(parameters):
    excluded = (torch.tensor([0, 0]), torch.tensor([0, 2]))
    scores = torch.tensor([[0.5, 1.0, 0.5], [0.1, -0.2, 0.3]])
    loss, gradient = make(parameters)(scores.clone(), Candidates(torch.tensor([1, 1]), excluded))
    alone, _ = make(parameters)(scores[1:].clone(), Candidates(torch.tensor([1]), NOTHING))
    assert gradient[0].tolist() == [0.0, 0.0, 0.0]
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)


@pytest.mark.parametrize("parameters", LOSSES, ids=str)
def test_large_scores_stay_finite(parameters):
    scores = torch.tensor([[90.0, -90.0, 0.0], [-90.0, 90.0, 0.0]])
    loss, gradient = make(parameters)(scores, Candidates(torch.tensor([0, 0]), NOTHING))
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("elu_param", [0.0, 0.5])
def test_bpr_max_of_a_target_far_below_its_negatives_has_a_logarithm(elu_param):
    """In single precision sigmoid(-400) is 0, and its logarithm would be infinite."""
    scores = torch.tensor([[-200.0, 200.0, 200.0]])
    loss, gradient = make({"loss_fn": "bpr-max", "bpreg": 0.0, "elu_param": elu_param})(
        scores, Candidates(torch.tensor([0]), NOTHING)
    )
    assert 50 < loss.item() <= 400
    assert gradient.isfinite().all()


def test_losses_are_summed_not_averaged():
    scores = torch.tensor([[1.0, 0.0, 2.0]]).repeat(3, 1)
    candidates = Candidates(torch.tensor([0, 0, 0]), NOTHING)
    loss, _ = make({"loss_fn": "cross-entropy"})(scores, candidates)
    assert loss.item() == pytest.approx(3 * (math.log(math.e + 1 + math.e**2) - 1), rel=1e-6)


def test_unknown_loss_is_refused():
    hyperparameters = HyperParameters()
    object.__setattr__(hyperparameters, "loss_fn", "bpr_max")
    with pytest.raises(ParameterError, match="unknown loss 'bpr_max'; did you mean 'bpr-max'"):
        make_loss(hyperparameters)
