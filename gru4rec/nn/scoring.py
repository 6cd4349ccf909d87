"""Score the candidates of a window and differentiate the loss: shared negatives, negatives per target, or all items.

N rows, H hidden size, C candidates of a row. The division by the full batch size, whatever rows are left when an
epoch's last sessions drain, is the published one: a mean over a shrinking batch would let gradients grow.
"""

from __future__ import annotations

from collections.abc import Callable
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
        log_popularity = item_counts.float().log().mul_(hyperparameters.logq)
        correction = (log_popularity, log_popularity * hyperparameters.sample_alpha)
    return lambda network, states, targets: score_shared(
        network, states, targets, negatives.draw(num_negatives), loss, scale, correction
    )


def score_shared(
    network: Network,
    states: Tensor,
    targets: Tensor,
    negatives: Tensor,
    loss: Loss,
    scale: float,
    correction: tuple[Tensor, Tensor] | None,
) -> ScoreGradients:
    """Score the targets of the window and the drawn negatives for every row; C = N + len(negatives).

    `correction` holds, per item, what the logQ correction takes off its score as a target and as a drawn negative:
    the logarithm of how often it turns up there (Bengio & Senecal, 2008), up to a constant.
    """
    items = torch.cat([targets, negatives])  # (C,)
    table = network.output_table.index_select(0, items)  # (C, H)
    bias = network.item_bias.index_select(0, items)  # (C,)
    if correction is not None:
        bias -= torch.cat([correction[0][targets], correction[1][negatives]])
    scores = torch.addmm(bias, states, table.T)  # (N, C)
    repeated = targets.unsqueeze(1) == items  # (N, C) the own target, at its place and drawn again
    repeated.fill_diagonal_(False)
    positives = torch.arange(len(targets), device=targets.device)
    rows, columns = repeated.nonzero(as_tuple=True)
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
