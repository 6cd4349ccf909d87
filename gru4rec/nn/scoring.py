"""Score the candidates of a window and differentiate the loss: shared negatives, negatives per target, or all items.

N rows, H hidden size, C candidates of a row. The division by the full batch size, whatever rows are left when an
epoch's last sessions drain, is the published one: a mean over a shrinking batch would let gradients grow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gru4rec.data.negatives import NegativeSampler
from gru4rec.hyperparameters import HyperParameters
from gru4rec.nn.losses import Candidates, Loss, make_loss
from gru4rec.nn.network import Network


class ScoreGradients(NamedTuple):
    """The loss of a window and its gradient, up to the states.

    Parameters
    ----------
    loss : Tensor, scalar
        Summed over the rows.
    d_states : Tensor, shape (N, H)
    rows : Tensor of int64, shape (count,), or None
        Rows of the output table that `d_table` is about, with duplicates; None means all rows in order.
    d_table : Tensor, shape (count, H)
    d_bias : Tensor, shape (count,)
    """

    loss: Tensor
    d_states: Tensor
    rows: Tensor | None
    d_table: Tensor
    d_bias: Tensor


Scorer = Callable[[Network, Tensor, Tensor], ScoreGradients]
"""(network, states (N, H), targets (N,) of int64) -> loss and gradients."""


def make_scorer(hyperparameters: HyperParameters, item_counts: Tensor, negatives: NegativeSampler) -> Scorer:
    """Return the function that scores and differentiates, as the hyperparameters say."""
    loss = make_loss(hyperparameters)
    scale = 1.0 / (hyperparameters.batch_size * hyperparameters.bptt)
    if hyperparameters.num_negatives == "all":
        return lambda network, states, targets: score_all(network, states, targets, loss, scale)
    num_negatives = hyperparameters.num_negatives
    if hyperparameters.negatives == "per_target":
        return lambda network, states, targets: score_per_target(
            network, states, targets, negatives.draw(len(targets) * num_negatives), loss, scale
        )
    correction = None
    if hyperparameters.loss_fn == "cross-entropy" and hyperparameters.logq:
        correction = _logq_correction(hyperparameters, item_counts, num_negatives)
    mask_targets = hyperparameters.mask_targets
    return lambda network, states, targets: score_shared(
        network, states, targets, negatives.draw(num_negatives), loss, scale, correction, mask_targets
    )


class LogQCorrection(NamedTuple):
    """What the logQ correction takes off the score of each item, by the way it became a candidate.

    Parameters
    ----------
    as_target, as_drawn : Tensor of float64, shape (num_items,)
    own_target : bool
        Whether a row's own target is corrected too.
    """

    as_target: Tensor
    as_drawn: Tensor
    own_target: bool


def _logq_correction(
    hyperparameters: HyperParameters, item_counts: Tensor, num_negatives: int
) -> Callable[[int], LogQCorrection]:
    """Return the correction by the number of rows of the mini-batch.

    'published', as in the authors' code: the logarithm of an item's popularity for targets, of popularity **
    sample_alpha for drawn items (Bengio & Senecal, 2008, up to constants), the row's own target included.

    'refined' (Khrylchenko et al., RecSys 2025): the own target is certain to be a candidate, so it is not corrected; a
    negative is corrected by how often it is expected among the candidates of the mini-batch, as another row's target or
    drawn. The paper's loss is (1 - P) (log sum_j exp(s'_j) - s_i), where s' are corrected scores of the negatives and
    P, held constant, is the probability of the target i estimated with the same negatives. Its gradient is that of
    cross-entropy over s_i and s'_j, since (1 - P) softmax(s')_j = exp(s'_j) / (exp(s_i) + sum_k exp(s'_k)): so
    cross-entropy is what is computed.
    """
    strength, alpha = hyperparameters.logq, hyperparameters.sample_alpha
    counts = item_counts.double()
    if hyperparameters.logq_correction == "published":
        log_counts = counts.log().mul_(strength)
        published = LogQCorrection(log_counts, log_counts * alpha, own_target=True)
        return lambda _: published
    target_share, drawn_share = counts / counts.sum(), counts.pow(alpha) / counts.pow(alpha).sum()

    def refined(rows: int) -> LogQCorrection:
        expected = (target_share * (rows - 1)).add_(drawn_share, alpha=num_negatives)
        log_expected = expected.log_().mul_(strength)
        return LogQCorrection(log_expected, log_expected, own_target=False)

    return lru_cache(maxsize=1)(refined)


def score_shared(
    network: Network,
    states: Tensor,
    targets: Tensor,
    negatives: Tensor,
    loss: Loss,
    scale: float,
    correction: Callable[[int], LogQCorrection] | None,
    mask_targets: bool = True,
) -> ScoreGradients:
    """Score the targets of the window and the drawn negatives for every row; C = N + len(negatives)."""
    items = torch.cat([targets, negatives])  # (C,)
    table = network.output_table.index_select(0, items)  # (C, H)
    bias = network.item_bias.index_select(0, items)  # (C,)
    off = None
    if correction is not None:
        off = correction(len(targets))
        bias -= torch.cat([off.as_target[targets], off.as_drawn[negatives]])
    scores = torch.addmm(bias, states, table.T)  # (N, C)
    if off is not None and not off.own_target:
        scores.diagonal().add_(off.as_target[targets])
    positives = torch.arange(len(targets), device=targets.device)
    if mask_targets:
        repeated = targets.unsqueeze(1) == items  # (N, C) the own target, at its place and again
        repeated.fill_diagonal_(False)
        rows, columns = repeated.nonzero(as_tuple=True)
    else:
        rows = columns = targets.new_empty(0)
    value, d_scores = loss(scores, Candidates(positives, (rows, columns)))
    d_scores *= scale
    return ScoreGradients(value, d_scores @ table, items, d_scores.T @ states, d_scores.sum(0))


def score_per_target(
    network: Network, states: Tensor, targets: Tensor, negatives: Tensor, loss: Loss, scale: float
) -> ScoreGradients:
    """Score each row's target and its own share of `negatives`, row after row; C = 1 + negatives per row."""
    items = torch.cat([targets.unsqueeze(1), negatives.view(len(targets), -1)], dim=1)  # (N, C)
    table = network.output_table[items]  # (N, C, H)
    scores = torch.einsum("nch,nh->nc", table, states) + network.item_bias[items]
    rows, columns = (items[:, 1:] == targets.unsqueeze(1)).nonzero(as_tuple=True)
    value, d_scores = loss(scores, Candidates(torch.zeros_like(targets), (rows, columns + 1)))
    d_scores *= scale
    d_table = d_scores.unsqueeze(2) * states.unsqueeze(1)  # (N, C, H)
    d_states = torch.einsum("nc,nch->nh", d_scores, table)
    return ScoreGradients(value, d_states, items.flatten(), d_table.flatten(0, 1), d_scores.flatten())


def score_all(network: Network, states: Tensor, targets: Tensor, loss: Loss, scale: float) -> ScoreGradients:
    """Score every item for every row; C = num_items."""
    nothing = targets.new_empty(0)
    value, d_scores = loss(network.scores(states), Candidates(targets, (nothing, nothing)))
    d_scores *= scale
    return ScoreGradients(value, d_scores @ network.output_table, None, d_scores.T @ states, d_scores.sum(0))
