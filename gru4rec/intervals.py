"""How sure a figure is: bootstrap intervals of ranking metrics, with the session as the unit.

Targets of one session are alike, so resampling targets would give intervals that are too narrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from gru4rec.errors import ParameterError
from gru4rec.metrics import Contributions, Ranks, contributions

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95
WEIGHTS_PER_BLOCK = 1 << 22  # so 32 MiB: the bound on memory, whatever the number of sessions


def bootstrap_intervals(
    ranks: Ranks,
    session_of_target: npt.NDArray[np.integer],
    keys: Iterable[str],
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    *,
    minus: Ranks | None = None,
) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric key such as 'mrr@20', or of its difference between two models.

    Parameters
    ----------
    ranks : array of int64, shape (num_targets,)
        From 1.
    session_of_target : array of integers, shape (num_targets,)
        Number of each target's session.
    keys : iterable of str
    num_resamples : int
        At least 1.
    confidence : float in (0, 1)
    seed : int
        Same seed, same intervals.
    minus : array of int64, shape (num_targets,), optional
        Ranks of a second model, whose metric is taken off. Both models meet the same resamples, so what makes a session
        easy or hard for both cancels out: two models may differ clearly although their own intervals overlap.

    Returns
    -------
    dict of str to (float, float)
        Lower and upper end. Of a single session both are the metric itself: one session says nothing of the spread.

    Raises
    ------
    ParameterError
        When there is no target, the arrays differ in length, or a number is out of its range.

    Notes
    -----
    The percentile bootstrap: draw as many sessions as there are, with replacement; the metric of the resample is the
    sum of what its targets contribute divided by their number; the ends are quantiles of it over the resamples.
    """
    keys = list(keys)
    if minus is not None and len(minus) != len(ranks):
        raise ParameterError(f"both models must rank the same targets, got {len(ranks)} and {len(minus)}")
    columns = [contributions(ranks, key) - (0.0 if minus is None else contributions(minus, key)) for key in keys]
    intervals = _intervals_of_means(columns, session_of_target, num_resamples, confidence, seed)
    return dict(zip(keys, intervals, strict=True))


def _intervals_of_means(
    columns: Sequence[Contributions],
    session_of_target: npt.NDArray[np.integer],
    num_resamples: int,
    confidence: float,
    seed: int,
) -> list[tuple[float, float]]:
    """Return the interval of the mean of each column of shape (num_targets,)."""
    num_targets = len(session_of_target)
    if num_targets == 0 or any(len(column) != num_targets for column in columns):
        raise ParameterError(
            "ranks and session_of_target must be of one length >= 1, got "
            f"{', '.join(str(len(column)) for column in columns[:1])} and {num_targets}"
        )
    if num_resamples < 1:
        raise ParameterError(f"num_resamples must be a whole number >= 1, got {num_resamples}")
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence must be in (0, 1), got {confidence}")
    _, session = np.unique(session_of_target, return_inverse=True)
    sums = [np.bincount(session, weights=column) for column in (np.ones(num_targets), *columns)]
    per_session = np.stack(sums, axis=1).astype(np.float64)  # (num_sessions, 1 + num_columns)
    totals = np.concatenate(list(_resampled_sums(per_session, num_resamples, seed)))  # (num_resamples, 1 + num_columns)
    means = totals[:, 1:] / totals[:, :1]
    ends = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)  # (2, num_columns)
    return [(float(low), float(high)) for low, high in ends.T]


def _resampled_sums(per_session: Contributions, num_resamples: int, seed: int) -> Iterator[Contributions]:
    """Yield the column sums of resampled rows, a block of resamples at a time."""
    num_sessions = len(per_session)
    random = np.random.default_rng(seed)
    block = max(1, WEIGHTS_PER_BLOCK // num_sessions)
    for first in range(0, num_resamples, block):
        rows = min(block, num_resamples - first)
        drawn = random.integers(num_sessions, size=(rows, num_sessions))
        drawn += np.arange(rows)[:, None] * num_sessions
        weights = np.bincount(drawn.ravel(), minlength=rows * num_sessions).reshape(rows, num_sessions)
        yield weights.astype(np.float64) @ per_session
