"""Ranks of the true next items among ALL items; no sampled metrics. What to make of ranks is `gru4rec.metrics`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gru4rec.data.sessions import IntArray, ItemVocabulary, Sessions, ranges
from gru4rec.device import denormals_as_zero
from gru4rec.errors import DataError, DivergedError, ParameterError
from gru4rec.metrics import Ranks
from gru4rec.nn.network import Network
from gru4rec.nn.products import ROWS, padded, tile_linear

SESSIONS_AT_ONCE = 1024
STATES_AT_ONCE = 4096
ROWS_PER_TILE = 1024  # of states
ITEMS_PER_TILE = 1024  # so a tile is 4 MiB: near enough to be counted fast; three of them are the bound on memory
ROWS_OF_OWN = 128  # rows whose own scores are one product, of which only the diagonal is of use

Steps = Literal["all", "last"]


@dataclass(frozen=True, eq=False)
class RankedTargets:
    """The rank of each target.

    Parameters
    ----------
    ranks : array of int64, shape (num_targets,)
        From 1, in the order of the sessions and of their steps; a tied item ranks above the target.
    num_tied : int
        Targets that share their score with another item.
    session_of_target : array of int64, shape (num_targets,)
        Place of each target's session in the log.
    """

    ranks: Ranks
    num_tied: int
    session_of_target: IntArray


def compute_ranks(network: Network, sessions: Sessions, steps: Steps = "all") -> RankedTargets:
    """Rank the next item of every step of every session, given the session so far.

    Parameters
    ----------
    network : Network
    sessions : Sessions
        Over the vocabulary of the network.
    steps : {'all', 'last'}
        'last' ranks only the last item of each session.

    Raises
    ------
    DataError
        When no session has two events.
    DivergedError
        When scores are not finite.
    """
    targets_at = target_positions(sessions, steps)
    finite = all(bool(torch.stack(weight.aminmax()).isfinite().all()) for weight in network.weights.values())
    ranks = np.zeros(sessions.num_events, dtype=np.int64)
    num_tied = 0
    with torch.inference_mode(), denormals_as_zero():
        for positions, states in session_states(network, sessions, np.maximum(sessions.lengths - 1, 0), steps):
            order = np.argsort(sessions.item_index[positions + 1])
            positions = positions[order]
            targets = torch.from_numpy(sessions.item_index[positions + 1]).to(network.device)
            at_least, above = count_scores(network, states[torch.from_numpy(order)], targets)
            ranks[positions] = at_least.cpu().numpy()
            num_tied += int((at_least - above > 1).sum())
    ranks = ranks[targets_at]
    if not (finite and ranks.all()):  # a NaN score of its own gives a target the rank 0
        raise DivergedError("the model's scores are not finite", "train with a lower learning_rate or momentum")
    return RankedTargets(ranks, num_tied, np.searchsorted(sessions.offsets, targets_at, side="right") - 1)


def count_scores(network: Network, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many items score at least as high as each row's target, and how many higher, both of shape (rows,).

    Parameters
    ----------
    states : Tensor, shape (rows, H)
    targets : Tensor of int, shape (rows,)
        Ascending, so that the rows whose target is in a tile are a slice.

    Notes
    -----
    Tiles are counted while the scores of the targets are known only from another product, whose rounding may differ.
    So what the tiles hold for the targets is compared with it, and counted anew where it is not the same to the bit:
    a score equals itself, and items of equal weights are tied.
    """
    num_blocks = math.ceil(len(states) / ROWS_PER_TILE)
    size = math.ceil(len(states) / num_blocks / ROWS) * ROWS
    buffer = states.new_empty(ROWS_PER_TILE * ITEMS_PER_TILE)
    counts = []
    for block in zip(torch.split(states, size), torch.split(targets, size), strict=True):
        own = own_scores(network, *block)
        at_least, above, own_in_tiles = _count_tiles(network, *block, own, buffer)
        if not torch.equal(own_in_tiles, own):
            at_least, above, _ = _count_tiles(network, *block, own_in_tiles, buffer)
        counts.append(torch.stack([at_least, above]))
    at_least, above = torch.cat(counts, dim=1).long()
    return at_least, above


def own_scores(network: Network, states: Tensor, targets: Tensor) -> Tensor:
    """Return the score of each row's target, shape (rows, 1)."""
    parts = zip(torch.split(states, ROWS_OF_OWN), torch.split(targets, ROWS_OF_OWN), strict=True)
    products = [
        tile_linear(padded(rows), network.output_table[items], network.item_bias[items]) for rows, items in parts
    ]
    return torch.cat([product.diagonal() for product in products]).unsqueeze(1)


