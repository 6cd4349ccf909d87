"""Train and test parts of a log, cut by time at session boundaries; support filters.

What a test part says about items that the train part lacks is left to `gru4rec.evaluation`, which counts them.
"""

from __future__ import annotations

import numpy as np

from gru4rec.data.sessions import Sessions
from gru4rec.errors import DataError, ParameterError

SECONDS_PER_DAY = 86_400


def split_last_days(sessions: Sessions, days: float) -> tuple[Sessions, Sessions]:
    """Cut off the sessions that start in the last `days` days of the log.

    Returns
    -------
    train, test : Sessions

    Raises
    ------
    ParameterError
        When `days` is not positive.
    DataError
        When a part would be empty.
    """
    if not days > 0:
        raise ParameterError(f"days must be > 0, got {days}")
    span_days = float(sessions.times.max() - sessions.times.min()) / SECONDS_PER_DAY
    if span_days > 100 * 365:
        raise DataError(
            f"the log spans {span_days:,.0f} days", "are its times in ms, us or ns? say so with --time-unit"
        )
    return _split_at(sessions, float(sessions.times.max()) - days * SECONDS_PER_DAY, f"the last {days:g} days")


def split_time_share(sessions: Sessions, share: float) -> tuple[Sessions, Sessions]:
    """Cut off the sessions that start in the last `share` (between 0 and 1) of the time the log spans.

    Raises
    ------
    ParameterError
        When `share` is not between 0 and 1.
    DataError
        When a part would be empty.
    """
    if not 0 < share < 1:
        raise ParameterError(f"share must be between 0 and 1, got {share}")
    first, last = float(sessions.times.min()), float(sessions.times.max())
    return _split_at(sessions, last - share * (last - first), f"the last {share:g} of the time")


def split_last_item(sessions: Sessions) -> tuple[Sessions, Sessions]:
    """Keep the last event of each session for testing.

    Other sessions' later events stay in the train part, so this leaks through time; prefer a split by time.

    Returns
    -------
    train, test : Sessions
        The sessions without their last event, and the whole sessions of two or more events, of which only the last
        step is a fair target (`evaluate(..., steps='last')`).
    """
    last = np.zeros(sessions.num_events, dtype=bool)
    last[sessions.offsets[1:] - 1] = True
    long_enough = sessions.lengths >= 2
    return sessions.select_events(~last), sessions.select_sessions(long_enough)


def _split_at(sessions: Sessions, cut: float, what: str) -> tuple[Sessions, Sessions]:
    in_test = sessions.start_times > cut
    if in_test.all() or not in_test.any():
        part = "train" if in_test.all() else "test"
        span = float(sessions.times.max() - sessions.times.min())
        raise DataError(f"splitting off {what} leaves no {part} session (the log spans {span:,.0f} s)")
    return sessions.select_sessions(~in_test), sessions.select_sessions(in_test)


def filter_support(sessions: Sessions, min_item_support: int = 1, min_session_length: int = 2) -> Sessions:
    """Drop rare items and short sessions until none is left, and items that no longer occur from the vocabulary.

    Raises
    ------
    DataError
        When nothing is left.
    """
    kept = sessions
    while True:
        before = kept.num_events
        frequent = kept.item_counts() >= min_item_support
        kept = kept.select_events(frequent[kept.item_index])
        kept = kept.select_sessions(kept.lengths >= min_session_length)
        if kept.num_events == before:
            break
    if kept.num_events == 0:
        raise DataError(
            f"no session of at least {min_session_length} events is left once items with fewer than "
            f"{min_item_support} events are dropped; before: {sessions.num_sessions:,} sessions, "
            f"{sessions.num_events:,} events"
        )
    return kept.with_own_items()
