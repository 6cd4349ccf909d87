"""Session-parallel mini-batches: sessions laid on parallel lanes, computed once for an epoch, without Python per event.

Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks" (ICLR 2016), section 3.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gru4rec.data.sessions import IndexArray, IntArray, Sessions, ranges

SESSIONS_AT_ONCE = 1 << 16  # bounds the memory of what is computed for each event


@dataclass(frozen=True, eq=False)
class SessionGrid:
    """An epoch as a grid: one row per step, one column per lane.

    In row t only the first `lanes_per_step[t]` columns hold an event; that number never grows, because lanes are
    ordered by how long they last. So a mini-batch is always a prefix of a row, also while the last sessions drain.

    Parameters
    ----------
    inputs, targets : array of int32, shape (num_steps, num_lanes)
        Item index of the event and of the next event of the same session.
    starts : array of bool, shape (num_steps, num_lanes)
        Whether the input is the first event of its session: the hidden state is zero there.
    lanes_per_step : array of int64, shape (num_steps,)
    """

    inputs: IndexArray
    targets: IndexArray
    starts: npt.NDArray[np.bool_]
    lanes_per_step: IntArray

    @property
    def num_steps(self) -> int:
        return len(self.lanes_per_step)

    @property
    def num_targets(self) -> int:
        return int(self.lanes_per_step.sum())


def lay_sessions(sessions: Sessions, batch_size: int) -> SessionGrid:
    """Lay sessions on `batch_size` lanes in their order, each on the lane that frees first.

    Sessions of one event have no target and are left out.
    """
    pairs = sessions.lengths - 1
    usable = np.flatnonzero(pairs > 0)
    pairs, first_events = pairs[usable], sessions.offsets[usable]
    lanes, steps, lane_ends = _assign_lanes(pairs, batch_size)

    order = np.argsort(-lane_ends, kind="stable")
    column_of_lane = np.empty_like(order)
    column_of_lane[order] = np.arange(len(order))
    lane_ends = lane_ends[order]

    num_steps = int(lane_ends[0]) if len(lane_ends) else 0
    shape = (num_steps, len(lane_ends))
    inputs, targets = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    starts = np.zeros(shape, dtype=bool)
    columns = column_of_lane[lanes]
    starts[steps, columns] = True
    for first in range(0, len(pairs), SESSIONS_AT_ONCE):
        part = slice(first, first + SESSIONS_AT_ONCE)
        places = ranges(steps[part], pairs[part]), np.repeat(columns[part], pairs[part])
        events = ranges(first_events[part], pairs[part])
        inputs[places] = sessions.item_index[events]
        targets[places] = sessions.item_index[events + 1]
    lanes_per_step = np.searchsorted(-lane_ends, -np.arange(num_steps), side="left")
    return SessionGrid(inputs, targets, starts, lanes_per_step)


def _assign_lanes(pairs: IntArray, batch_size: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return the lane and the first step of each session, and the step at which each lane ends."""
    num_sessions = len(pairs)
    num_lanes = min(batch_size, num_sessions)
    lanes = np.zeros(num_sessions, dtype=np.int64)
    steps = np.zeros(num_sessions, dtype=np.int64)
    lanes[:num_lanes] = np.arange(num_lanes)
    ends = pairs[:num_lanes].copy()
    placed = num_lanes
    while placed < num_sessions:
        step = ends.min()
        free = np.flatnonzero(ends == step)[: num_sessions - placed]
        arriving = slice(placed, placed + len(free))
        lanes[arriving], steps[arriving] = free, step
        ends[free] += pairs[arriving]
        placed += len(free)
    return lanes, steps, ends
