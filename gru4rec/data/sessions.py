"""A log in memory: flat arrays and offsets, no Python object per event.

`Sessions` is what every other part reads; making one from files is `gru4rec.data.reading`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from gru4rec.errors import DataError

IntArray = npt.NDArray[np.int64]
IndexArray = npt.NDArray[np.int32]
AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ItemVocabulary:
    """The items a model or a log knows: our index 0 .. num_items-1 <-> the log's own item id.

    Parameters
    ----------
    ids : array of int64 or str objects, shape (num_items,)
        Unique item ids; the place of an id is its index.
    """

    ids: AnyArray

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, item_ids: AnyArray) -> IndexArray:
        """Return the index of each item id, -1 for unknown ones. Integer ids and their decimal text are the same id.

        >>> ItemVocabulary(np.array([7, 9])).encode(np.array(["9", "x"], dtype=object))
        array([ 1, -1], dtype=int32)
        """
        known = self.ids
        if (known.dtype.kind in "OU") != (item_ids.dtype.kind in "OU"):
            known, item_ids = known.astype(str).astype(object), item_ids.astype(str).astype(object)
        return pd.Index(known).get_indexer(pd.Index(item_ids)).astype(np.int32)

    def index_of(self, item_id: object) -> int:
        """Return the index of one item id, -1 for an unknown one: `encode` for a click at a time.

        >>> items = ItemVocabulary(np.array([7, 9]))
        >>> items.index_of("9"), items.index_of(9), items.index_of("09")
        (1, 1, -1)
        """
        return self._index_of_text.get(str(item_id), -1)

    @cached_property
    def _index_of_text(self) -> dict[str, int]:
        return {str(item_id): index for index, item_id in enumerate(self.ids.tolist())}

    def decode(self, item_index: npt.ArrayLike) -> AnyArray:
        """Return the item id of each index."""
        return np.asarray(self.ids[np.asarray(item_index)])


@dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions in order of their start; within a session the events are in time order, ties in the log's order.

    Parameters
    ----------
    item_index : array of int32, shape (num_events,)
        Item of each event, sessions one after the other.
    offsets : array of int64, shape (num_sessions + 1,)
        Session s holds the events offsets[s] .. offsets[s + 1] - 1.
    times : array of int64 or float64, shape (num_events,)
        Seconds.
    session_ids : array, shape (num_sessions,)
        The log's own session ids.
    items : ItemVocabulary
        What `item_index` points into.
    """

    item_index: IndexArray
    offsets: IntArray
    times: AnyArray
    session_ids: AnyArray
    items: ItemVocabulary

    @property
    def num_sessions(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_events(self) -> int:
        return len(self.item_index)

    @property
    def num_items(self) -> int:
        """Items in the vocabulary, whether they occur here or not."""
        return len(self.items)

    @property
    def num_targets(self) -> int:
        """Pairs of an event and the next one of its session: what can be learned or predicted."""
        return int(np.maximum(self.lengths - 1, 0).sum())

    @property
    def lengths(self) -> IntArray:
        """Events per session."""
        return np.diff(self.offsets)

    @property
    def start_times(self) -> AnyArray:
        """Time of the first event of each session, in seconds."""
        return np.asarray(self.times[self.offsets[:-1]])

    def item_counts(self) -> IntArray:
        """Events per item of the vocabulary."""
        return np.bincount(self.item_index, minlength=self.num_items)

    def select_sessions(self, mask: npt.NDArray[np.bool_]) -> Sessions:
        """Return the sessions where `mask`, of shape (num_sessions,), is true."""
        kept = self.select_events(np.repeat(mask, self.lengths))
        present = mask & (self.lengths > 0)
        return replace(kept, session_ids=self.session_ids[present])

    def select_events(self, mask: npt.NDArray[np.bool_]) -> Sessions:
        """Return the events where `mask`, of shape (num_events,), is true; sessions left without events are dropped."""
        kept_before = np.concatenate([[0], np.cumsum(mask)])
        lengths = np.diff(kept_before[self.offsets])
        present = lengths > 0
        return Sessions(
            item_index=self.item_index[mask],
            offsets=np.concatenate([[0], np.cumsum(lengths[present])]),
            times=self.times[mask],
            session_ids=self.session_ids[present],
            items=self.items,
        )

    def with_own_items(self) -> Sessions:
        """Return the same sessions with a vocabulary of just the items that occur in them."""
        present = self.item_counts() > 0
        new_index = np.cumsum(present, dtype=np.int32) - 1
        return replace(
            self,
            item_index=new_index[self.item_index].astype(np.int32),
            items=ItemVocabulary(self.items.ids[present]),
        )

    def with_items_of(self, items: ItemVocabulary) -> tuple[Sessions, int]:
        """Return the sessions over another vocabulary, and how many events were dropped because it lacks their item."""
        index = items.encode(self.items.ids)[self.item_index]
        known = index >= 0
        kept = replace(self, item_index=index, items=items).select_events(known)
        return kept, int((~known).sum())

    def without_ids(self) -> Sessions:
        """Return the same sessions with numbers for all ids: numeric arrays, which processes share without a copy."""
        return replace(
            self,
            session_ids=np.arange(self.num_sessions),
            items=ItemVocabulary(np.arange(self.num_items)),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the events as a table with the log's own ids: SessionId, ItemId, Time in seconds."""
        return pd.DataFrame(
            {
                "SessionId": np.repeat(self.session_ids, self.lengths),
                "ItemId": self.items.decode(self.item_index),
                "Time": self.times,
            }
        )


def concatenate_sessions(first: Sessions, second: Sessions) -> Sessions:
    """Return all sessions of two logs, in order of their start. A session that is in both stays two sessions."""
    ids = first.items.ids
    if (ids.dtype == object) != (second.items.ids.dtype == object):
        raise DataError("the two logs have different kinds of item ids: one has integers, the other text")
    items = ItemVocabulary(np.unique(np.concatenate([ids, second.items.ids])))
    parts = [first.with_items_of(items)[0], second.with_items_of(items)[0]]
    lengths = np.concatenate([part.lengths for part in parts])
    start_times = np.concatenate([part.start_times for part in parts])
    order = np.argsort(start_times, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    events = ranges(offsets[:-1][order], lengths[order])
    session_ids = [part.session_ids for part in parts]
    if session_ids[0].dtype != session_ids[1].dtype:
        session_ids = [ids.astype(str).astype(object) for ids in session_ids]
    return Sessions(
        item_index=np.concatenate([part.item_index for part in parts])[events],
        offsets=np.concatenate([[0], np.cumsum(lengths[order])]),
        times=np.concatenate([part.times for part in parts])[events],
        session_ids=np.concatenate(session_ids)[order],
        items=items,
    )


def sample_sessions(sessions: Sessions, size: int | None, seed: int) -> Sessions:
    """Return `size` of the sessions in their order, the same for the same seed; None, or too many, returns all."""
    if size is None or size >= sessions.num_sessions:
        return sessions
    chosen = np.zeros(sessions.num_sessions, dtype=bool)
    chosen[np.random.default_rng(seed).choice(sessions.num_sessions, size, replace=False)] = True
    return sessions.select_sessions(chosen)


def order_events(
    session_codes: IndexArray, times: AnyArray, num_sessions: int
) -> tuple[IndexArray, IntArray, IntArray]:
    """Return the order of events in `Sessions`, the order of sessions by their start, and the offsets.

    Each of the codes 0 .. num_sessions - 1 has an event. Memory is a few arrays of indices.

    >>> order, by_start, offsets = order_events(np.array([1, 0, 1]), np.array([5, 7, 5]), 2)
    >>> order.tolist(), by_start.tolist(), offsets.tolist()
    ([0, 2, 1], [1, 0], [0, 2, 3])
    """
    rows = np.arange(len(times) + 1, dtype=sparse.get_index_dtype(maxval=len(times)))
    by_time, in_time = rows[:-1], session_codes
    if (times[1:] < times[:-1]).any():
        by_time = np.argsort(times, kind="stable").astype(rows.dtype)
        in_time = session_codes[by_time]
    first_event = np.empty(num_sessions, dtype=rows.dtype)
    first_event[in_time[::-1]] = rows[-2::-1]  # reversed, so that a session's earliest event is written last and stays
    by_start = np.argsort(first_event)
    rank = np.empty_like(rows, shape=num_sessions)
    rank[by_start] = rows[:num_sessions]
    in_time = rank[in_time]
    # A matrix with an entry per row, in the column of the row's session: making it columnwise is a counting sort.
    grouped = sparse.csr_matrix((by_time, in_time, rows), shape=(len(times), num_sessions)).tocsc()
    return grouped.data, by_start, grouped.indptr.astype(np.int64)


def ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """Return the whole numbers starts[i] .. starts[i] + lengths[i] - 1 of every i, one after the other.

    >>> ranges(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
