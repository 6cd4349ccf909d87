"""Score the candidates of a window and differentiate the loss: shared negatives, negatives per target, or all items.

N rows, H hidden size, C candidates of a row. The division by the full batch size, whatever rows are left when an
epoch's last sessions drain, is the published one: a mean over a shrinking batch would let gradients grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gru4rec.data.negatives import NegativeSampler
from gru4rec.hyperparameters import HyperParameters
from gru4rec.nn.distinct import Distinct, DistinctRows
from gru4rec.nn.losses import Candidates, Loss, make_loss
from gru4rec.nn.network import Network
from gru4rec.nn.picking import Picks, make_product
from gru4rec.nn.products import gather_columns, input_gradient, linear, weight_gradient


class ScoreGradients(NamedTuple):
    """The loss of a window and its gradient, up to the states.

    Parameters
    ----------
    loss : Tensor, scalar
        Summed over the rows.
    d_states : Tensor, shape (N, H)
    touched : Distinct or None
        Rows of the output table that `d_table` is about: the candidates, then inputs that are none. None means all
        rows in order.
    d_table : Tensor, shape (num_rows, H)
        Zero where a row is no candidate.
    d_bias : Tensor, shape (num_candidates,)
        Of the first rows of `touched`, the candidates.
    input_places : Tensor of int64, shape (N,)
        Row of `d_table` of each input.
    """

    loss: Tensor
    d_states: Tensor
    touched: Distinct | None
    d_table: Tensor
    d_bias: Tensor
    input_places: Tensor


Scorer = Callable[[Network, Tensor, Tensor, Tensor], ScoreGradients]
"""(network, states (N, H), targets (N,), inputs (N,) or (0,); both of int64) -> loss and gradients.

`inputs` are the input items where they have their rows in the output table too.
"""


def make_scorer(
    hyperparameters: HyperParameters, item_counts: Tensor, negatives: NegativeSampler, distinct: DistinctRows
) -> Scorer:
    """Return the function that scores and differentiates, as the hyperparameters say."""
    loss = make_loss(hyperparameters)
    scale = 1.0 / (hyperparameters.batch_size * hyperparameters.bptt)
    if hyperparameters.num_negatives == "all":
        return ScoreAll(loss, scale)
    num_negatives = hyperparameters.num_negatives
    if hyperparameters.negatives == "per_target":
        return ScorePerTarget(loss, scale, negatives, num_negatives, distinct)
    logq = None
    if hyperparameters.loss_fn == "cross-entropy" and hyperparameters.logq:
        logq = logq_weights(hyperparameters, item_counts, num_negatives)
    return ScoreShared(loss, scale, negatives, num_negatives, distinct, logq, hyperparameters.mask_targets)


class LogQWeights(NamedTuple):
    """What the exponential of an item's score is multiplied by, by the way the item became a candidate.

    Parameters
    ----------
    as_target, as_drawn : Tensor of float64, shape (num_items,)
    own_target : bool
        Whether a row's own target is weighted too.
    """

    as_target: Tensor
    as_drawn: Tensor
    own_target: bool


def logq_weights(
    hyperparameters: HyperParameters, item_counts: Tensor, num_negatives: int
) -> Callable[[int], LogQWeights]:
    """Return the weights by the number of rows of the mini-batch: exp(-logq * correction).

    'published', as in the authors' code: the correction is the logarithm of an item's popularity for targets, of
    popularity ** sample_alpha for drawn items (Bengio & Senecal, 2008, up to constants), the row's own target included.

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
        published = LogQWeights(counts.pow(-strength), counts.pow(-strength * alpha), own_target=True)
        return lambda _: published
    target_share, drawn_share = counts / counts.sum(), counts.pow(alpha) / counts.pow(alpha).sum()

    def refined(rows: int) -> LogQWeights:
        expected = (target_share * (rows - 1)).add_(drawn_share, alpha=num_negatives)
        weights = expected.pow_(-strength)
        return LogQWeights(weights, weights, own_target=False)

    return lru_cache(maxsize=1)(refined)


