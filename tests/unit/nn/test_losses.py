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

BPR_MAX = [
    {"loss_fn": "bpr-max", "bpreg": bpreg, "elu_param": elu_param}
    for bpreg in (0.0, 0.7)
    for elu_param in (0.0, 0.5, 1.0)
]
LOSSES = [{"loss_fn": name} for name in ("cross-entropy", "top1", "top1-max", "bpr")] + BPR_MAX


def make(parameters):
    return make_loss(HyperParameters(**parameters))


def make_candidates(positives, counts):
    """Return candidates from the column of each row's target and how often each column is a negative of each row."""
    positives = torch.as_tensor(positives).unsqueeze(1)
    own = counts.gather(1, positives)
    # The target's own place holds nonsense: own_weights take its place.
    return Candidates(positives, counts.scatter(1, positives, 99.0), own, torch.ones_like(own))


def once_each(positives, scores):
    """Return candidates of which all but the targets are negatives, once each."""
    return make_candidates(positives, torch.ones_like(scores).scatter(1, torch.as_tensor(positives).unsqueeze(1), 0.0))


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
    loss, _ = make(parameters)(scores, once_each([1], scores))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@st.composite
def problems(draw):
    """Draw scores, the column of each row's target, and how often each column is a negative of each row."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(2, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scores = torch.randn(rows, columns, dtype=torch.float64, generator=generator) * draw(
        st.sampled_from([0.1, 1.0, 4.0])
    )
    positives = torch.randint(0, columns, (rows,), generator=generator)
    counts = torch.randint(0, 4, (rows, columns), generator=generator).double()
    counts[torch.arange(rows), (positives + 1) % columns] += 1.0  # each row has a negative
    return scores, positives, counts


def row_by_row(row_loss, parameters, scores, positives, counts):
    """Return loss and gradient by autograd over the lists of scores, in which each negative stands `counts` times."""
    scores = scores.clone().requires_grad_()
    hyperparameters = HyperParameters(**parameters)
    loss = sum(
        row_loss(
            hyperparameters.loss_fn,
            scores[row, positive],
            scores[row].repeat_interleave(counts[row].long()),
            hyperparameters.bpreg,
            hyperparameters.elu_param,
        )
        for row, positive in enumerate(positives.tolist())
    )
    return loss.detach(), torch.autograd.grad(loss, scores)[0]


@pytest.mark.parametrize("parameters", LOSSES, ids=str)
@settings(max_examples=25, deadline=None)
@given(problem=problems())
def test_value_and_gradient_equal_autograd_over_repeated_negatives(row_loss, parameters, problem):
    scores, positives, counts = problem
    expected = row_by_row(row_loss, parameters, *problem)
    actual = make(parameters)(scores.clone(), make_candidates(positives, counts))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("parameters", LOSSES, ids=str)
def test_one_row_of_weights_serves_all_rows(parameters):
    scores = torch.tensor([[0.5, 1.0, -0.5], [0.1, -0.2, 0.3]], dtype=torch.float64)
    positives, own = torch.tensor([[1], [2]]), torch.tensor([[2.0], [0.0]], dtype=torch.float64)
    counts, ones = torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.float64), torch.ones_like(own)
    shared = make(parameters)(scores.clone(), Candidates(positives, counts, own, ones))
    by_row = make(parameters)(scores.clone(), Candidates(positives, counts.repeat(2, 1), own, ones))
    torch.testing.assert_close(shared, by_row)


@pytest.mark.parametrize("parameters", LOSSES, ids=str)
def test_no_weights_mean_once_each(parameters):
    scores = torch.tensor([[0.5, 1.0, -0.5], [0.1, -0.2, 0.3]], dtype=torch.float64)
    candidates = once_each([1, 2], scores)
    plain = make(parameters)(scores.clone(), candidates._replace(weights=None))
    torch.testing.assert_close(plain, make(parameters)(scores.clone(), candidates))


@pytest.mark.parametrize("share", [0.2, 3.0])
def test_cross_entropy_of_a_weighted_positive_by_hand(share):
    """The logQ correction weighs the positive too; its column holds it and its repetitions as a negative."""
    scores = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
    weights, own, positive = (torch.tensor([numbers], dtype=torch.float64) for numbers in ([0.0, 4.0], [2.0], [share]))
    candidates = Candidates(torch.tensor([[0]]), weights, own, positive)
    loss, gradient = make({"loss_fn": "cross-entropy"})(scores, candidates)
    own, other = math.exp(0.5), 4 * math.exp(1.0)
    total = (share + 2) * own + other
    assert loss.item() == pytest.approx(-math.log(share * own / total), rel=1e-6)
    assert gradient[0].tolist() == pytest.approx([(share + 2) * own / total - 1, other / total], rel=1e-6)


@pytest.mark.parametrize("parameters", LOSSES, ids=str)
def test_row_without_negatives_loses_nothing(parameters):
    scores = torch.tensor([[0.5, 1.0, 0.5], [0.1, -0.2, 0.3]])
    counts = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    loss, gradient = make(parameters)(scores.clone(), make_candidates([1, 1], counts))
    alone, _ = make(parameters)(scores[1:].clone(), make_candidates([1], counts[1:]))
    assert gradient[0].tolist() == [0.0, 0.0, 0.0]
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)


@pytest.mark.parametrize("parameters", LOSSES, ids=str)
def test_large_scores_stay_finite(parameters):
    scores = torch.tensor([[90.0, -90.0, 0.0], [-90.0, 90.0, 0.0]])
    loss, gradient = make(parameters)(scores, once_each([0, 0], scores))
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("elu_param", [0.0, 0.5])
def test_bpr_max_of_a_target_far_below_its_negatives_has_a_logarithm(elu_param):
    """In single precision sigmoid(-400) is 0, and its logarithm would be infinite."""
    scores = torch.tensor([[-200.0, 200.0, 200.0]])
    loss, gradient = make({"loss_fn": "bpr-max", "bpreg": 0.0, "elu_param": elu_param})(scores, once_each([0], scores))
    assert 50 < loss.item() <= 400
    assert gradient.isfinite().all()


def test_losses_are_summed_not_averaged():
    scores = torch.tensor([[1.0, 0.0, 2.0]]).repeat(3, 1)
    loss, _ = make({"loss_fn": "cross-entropy"})(scores, once_each([0, 0, 0], scores))
    assert loss.item() == pytest.approx(3 * (math.log(math.e + 1 + math.e**2) - 1), rel=1e-6)


def test_unknown_loss_is_refused():
    hyperparameters = HyperParameters()
    object.__setattr__(hyperparameters, "loss_fn", "bpr_max")
    with pytest.raises(ParameterError, match="unknown loss 'bpr_max'; did you mean 'bpr-max'"):
        make_loss(hyperparameters)
