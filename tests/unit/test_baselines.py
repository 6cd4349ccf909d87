"""Baselines against a slow reference: for each target, the sort key of every item is compared with the target's."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.baselines import BASELINES, markov_ranks, popularity_ranks
from gru4rec.data.sessions import ItemVocabulary
from gru4rec.errors import DataError, ParameterError

NUM_ITEMS = 7
EVENTS = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=6), min_size=1, max_size=10)
WITH_PAIRS = EVENTS.filter(lambda sessions: max(map(len, sessions)) >= 2)


@pytest.fixture(scope="session")
def log(make_sessions):
    """Build a log over the items 0 .. NUM_ITEMS-1, whichever of them occur."""

    def make(sessions):
        made = make_sessions(sessions)
        ids = np.array(made.items.ids, dtype=np.int32)
        return replace(made, item_index=ids[made.item_index], items=ItemVocabulary(np.arange(NUM_ITEMS)))

    return make


def pairs(sessions, steps):
    """Return (item, next item) of each session, the last pair only with steps='last'."""
    return [pair for session in sessions for pair in list(pairwise(session))[-1 if steps == "last" else 0 :]]


def slow_ranks(name, train, test, steps):
    events = [item for session in train for item in session]
    followed = pairs(train, "all")

    def key(current, item):
        popularity = events.count(item)
        return popularity if name == "popularity" else (followed.count((current, item)), popularity)

    return [
        sum(key(current, item) >= key(current, target) for item in range(NUM_ITEMS))
        for current, target in pairs(test, steps)
    ]


@pytest.mark.parametrize("steps", ["all", "last"])
@pytest.mark.parametrize("name", ["popularity", "first-order Markov"])
@settings(max_examples=80, deadline=None)
@given(train=WITH_PAIRS, test=WITH_PAIRS)
def test_ranks_equal_a_slow_reference(log, name, steps, train, test):
    ranks = BASELINES[name](log(train), log(test), steps)
    assert ranks.tolist() == slow_ranks(name, train, test, steps)


def test_a_worked_example(log):
    train = log([[0, 1, 0, 1], [0, 2], [2, 0, 3], [4]])
    # Events: item 0 has 4, items 1 and 2 two each, items 3 and 4 one each, items 5 and 6 none.
    # After 0 came 1 twice, 2 once and 3 once; 2 is more popular than 3. Then by popularity: 0 | 4 | 5 6.
    test = log([[0, 1], [0, 2], [0, 3], [0, 0], [0, 4], [0, 6], [5, 1]])
    assert markov_ranks(train, test).tolist() == [1, 2, 3, 4, 5, 7, 3]
    assert popularity_ranks(train, test).tolist() == [3, 3, 5, 1, 5, 7, 3]


def test_items_as_frequent_as_each_other_all_take_the_worst_rank(log):
    train, test = log([[item, item] for item in range(NUM_ITEMS)]), log([[1, 2, 3]])
    assert popularity_ranks(train, test).tolist() == [NUM_ITEMS] * 2
    assert markov_ranks(train, test).tolist() == [NUM_ITEMS] * 2


@pytest.mark.parametrize("rank", BASELINES.values(), ids=BASELINES)
def test_ranks_are_whole_numbers(log, rank):
    ranks = rank(log([[0, 1]]), log([[0, 1], [1, 2, 3]]))
    assert (ranks.dtype, ranks.shape) == (np.int64, (3,))


@pytest.mark.parametrize("rank", BASELINES.values(), ids=BASELINES)
@pytest.mark.parametrize(
    ("test", "steps", "error"),
    [([[0], [1]], "all", DataError), ([[0, 1]], "first", ParameterError)],
    ids=["nothing to rank", "unknown steps"],
)
def test_what_cannot_be_ranked_is_an_error(log, rank, test, steps, error):
    with pytest.raises(error):
        rank(log([[0, 1]]), log(test), steps)
