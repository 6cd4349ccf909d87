"""A log in parts of whole sessions: memory is bounded, whatever the size of the log. What a part is: `read_log`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from gru4rec.data import reading
from gru4rec.data.reading import DEFAULT_FORMAT, LogFormat, as_integers, batches_of_file, encode_ids, sessions_of
from gru4rec.data.sessions import Sessions
from gru4rec.errors import DataError
from gru4rec.files import unreadable_as

Batch = list[pa.Array]  # sessions, items, times


def read_parts(source: str | Path, log_format: LogFormat = DEFAULT_FORMAT) -> Iterator[Sessions]:
    """Read an event log in parts.

    Parameters
    ----------
    source : path
        As of `read_log`. It is read twice. Where the events of a session do not stand together, all of it is one part.
    log_format : LogFormat

    Yields
    ------
    Sessions
        What `read_log` returns for a part of the log. No session is in two parts, and session ids are of one kind in
        all of them. Parts are in the order of the log, the sessions of a part in order of their start.

    Raises
    ------
    DataError
        As `read_log`.
    """
    path = Path(source)
    with unreadable_as(DataError, path.name):
        batches, place = batches_of_file(path, log_format)
        together, all_integers = _look_at_sessions(batches())
        if not together:  # or there is none: it says what is wrong
            yield sessions_of(batches, place, log_format)
            return
        for part in _whole_sessions(batches()):
            sessions = sessions_of(partial(_copied, part), place, log_format)
            if not all_integers and sessions.session_ids.dtype != object:
                sessions = replace(sessions, session_ids=sessions.session_ids.astype(str).astype(object))
            yield sessions
            place = replace(place, first_row=place.first_row + sum(len(times) for *_, times in part))


def _look_at_sessions(batches: Iterator[Batch]) -> tuple[bool, bool]:
    """Return whether the events of each session stand together, and whether all ids are whole numbers.

    Memory is a number for each session: digests of ids, of which two that are equal only make a log seem scattered.
    """
    all_integers, last, digests = True, None, [np.zeros(0, dtype=np.uint64)]
    for ids, *_ in batches:
        if ids.null_count:
            return False, False  # it is named by who reads all
        all_integers = all_integers and as_integers(ids.dictionary) is not None
        firsts = ids.take(pa.array(_begins(ids))).cast(ids.type.value_type).cast(pa.string()).to_pylist()
        begun = firsts[1:] if firsts and firsts[0] == last else firsts
        digests.append(pd.util.hash_array(np.array(begun, dtype=object), categorize=False))
        last = firsts[-1] if firsts else last
    runs = np.concatenate(digests)
    return 0 < len(runs) == len(np.unique(runs)), all_integers


def _whole_sessions(batches: Iterator[Batch]) -> Iterator[list[Batch]]:
    """Yield lists of batches, each of which ends where a session ends; a log of one batch is not divided."""
    held: list[Batch] = []
    for batch in batches:
        begins = _begins(batch[0])
        if len(begins) == 0:
            continue
        last_begins = int(begins[-1])
        if last_begins > 0:
            held.append(_part_of(batch, 0, last_begins))
        ends = last_begins > 0 or (held and str(batch[0][0]) != str(held[-1][0][-1]))
        if ends and sum(len(times) for *_, times in held) >= reading.BATCH_ROWS:
            yield held
            held = []
        held.append(_part_of(batch, last_begins, len(batch[0])))
    if held:
        yield held


def _begins(ids: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return where another session begins than that of the row before, in a batch whose dictionary has no id twice."""
    return np.flatnonzero(np.diff(ids.indices.to_numpy(), prepend=-1))


def _copied(part: list[Batch]) -> Iterator[Batch]:
    """Yield batches that may be changed: times that are text are read in place, and once more where that fails."""
    return map(list, part)


def _part_of(batch: Batch, first: int, end: int) -> Batch:
    *ids, times = (column.slice(first, end - first) for column in batch)
    return [*map(encode_ids, ids), times]
