"""What is told of the log that a model learned from, and the digest that says whether it is the same log."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from gru4rec.data.sessions import Sessions


@dataclass(frozen=True)
class TrainingLog:
    """A training log, in short.

    Parameters
    ----------
    num_sessions, num_events, num_items : int
    first_time, last_time : float
        Of its events, in seconds since 1970 where the log's times are.
    fingerprint : str
        As of `digest_sessions`.
    licence : str, optional
        Under which the log may be used, in the words of whoever trained the model.
    """

    num_sessions: int
    num_events: int
    num_items: int
    first_time: float
    last_time: float
    fingerprint: str
    licence: str | None = None


def describe_log(sessions: Sessions, licence: str | None = None) -> TrainingLog:
    """Return what is told of a log that has events."""
    return TrainingLog(
        num_sessions=sessions.num_sessions,
        num_events=sessions.num_events,
        num_items=int((sessions.item_counts() > 0).sum()),
        first_time=float(sessions.times.min()),
        last_time=float(sessions.times.max()),
        fingerprint=digest_sessions(sessions),
        licence=licence,
    )


def digest_sessions(sessions: Sessions) -> str:
    """Return a digest of items, sessions and times, 16 hexadecimal digits; ids of sessions do not matter."""
    digest = hashlib.blake2b(json.dumps(sessions.items.ids.tolist()).encode(), digest_size=8)
    for array in (sessions.item_index, sessions.offsets, sessions.times):
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()
