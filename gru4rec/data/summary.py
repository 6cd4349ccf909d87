"""What is in a log, in figures, and what may be wrong with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gru4rec.data.sessions import Sessions
from gru4rec.data.splitting import SECONDS_PER_DAY


def summarise(sessions: Sessions) -> tuple[dict[str, Any], list[str]]:
    """Return figures by name, and warnings in words."""
    lengths, counts = sessions.lengths, sessions.item_counts()
    inside = np.ones(max(sessions.num_events - 1, 0), dtype=bool)
    inside[sessions.offsets[1:-1] - 1] = False  # neighbours of two different sessions
    tied = int((np.diff(sessions.times) == 0)[inside].sum())
    repeated = int((np.diff(sessions.item_index) == 0)[inside].sum())
    span = float(sessions.times.max() - sessions.times.min())
    durations = sessions.times[sessions.offsets[1:] - 1] - sessions.start_times
    summary = {
        "sessions": sessions.num_sessions,
        "events": sessions.num_events,
        "items": int((counts > 0).sum()),
        "targets": sessions.num_targets,
        "sessions of one event": int((lengths == 1).sum()),
        "median session length": float(np.median(lengths)),
        "longest session": int(lengths.max()),
        "items with fewer than 5 events": int(((counts > 0) & (counts < 5)).sum()),
        "span in days": span / SECONDS_PER_DAY,
        "neighbours at the same time": tied,
        "neighbours with the same item": repeated,
    }
    warnings = []
    if sessions.num_targets == 0:
        warnings.append("no session has two events: there is nothing to learn; is --session-key the right column?")
    elif tied > 0.2 * sessions.num_targets:
        warnings.append(
            f"{tied / sessions.num_targets:.0%} of neighbouring events have the same time: is the order real?"
        )
    if span > 100 * 365 * SECONDS_PER_DAY:
        warnings.append("the log spans more than 100 years: are its times in ms, us or ns? say so with --time-unit")
    if float(np.median(durations)) > 30 * SECONDS_PER_DAY:
        warnings.append("half of the sessions last over 30 days: are these users' histories rather than sessions?")
    return summary, warnings
