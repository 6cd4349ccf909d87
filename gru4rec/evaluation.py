"""Ranks of the true next items among ALL items; no sampled metrics. What to make of ranks is `gru4rec.metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gru4rec.data.sessions import IntArray, ItemVocabulary, Sessions, ranges
from gru4rec.errors import DataError, DivergedError, ParameterError
from gru4rec.metrics import Ranks
from gru4rec.nn.network import Network

SESSIONS_AT_ONCE = 512
SCORES_PER_BLOCK = 1 << 23  # floats, so 32 MiB: the bound on memory, whatever the catalogue

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
    finite = all(bool(weight.isfinite().all()) for weight in network.weights.values())
    ranks = np.zeros(sessions.num_events, dtype=np.int64)
    num_tied = 0
    block = max(1, SCORES_PER_BLOCK // network.num_items)
    with torch.inference_mode():
        for positions, states in session_states(network, sessions, np.maximum(sessions.lengths - 1, 0), steps):
            for first in range(0, len(positions), block):
                at = positions[first : first + block]
                targets = torch.from_numpy(sessions.item_index[at + 1]).to(network.device).long()
                scores = network.scores(states[first : first + block])
                own = scores.gather(1, targets.unsqueeze(1))
                ranks[at] = (scores >= own).sum(1).cpu().numpy()
                num_tied += int(((scores == own).sum(1) > 1).sum())
    ranks = ranks[targets_at]
    if not (finite and ranks.all()):  # a NaN score of its own gives a target the rank 0
        raise DivergedError("the model's scores are not finite", "train with a lower learning_rate or momentum")
    return RankedTargets(ranks, num_tied, np.searchsorted(sessions.offsets, targets_at, side="right") - 1)


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
        positions, states = [], []
        for step in range(int(lengths[0])):
            running = int(np.searchsorted(-lengths, -step))
            at = begins[:running] + step
            items = torch.from_numpy(sessions.item_index[at]).to(network.device)
            starts = torch.full((running,), step == 0, device=network.device)
            state, _ = network.forward(items, starts, hidden, [running])
            first_wanted = int(np.searchsorted(-lengths, -(step + 1))) if steps == "last" else 0
            positions.append(at[first_wanted:])
            states.append(state[first_wanted:])
        yield np.concatenate(positions), torch.cat(states)


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
