"""Losses in closed form: each returns the loss and the gradient of the scores, without autograd.

Notation: a row has scores s over C candidates, one of them the positive i, the others negatives j; N is the number of
negatives of the row; w = softmax of s over the negatives. Sources: TOP1 and BPR, Hidasi et al. (ICLR 2016), section
3.1.3; TOP1-max and BPR-max, Hidasi & Karatzoglou (CIKM 2018), section 3.3.

- cross-entropy: -log softmax(s)_i
- top1:     mean_j [ sigmoid(s_j - s_i) + sigmoid(s_j^2) ]
- bpr:      mean_j [ -log sigmoid(s_i - s_j) ]
- top1-max: sum_j w_j [ sigmoid(s_j - s_i) + sigmoid(s_j^2) ]
- bpr-max:  -log sum_j w_j sigmoid(s_i - s_j) + bpreg * sum_j w_j s_j^2, where s is ELU(score, elu_param)

A drawn negative that is the row's own target is excluded: it counts neither as positive nor as negative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gru4rec.errors import ParameterError, unknown_name
from gru4rec.hyperparameters import SAMPLED_LOSSES, HyperParameters

SMALLEST = 1e-24  # keeps logarithms finite where a probability underflows


class Candidates(NamedTuple):
    """Which candidate of each row is what.

    Parameters
    ----------
    positives : Tensor of int64, shape (rows,)
        Column of each row's target.
    excluded : tuple of two Tensors of int64, shape (count,)
        Rows and columns of candidates that are the row's target a second time.
    """

    positives: Tensor
    excluded: tuple[Tensor, Tensor]


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
    rows, positives = _rows(scores), candidates.positives
    scores[candidates.excluded] = -torch.inf
    gradient = torch.softmax(scores, dim=1)
    loss = -gradient[rows, positives].clamp_min(SMALLEST).log().sum()
    gradient[rows, positives] -= 1.0
    return loss, gradient


def top1(scores: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """TOP1: relative rank of the target, and negatives drawn towards a score of zero."""
    weights = _uniform_weights(scores, candidates)
    return _weighted_top1(scores, candidates, weights)[1:]


def top1_max(scores: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """TOP1 whose negatives count by their softmax weight."""
    weights = _softmax_over_negatives(scores, candidates)
    penalties, loss, gradient = _weighted_top1(scores, candidates, weights)
    # The weights depend on the scores too: d w_k / d s_j = w_k (1[k = j] - w_j).
    mean = (weights * penalties).sum(1, keepdim=True)
    return loss, gradient.addcmul_(weights, penalties.sub_(mean))


def _weighted_top1(scores: Tensor, candidates: Candidates, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the penalty of each candidate, the loss, and the gradient for constant weights."""
    rows, positives = _rows(scores), candidates.positives
    above = torch.sigmoid(scores - scores[rows, positives].unsqueeze(1))
    large = torch.sigmoid(scores * scores)
    slope_above = (above - above * above).mul_(weights)
    gradient = (large - large * large).mul_(scores).mul_(2.0).mul_(weights).add_(slope_above)
    gradient[rows, positives] = -slope_above.sum(1)
    penalties = above.add_(large)
    return penalties, (weights * penalties).sum(), gradient


def bpr(scores: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Bayesian personalised ranking, averaged over the negatives."""
    rows, positives = _rows(scores), candidates.positives
    weights = _uniform_weights(scores, candidates)
    excess = scores.sub_(scores[rows, positives].unsqueeze(1))  # s_j - s_i
    loss = (functional.softplus(excess) * weights).sum()
    gradient = torch.sigmoid(excess).mul_(weights)
    gradient[rows, positives] = -gradient.sum(1)
    return loss, gradient


def bpr_max(scores: Tensor, candidates: Candidates, bpreg: float, elu_param: float) -> tuple[Tensor, Tensor]:
    """BPR whose negatives count by their softmax weight, with a penalty on their squared scores."""
    rows, positives = _rows(scores), candidates.positives
    if elu_param:
        scores = functional.elu(scores, elu_param)
    weights = _softmax_over_negatives(scores, candidates)
    below = torch.sigmoid(scores[rows, positives].unsqueeze(1) - scores)  # sigmoid(s_i - s_j)
    weighted = weights * below
    won = weighted.sum(1, keepdim=True)  # (rows, 1) sum_j w_j sigmoid(s_i - s_j)
    won_squares = weighted.mul_(below).sum(1, keepdim=True)
    inverse = (won + SMALLEST).reciprocal()
    # d/ds_j = w_j [ (won - below^2) / won + bpreg (s_j (s_j + 2) - penalty) ]: direct and softmax terms together.
    gradient = weighted.mul_(-inverse).addcmul_(weights, won * inverse)
    losses = -(won + SMALLEST).log()  # (rows, 1)
    losses[_rows_without_negatives(scores, candidates)] = 0.0
    if bpreg:
        squares = weights * scores
        penalty = squares.mul_(scores).sum(1, keepdim=True)  # (rows, 1) sum_j w_j s_j^2
        gradient.addcmul_(weights, (scores + 2.0).mul_(scores).sub_(penalty), value=bpreg)
        losses.add_(penalty, alpha=bpreg)
    gradient[rows, positives] = ((won_squares - won) * inverse).squeeze(1)
    if elu_param:
        # ELU' is 1 above zero and ELU + elu_param below; comparing into floats is several times faster than where().
        slope = scores.clamp(max=0.0).add_(elu_param)
        if elu_param != 1.0:
            slope.add_(torch.gt(scores, 0.0).to(scores.dtype), alpha=1.0 - elu_param)
        gradient.mul_(slope)
    return losses.sum(), gradient


def _rows(scores: Tensor) -> Tensor:
    return torch.arange(len(scores), device=scores.device)


def _softmax_over_negatives(scores: Tensor, candidates: Candidates) -> Tensor:
    masked = scores.clone()
    masked[_rows(scores), candidates.positives] = -torch.inf
    masked[candidates.excluded] = -torch.inf
    weights = torch.softmax(masked, dim=1)
    weights[_rows_without_negatives(scores, candidates)] = 0.0
    return weights


def _rows_without_negatives(scores: Tensor, candidates: Candidates) -> Tensor:
    """Return the rows all of whose candidates but the positive are excluded."""
    rows, _ = candidates.excluded
    others = scores.shape[1] - 1
    if len(rows) < others:
        return rows.new_empty(0)
    return (torch.bincount(rows, minlength=len(scores)) == others).nonzero().squeeze(1)


def _uniform_weights(scores: Tensor, candidates: Candidates) -> Tensor:
    """Return 1 / N for each of a row's N negatives, 0 elsewhere."""
    weights = torch.ones_like(scores)
    weights[_rows(scores), candidates.positives] = 0.0
    weights[candidates.excluded] = 0.0
    return weights.div_(weights.sum(1, keepdim=True).clamp_min(1.0))