def _count_tiles(
    network: Network, states: Tensor, targets: Tensor, own: Tensor, buffer: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the counts of scores >= and > `own`, shape (rows,), and the scores of the targets, shape (rows, 1)."""
    at_least, above = states.new_zeros(2, len(states), dtype=torch.float64)  # exact, and takes sums of floats
    own_in_tiles = torch.empty_like(own)
    done = 0
    for first, scores in score_tiles(network, states, ITEMS_PER_TILE):
        rows = slice(done, done := int(torch.searchsorted(targets, first + scores.shape[1])))
        own_in_tiles[rows] = scores[rows].gather(1, targets[rows].long().unsqueeze(1) - first)
        # Comparing into floats is vectorized, into bools it is not.
        at_least += torch.ge(scores, own, out=buffer[: scores.numel()].view_as(scores)).sum(1)
        above += scores.gt_(own).sum(1)
    return at_least, above, own_in_tiles


def score_tiles(network: Network, states: Tensor, max_items: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the scores of all items in tiles: the index of the first item, and a matrix that may be overwritten.

    Tiles are of nearly equal width: a narrow rest would be a slow product, and one that may round differently. Few rows
    would be, too: with them torch's own products give items of equal weights scores that differ in the last bit.
    """
    num_tiles = math.ceil(network.num_items / max_items)
    tables, biases = network.output_table.tensor_split(num_tiles), network.item_bias.tensor_split(num_tiles)
    first, num_rows, states = 0, len(states), padded(states)
    for table, bias in zip(tables, biases, strict=True):
        yield first, tile_linear(states, table, bias)[:num_rows]
        first += len(bias)


def rankable_sessions(sessions: Sessions, items: ItemVocabulary, steps: Steps = "all") -> tuple[Sessions, int]:
    """Return the sessions over the items of a model, and how many events were dropped because it lacks their item.

    With steps='last' a session whose last item is unknown is left out whole; otherwise an earlier item of it would be
    ranked in place of the true one.
    """
    known, num_unknown = sessions.with_items_of(items)
    if steps == "last":
        ends = sessions.item_index[sessions.offsets[1:] - 1]
        ends_known = items.encode(sessions.items.ids)[ends] >= 0
        known, _ = sessions.select_sessions(ends_known & (sessions.lengths > 0)).with_items_of(items)
    return known, num_unknown


def session_states(
    network: Network, sessions: Sessions, num_events: IntArray, steps: Steps
) -> Iterator[tuple[IntArray, Tensor]]:
    """Run the first `num_events[s]` events of each session s; yield positions of events and the states after them.

    Sessions run side by side, the longest first, so that those still running are always the first rows. With
    steps='last' only the last state of each session is yielded.
    """
    order = np.argsort(-num_events, kind="stable")[: int((num_events > 0).sum())]
    for first in range(0, len(order), SESSIONS_AT_ONCE):
        together = order[first : first + SESSIONS_AT_ONCE]
        begins, lengths = sessions.offsets[together], num_events[together]
        hidden = network.initial_hidden(len(together))
        positions, states, waiting = [], [], 0
        for step in range(int(lengths[0])):
            running = int(np.searchsorted(-lengths, -step))
            at = begins[:running] + step
            items = torch.from_numpy(sessions.item_index[at]).to(network.device)
            starts = torch.full((running,), step == 0, device=network.device)
            state, _ = network.forward(items, starts, hidden, [running])
            first_wanted = int(np.searchsorted(-lengths, -(step + 1))) if steps == "last" else 0
            positions.append(at[first_wanted:])
            states.append(state[first_wanted:])
            waiting += running - first_wanted
            if waiting >= STATES_AT_ONCE or step == lengths[0] - 1:
                yield np.concatenate(positions), torch.cat(states)
                positions, states, waiting = [], [], 0


def target_positions(sessions: Sessions, steps: Steps) -> IntArray:
    """Return the positions of the events whose next item is a target.

    Raises
    ------
    ParameterError
        When `steps` is unknown.
    DataError
        When no session has two events.
    """
    if steps not in {"all", "last"}:
        raise ParameterError(f"steps must be 'all' or 'last', got {steps!r}")
    pairs = np.maximum(sessions.lengths - 1, 0)
    if not pairs.any():
        raise DataError(f"no session has two known events or more, nothing to rank ({len(pairs):,} sessions)")
    if steps == "last":
        return (sessions.offsets[1:] - 2)[pairs > 0]
    return ranges(sessions.offsets[:-1], pairs)