@dataclass(frozen=True)
class ScoreShared:
    """The targets of the window and the drawn negatives are candidates of every row, each item once.

    There are columns that are no candidates, too: inputs, whose rows the gradient is to hold, and zeros up to a
    multiple of COLUMNS. Their weight is zero, and so is their gradient.
    """

    loss: Loss
    scale: float
    negatives: NegativeSampler
    num_negatives: int  # K
    distinct: DistinctRows
    logq: Callable[[int], LogQWeights] | None
    mask_targets: bool

    def __call__(self, network: Network, states: Tensor, targets: Tensor, inputs: Tensor) -> ScoreGradients:
        drawn = self.negatives.draw(self.num_negatives)  # (K,)
        touched = self.distinct.find(torch.cat([targets, drawn, inputs]))
        columns, input_places = torch.split(touched.places, [len(targets) + len(drawn), len(inputs)])
        num_rows, num_candidates = len(touched.rows), touched.count_first(len(columns))
        table = gather_columns(network.output_table, touched.rows)  # (C, H)
        bias = gather_columns(network.item_bias, touched.rows)  # (C,)

        scores = linear(states, table, bias)  # (N, C)
        loss, d_scores = self.loss(scores, self._candidates(scores, columns, targets, drawn))
        d_scores *= self.scale
        d_table, d_bias = weight_gradient(d_scores, states)[:num_rows], d_scores.sum(0)[:num_candidates]
        return ScoreGradients(loss, input_gradient(d_scores, table), touched, d_table, d_bias, input_places)

    def _candidates(self, scores: Tensor, columns: Tensor, targets: Tensor, drawn: Tensor) -> Candidates:
        num_rows = len(targets)
        positives = columns[:num_rows].unsqueeze(1)
        entry_weights = scores.new_ones(len(columns))
        positive_weights = scores.new_ones(num_rows, 1)
        if self.logq is not None:
            logq = self.logq(num_rows)
            entry_weights = torch.cat(
                [logq.as_target.index_select(0, targets), logq.as_drawn.index_select(0, drawn)]
            ).to(scores.dtype)
            if logq.own_target:
                positive_weights = entry_weights[:num_rows].unsqueeze(1)
        weights = scores.new_zeros(scores.shape[1]).index_add_(0, columns, entry_weights)
        if self.mask_targets:
            own_weights = torch.zeros_like(positive_weights)
        else:  # all its places count but the row's own
            own_weights = weights[positives] - entry_weights[:num_rows].unsqueeze(1)
        return Candidates(positives, weights.unsqueeze(0), own_weights, positive_weights)


@dataclass(frozen=True)
class ScorePerTarget:
    """A row's candidates are its target and negatives drawn for it alone: C = 1 + K picks."""

    loss: Loss
    scale: float
    negatives: NegativeSampler
    num_negatives: int  # K
    distinct: DistinctRows

    def __call__(self, network: Network, states: Tensor, targets: Tensor, inputs: Tensor) -> ScoreGradients:
        num_rows = len(targets)
        drawn = self.negatives.draw(num_rows * self.num_negatives).view(num_rows, -1)
        items = torch.cat([targets.unsqueeze(1), drawn], dim=1)  # (N, C)
        touched = self.distinct.find(torch.cat([items.flatten(), inputs]))
        entries, input_places = torch.split(touched.places, [items.numel(), len(inputs)])
        picks = Picks(states, network.output_table, items, touched.rows, entries.view_as(items))
        product = make_product(picks)
        scores = product.scores().add_(network.item_bias.index_select(0, items.flatten()).view_as(items))

        ones, zeros = scores.new_ones(num_rows, 1), scores.new_zeros(num_rows, 1)
        is_negative = (items != targets.unsqueeze(1)).to(scores.dtype)
        loss, d_scores = self.loss(scores, Candidates(zeros.long(), is_negative, zeros, ones))
        d_scores *= self.scale
        d_states, d_table = product.gradients(d_scores)
        d_bias = states.new_zeros(touched.count_first(len(entries))).index_add_(0, entries, d_scores.flatten())
        return ScoreGradients(loss, d_states, touched, d_table, d_bias, input_places)


@dataclass(frozen=True)
class ScoreAll:
    """Every item is a candidate of every row: C = num_items."""

    loss: Loss
    scale: float

    def __call__(self, network: Network, states: Tensor, targets: Tensor, inputs: Tensor) -> ScoreGradients:
        ones, zeros = states.new_ones(len(targets), 1), states.new_zeros(len(targets), 1)
        loss, d_scores = self.loss(network.scores(states), Candidates(targets.unsqueeze(1), None, zeros, ones))
        d_scores *= self.scale
        d_table, d_states = weight_gradient(d_scores, states), input_gradient(d_scores, network.output_table)
        return ScoreGradients(loss, d_states, None, d_table, d_scores.sum(0), inputs)
