"""The synthetic log: what its docstring promises, measured on logs large enough that chance does not decide."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest

from gru4rec.data.reading import read_log
from gru4rec.data.synthetic import generate_log
from gru4rec.errors import ParameterError

START = 1_735_689_600  # by `date -u -d 2025-01-01 +%s`
DAY = 86_400


@pytest.fixture(scope="module")
def log():
    return generate_log(num_sessions=3000, num_items=200, days=10, seed=1)


def starts(frame):
    return frame.groupby("SessionId")["Time"].min()


def test_columns_and_kinds(log):
    assert list(log.columns) == ["SessionId", "ItemId", "Time"]
    assert log["SessionId"].dtype.kind == log["Time"].dtype.kind == "i"
    assert log["ItemId"].str.fullmatch(r"item-\d{5}").all()


def test_there_are_as_many_sessions_as_asked_for(log):
    assert sorted(log["SessionId"].unique()) == list(range(1, 3001))


def test_every_session_has_a_target(log):
    assert log.groupby("SessionId").size().min() >= 2


def test_items_are_of_the_catalogue_and_nearly_all_occur(log):
    numbers = log["ItemId"].str.removeprefix("item-").astype(int)
    assert numbers.between(0, 199).all()
    assert numbers.nunique() > 0.9 * 200


def test_popularity_is_skewed(log):
    counts = np.sort(log["ItemId"].value_counts().to_numpy())[::-1]
    assert counts[:20].sum() > 3 * 0.1 * len(log)  # a tenth of the items has more than three times its fair share


def test_events_are_in_time_order(log):
    assert log["Time"].is_monotonic_increasing


def test_times_within_a_session_all_differ(log):
    assert not log.duplicated(["SessionId", "Time"]).any()


@pytest.mark.parametrize("days", [1, 10])
def test_sessions_start_on_every_day_and_on_no_other(days):
    frame = generate_log(2000, 100, days=days)
    assert sorted(set((starts(frame) - START) // DAY)) == list(range(days))


def test_the_day_has_a_rhythm(log):
    hours = (starts(log) - START) % DAY // 3600
    assert hours.between(12, 17).mean() > 1.5 * 6 / 24  # the afternoon has well over its fair share
    assert hours.between(0, 5).mean() < 0.5 * 6 / 24


def test_the_item_before_the_last_helps():
    """Transition shares learned from most sessions, tried on the rest: from the last item alone, and from two."""
    log = generate_log(4000, 100, seed=1)
    sessions = [list(items) for _, items in log.groupby("SessionId")["ItemId"]]
    after, two_after = defaultdict(Counter), defaultdict(Counter)
    for items in sessions[:3200]:
        for before, last, following in zip(items, items[1:], items[2:], strict=False):
            after[last][following] += 1
            two_after[before][following] += 1
    hits = Counter()
    for items in sessions[3200:]:
        for before, last, following in zip(items, items[1:], items[2:], strict=False):
            from_last, from_before = shares(after[last]), shares(two_after[before])
            both = from_last.copy()
            both.update(from_before)
            hits["last"] += following in first_five(from_last)
            hits["both"] += following in first_five(both)
    assert hits["both"] > 1.03 * hits["last"]


def shares(counts):
    return Counter({item: count / counts.total() for item, count in counts.items()})


def first_five(counts):
    return [item for item, _ in counts.most_common(5)]


def test_the_seed_decides_all():
    first, again, other = (generate_log(50, 100, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_the_global_generator_is_neither_used_nor_moved():
    np.random.seed(1)
    first = generate_log(20, 100)
    drawn = np.random.random()
    np.random.seed(1)
    assert np.random.random() == drawn
    pd.testing.assert_frame_equal(generate_log(20, 100), first)


@pytest.mark.parametrize("num_items", [100, 149, 150])
def test_the_least_and_odd_sizes(num_items):
    frame = generate_log(1, num_items, days=1)
    assert read_log(frame).num_sessions == 1


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_sessions": 0}, "sessions must be >= 1, got 0"),
        ({"num_items": 99}, "items must be >= 100, got 99"),
        ({"days": 0}, "days must be >= 1, got 0"),
        ({"days": -3}, "days must be >= 1, got -3"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
    ],
    ids=str,
)
def test_numbers_that_are_too_small_are_refused(numbers, message):
    with pytest.raises(ParameterError) as error:
        generate_log(**{"num_sessions": 5, "num_items": 100, **numbers})
    assert str(error.value) == message
