"""A synthetic shop log, for trying things out. It is no benchmark: real logs are harder, and differ.

A session has a mood, one of the shop's categories. Each next item follows from the last one or the one before (a
transition table that prefers the same category), or is a popular item of the mood. So a model that remembers the
session can beat one that sees only the last item.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from gru4rec.errors import ParameterError

FIRST_SECOND = 1_735_689_600  # 2025-01-01T00:00:00Z
SUCCESSORS = 8
ITEMS_PER_CATEGORY = 50
FOLLOWS_LAST, FOLLOWS_ONE_BEFORE = 0.3, 0.5


def generate_log(num_sessions: int, num_items: int, days: int = 14, seed: int = 0) -> pd.DataFrame:
    """Generate a log of events in time order.

    Parameters
    ----------
    num_sessions, num_items : int
        At least 1 and 100.
    days : int
        Over which the sessions start, with a daily rhythm.
    seed : int

    Returns
    -------
    DataFrame
        SessionId: integers; ItemId: text such as 'item-00042'; Time: whole seconds.

    Raises
    ------
    ParameterError
        When a number is too small.
    """
    least_values = {"sessions": (num_sessions, 1), "items": (num_items, 100), "days": (days, 1), "seed": (seed, 0)}
    for name, (value, least) in least_values.items():
        if value < least:
            raise ParameterError(f"{name} must be >= {least}, got {value}")
    random = np.random.default_rng(seed)
    num_categories = num_items // ITEMS_PER_CATEGORY
    popularity = 1.0 / (1.0 + np.arange(num_items)) ** 0.8
    successors = _successors(random, num_items, num_categories, popularity)

    lengths = 2 + random.geometric(0.35, num_sessions)
    begins = np.sort(_start_times(random, num_sessions, days))
    moods = random.integers(num_categories, size=num_sessions)
    current = _popular_items(random, moods, popularity, num_categories)
    before = current
    events = []
    for step in range(int(lengths.max())):
        going = lengths > step
        events.append((np.flatnonzero(going), current[going], begins[going]))
        kind = random.random(num_sessions)
        # A preference for the first successors: their ranks are geometric, cut off at the table's width.
        rank = np.minimum(random.geometric(0.4, num_sessions) - 1, SUCCESSORS - 1)
        wandering = _popular_items(random, moods, popularity, num_categories)
        following = np.where(kind < FOLLOWS_LAST, successors[current, rank], successors[before, rank])
        following = np.where(kind < FOLLOWS_LAST + FOLLOWS_ONE_BEFORE, following, wandering)
        before, current = current, following
        begins = begins + random.integers(5, 180, num_sessions)
    sessions, items, times = (np.concatenate(part) for part in zip(*events, strict=True))
    names = [f"item-{item:05d}" for item in items]
    frame = pd.DataFrame({"SessionId": sessions + 1, "ItemId": names, "Time": times})
    return frame.sort_values("Time", kind="stable", ignore_index=True)


def _successors(random: np.random.Generator, num_items: int, num_categories: int, popularity: np.ndarray) -> np.ndarray:
    """Return for each item the items that tend to follow it, the likeliest first, shape (num_items, SUCCESSORS)."""
    anywhere = np.searchsorted(_cumulative(popularity), random.random((num_items, SUCCESSORS)))
    nearby = (anywhere // num_categories) * num_categories + np.arange(num_items)[:, None] % num_categories
    same_category = random.random((num_items, SUCCESSORS)) < 0.7
    return np.where(same_category & (nearby < num_items), nearby, anywhere)


def _popular_items(
    random: np.random.Generator, moods: np.ndarray, popularity: np.ndarray, num_categories: int
) -> np.ndarray:
    """Draw an item of each mood's category, by popularity."""
    category = np.arange(len(popularity)) % num_categories
    by_category = np.argsort(category, kind="stable")
    upper = np.cumsum(popularity[by_category])  # one item after the other, category after category
    last = np.cumsum(np.bincount(category)) - 1
    begin = np.concatenate([[0.0], upper[last[:-1]]])
    drawn = np.searchsorted(upper, begin[moods] + random.random(len(moods)) * (upper[last] - begin)[moods])
    return np.asarray(by_category[np.minimum(drawn, last[moods])])


def _start_times(random: np.random.Generator, count: int, days: int) -> np.ndarray:
    day = random.integers(days, size=count)
    hour = np.clip(random.normal(15.0, 4.5, count), 0.0, 23.99)
    return (FIRST_SECOND + day * 86_400 + hour * 3600).astype(np.int64)


def _cumulative(weights: np.ndarray) -> np.ndarray:
    total = np.cumsum(weights)
    return np.asarray(total / total[-1])
