"""Losses in closed form: each returns the loss and the gradient of the scores, without autograd.

Notation: a row has scores s over C candidates, one of them the positive i, the others negatives j; N is the number of
negatives of the row; w = softmax of s over the negatives. Sources: TOP1 and BPR, Hidasi et al. (ICLR 2016), section
3.1.3; TOP1-max and BPR-max, Hidasi & Karatzoglou (CIKM 2018), section 3.3.

- cross-entropy: -log softmax(s)_i
- top1:     mean_j [ sigmoid(s_j - s_i) + sigmoid(s_j^2) ]
- bpr:      mean_j [ -log sigmoid(s_i - s_j) ]
- top1-max: sum_j w_j [ sigmoid(s_j - s_i) + sigmoid(s_j^2) ]
- bpr-max:  -log sum_j w_j sigmoid(s_i - s_j) + bpreg * sum_j w_j s_j^2, where s is ELU(score, elu_param)

A candidate that is a negative several times has one column and a weight: it counts that often in each sum over j.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gru4rec.errors import ParameterError, unknown_name
from gru4rec.hyperparameters import SAMPLED_LOSSES, HyperParameters

LOG2_OF_E = math.log2(math.e)
SMALLEST = 1e-24  # keeps logarithms finite where a probability underflows
LOG_OF_ZERO = -1e30  # for the weight of a row's own column: finite, so that a softmax over nothing is no NaN


class Candidates(NamedTuple):
    """Which candidate of each row is what.

    Parameters
    ----------
    positives : Tensor of int64, shape (rows, 1)
        Column of each row's target.
    weights : Tensor, shape (1, C) or (rows, C), or None
        How often each candidate is a negative; 0 for never, None for once each.
    own_weights : Tensor, shape (rows, 1)
        The same of a row's target for that row, in place of what `weights` says: 0 where no negative may be the target.
    positive_weights : Tensor, shape (rows, 1)
        Weight of the target as the positive, for cross-entropy; 1 but for the logQ correction.
    """

    positives: Tensor
    weights: Tensor | None
    own_weights: Tensor
    positive_weights: Tensor


Loss = Callable[[Tensor, Candidates], tuple[Tensor, Tensor]]
"""(scores (rows, C), which may be overwritten; candidates) -> (loss summed over rows; gradient of the scores)."""


def make_loss(hyperparameters: HyperParameters) -> Loss:
    """Return the loss that the hyperparameters name."""
    if hyperparameters.loss_fn == "bpr-max":
        bpreg, elu_param = hyperparameters.bpreg, hyperparameters.elu_param
        return lambda scores, candidates: bpr_max(scores, candidates, bpreg, elu_param)
    losses: dict[str, Loss] = {"cross-entropy": cross_entropy, "top1": top1, "top1-max": top1_max, "bpr": bpr}
    if hyperparameters.loss_fn in losses:
        return losses[hyperparameters.loss_fn]
    raise ParameterError(unknown_name(hyperparameters.loss_fn, SAMPLED_LOSSES, "loss"))


def cross_entropy(scores: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy over the candidates."""
    positives, weights, own_weights, positive_weights = candidates
    column_weights = positive_weights + own_weights  # (rows, 1) of the target's column, in both its roles
    if weights is not None:
        own = scores.gather(1, positives).add_(column_weights.log())
        scores.add_(weights.log()).scatter_(1, positives, own)
    gradient = torch.softmax(scores, dim=1)
    share = gradient.gather(1, positives).mul_(positive_weights / column_weights)
    loss = -share.clamp_min_(SMALLEST).log_().sum()
    return loss, gradient.scatter_add_(1, positives, -torch.ones_like(share))


