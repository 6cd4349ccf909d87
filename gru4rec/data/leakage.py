"""What a training log gives away of a test log: time, shared sessions; and what it does not know of it: items.

Leakage through time makes offline figures too good and may change the order of models: arXiv 2010.11060.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gru4rec.data.sessions import AnyArray, Sessions

REMEDY = "split by time at session boundaries with `gru4rec data split --last-days`"
MUCH = 0.2  # of the test sessions


@dataclass(frozen=True)
class Overlap:
    """How a training and a test log of the same shop lie to each other.

    Parameters
    ----------
    num_test_sessions, num_test_events : int
    num_interleaved_sessions : int
        Test sessions that start before the last training session starts; none after a split at a session boundary.
    num_early_sessions : int
        Test sessions that start before the last training event; after a split at a session boundary these are the ones
        that began while the last training sessions still ran.
    num_shared_sessions : int
        Session ids that are in both logs.
    num_unknown_events : int
        Test events whose item is not in the training log.
    """

    num_test_sessions: int
    num_test_events: int
    num_interleaved_sessions: int
    num_early_sessions: int
    num_shared_sessions: int
    num_unknown_events: int


def compare_logs(train: Sessions, test: Sessions) -> Overlap:
    """Count what two logs share; ids that are integers in one log and text in the other are compared as text."""
    trained_on = train.with_own_items().items
    return Overlap(
        num_test_sessions=test.num_sessions,
        num_test_events=test.num_events,
        num_interleaved_sessions=int((test.start_times < train.start_times.max()).sum()),
        num_early_sessions=int((test.start_times < train.times.max()).sum()),
        num_shared_sessions=_num_shared(train.session_ids, test.session_ids),
        num_unknown_events=test.with_items_of(trained_on)[1],
    )


def leakage_warnings(overlap: Overlap) -> list[str]:
    """Say in words what makes figures on the test log doubtful, and what to do."""
    warnings = []
    sessions = overlap.num_test_sessions
    if overlap.num_interleaved_sessions:
        warnings.append(
            f"{overlap.num_interleaved_sessions:,} of {sessions:,} test sessions "
            f"({overlap.num_interleaved_sessions / sessions:.0%}) start before the last training session starts: the "
            f"training log knows the future of the test log, figures may be too good; {REMEDY}"
        )
    elif overlap.num_early_sessions > MUCH * sessions:
        warnings.append(
            f"{overlap.num_early_sessions:,} of {sessions:,} test sessions "
            f"({overlap.num_early_sessions / sessions:.0%}) start before the last training event: training sessions "
            "run on far into the test period; end sessions after a pause, or leave a gap between the two logs"
        )
    if overlap.num_shared_sessions:
        warnings.append(
            f"{overlap.num_shared_sessions:,} session ids are in both logs: the same sessions are trained on and "
            f"tested, or ids are used twice; {REMEDY}"
        )
    if overlap.num_unknown_events > MUCH * overlap.num_test_events:
        warnings.append(
            f"{overlap.num_unknown_events:,} of {overlap.num_test_events:,} test events "
            f"({overlap.num_unknown_events / overlap.num_test_events:.0%}) have items unknown to the training log: "
            "look at the figures with misses; train on a longer or more recent log, or lower --min-item-support"
        )
    return warnings


def _num_shared(first: AnyArray, second: AnyArray) -> int:
    if (first.dtype.kind in "OU") != (second.dtype.kind in "OU"):
        first, second = first.astype(str), second.astype(str)
    return len(np.intersect1d(first, second))