def top1(scores: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """TOP1: relative rank of the target, and negatives drawn towards a score of zero."""
    weights = _uniform_weights(scores, candidates)
    return _weighted_top1(scores, candidates.positives, weights)[1:]


def top1_max(scores: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """TOP1 whose negatives count by their softmax weight."""
    weights = _softmax_over_negatives(scores, candidates)
    penalties, loss, gradient = _weighted_top1(scores, candidates.positives, weights)
    # The weights depend on the scores too: d w_k / d s_j = w_k (1[k = j] - w_j).
    mean = (weights * penalties).sum(1, keepdim=True)
    return loss, gradient.addcmul_(weights, penalties.sub_(mean))


def _weighted_top1(scores: Tensor, positives: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the penalty of each candidate, the loss, and the gradient for constant weights."""
    above = torch.sigmoid(scores - scores.gather(1, positives))
    large = torch.sigmoid(scores * scores)
    slope_above = (above - above * above).mul_(weights)
    gradient = (large - large * large).mul_(scores).mul_(2.0).mul_(weights).add_(slope_above)
    gradient.scatter_add_(1, positives, -slope_above.sum(1, keepdim=True))
    penalties = above.add_(large)
    return penalties, (weights * penalties).sum(), gradient


def bpr(scores: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Bayesian personalised ranking, averaged over the negatives."""
    positives, weights = candidates.positives, _uniform_weights(scores, candidates)
    excess = scores.sub_(scores.gather(1, positives))  # s_j - s_i
    loss = (functional.softplus(excess) * weights).sum()
    gradient = torch.sigmoid(excess).mul_(weights)
    return loss, gradient.scatter_add_(1, positives, -gradient.sum(1, keepdim=True))


def bpr_max(scores: Tensor, candidates: Candidates, bpreg: float, elu_param: float) -> tuple[Tensor, Tensor]:
    """BPR whose negatives count by their softmax weight, with a penalty on their squared scores."""
    positives = candidates.positives
    if elu_param:
        scores = _elu_(scores, elu_param)
    weights = _softmax_over_negatives(scores, candidates)
    below = (scores.gather(1, positives) - scores).sigmoid_()  # sigmoid(s_i - s_j)
    won = torch.linalg.vecdot(weights, below).unsqueeze(1)  # (rows, 1) sum_j w_j sigmoid(s_i - s_j)
    squares = below.mul_(below)
    won_squares = torch.linalg.vecdot(weights, squares).unsqueeze(1)
    inverse = (won + SMALLEST).reciprocal()
    losses = -(won + SMALLEST).log()  # (rows, 1)
    losses.masked_fill_(_num_negatives(scores, candidates) <= 0.0, 0.0)
    # d/ds_j = w_j [ (won - below^2) / won + bpreg (s_j (s_j + 2) - penalty) ]: direct and softmax terms together.
    factor, constant = squares.mul_(-inverse), won * inverse
    if bpreg:
        penalties = scores * scores
        penalty = torch.linalg.vecdot(weights, penalties).unsqueeze(1)  # (rows, 1) sum_j w_j s_j^2
        factor.add_(penalties.add_(scores, alpha=2.0), alpha=bpreg)
        constant.sub_(penalty, alpha=bpreg)
        losses.add_(penalty, alpha=bpreg)
    gradient = factor.add_(constant).mul_(weights)
    gradient.scatter_add_(1, positives, (won_squares - won).mul_(inverse))
    if elu_param:
        gradient = torch.ops.aten.elu_backward(gradient, elu_param, 1.0, 1.0, True, scores)
    return losses.sum(), gradient


def _elu_(scores: Tensor, elu_param: float) -> Tensor:
    """Return max(s, 0) + elu_param * (exp(min(s, 0)) - 1); `scores` are overwritten.

    torch's exp2 is four times as fast on CPUs as its exp, expm1 and elu; what is lost near zero is below the rounding
    of the scores themselves.
    """
    below_zero = scores.clamp(max=0.0).mul_(LOG2_OF_E).exp2_().sub_(1.0)
    return scores.clamp_(min=0.0).add_(below_zero, alpha=elu_param)


def _softmax_over_negatives(scores: Tensor, candidates: Candidates) -> Tensor:
    positives, weights, own_weights, _ = candidates
    own = scores.gather(1, positives).add_(own_weights.log().clamp_min_(LOG_OF_ZERO))
    logits = (scores.clone() if weights is None else scores + weights.log()).scatter_(1, positives, own)
    softmax = torch.softmax(logits, dim=1)
    return softmax.scatter_(1, positives, softmax.gather(1, positives).mul_(own_weights > 0.0))


def _uniform_weights(scores: Tensor, candidates: Candidates) -> Tensor:
    """Return weight / N for each of a row's N negatives, 0 elsewhere."""
    positives, weights, own_weights, _ = candidates
    all_weights = torch.ones_like(scores) if weights is None else weights.expand_as(scores)
    return all_weights.scatter(1, positives, own_weights).div_(_num_negatives(scores, candidates).clamp_min(1.0))


def _num_negatives(scores: Tensor, candidates: Candidates) -> Tensor:
    """Return how many negatives each row has, shape (rows, 1)."""
    positives, weights, own_weights, _ = candidates
    if weights is None:
        return own_weights + (scores.shape[1] - 1)
    return weights.sum(1, keepdim=True) - weights.expand_as(scores).gather(1, positives) + own_weights
