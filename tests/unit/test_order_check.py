"""The order check on logs that are made so that the answer is known, and its pieces by hand."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from gru4rec import order_check
from gru4rec.errors import DataError
from gru4rec.order_check import OrderCheck, VariantFigures, check_order, neighbour_pairs, shuffle_events

NUM_SESSIONS, NUM_ITEMS, LENGTH = 1200, 120, 5


def ring(random):
    """Items follow one another on a ring: the last item tells the next one, the set of items does not say where."""
    return ((random.integers(NUM_ITEMS) + np.arange(LENGTH)) % NUM_ITEMS).tolist()


def bag(random):
    """Some items of one group in random order: order carries nothing."""
    return (10 * random.integers(NUM_ITEMS // 10) + random.permutation(10)[:LENGTH]).tolist()


def detour(random):
    """Every other item is item 0, which tells nothing of the next one: the model must remember what was before."""
    return [item for place in ring(random) for item in (1 + place, 0)]


def make_log(make_sessions, make_session):
    random = np.random.default_rng(0)
    times = [list(range(100 * start, 100 * start + 2 * LENGTH)) for start in range(NUM_SESSIONS)]
    events = [make_session(random) for _ in range(NUM_SESSIONS)]
    return make_sessions(events, [time[: len(session)] for time, session in zip(times, events, strict=True)])


def test_order_matters_on_a_ring(make_sessions):
    said = []
    checked = check_order(make_log(make_sessions, ring), say=said.append)
    assert checked.order_matters
    assert checked.in_order.metrics["mrr@20"] > 0.7  # a perfect model has 1
    assert checked.shuffled.metrics["mrr@20"] < checked.in_order.metrics["mrr@20"] - 0.1
    assert checked.verdict.startswith("order matters in this log: MRR@20 is ")
    assert (checked.num_test_sessions, checked.num_targets) == (120, 120 * (LENGTH - 1))
    assert checked.num_train_sessions == NUM_SESSIONS - 120
    assert said[0] == "order check: in order, epoch 1/3"
    assert len(said) == 9


def test_order_does_not_matter_among_bags(make_sessions):
    checked = check_order(make_log(make_sessions, bag))
    assert not checked.order_matters
    assert checked.in_order.metrics["mrr@20"] > 0.15  # it does learn: by chance it is below 0.03
    assert checked.verdict.startswith("order does not matter in this log: MRR@20 is ")
    assert "on 120 test sessions" in checked.verdict


def test_memory_helps_after_a_detour(make_sessions):
    checked = check_order(make_log(make_sessions, detour))
    assert checked.memory_helps
    assert "what came before the last item helps too" in checked.verdict


def test_the_seed_decides(make_sessions, monkeypatch):
    monkeypatch.setattr(order_check, "MAX_EPOCHS", 1)
    log = make_log(make_sessions, bag)
    first, again, other = (check_order(log, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_only_the_most_recent_sessions_are_used(make_sessions, monkeypatch):
    monkeypatch.setattr(order_check, "MAX_SESSIONS", 100)
    checked = check_order(make_log(make_sessions, bag))
    assert checked.num_train_sessions + checked.num_test_sessions == 100


def test_a_quiet_end_takes_a_larger_part_for_testing(make_sessions):
    # The last session that starts does so at 85 of 100; it runs until the end.
    times = [[start, start + 1] for start in range(85)] + [[85, 100]]
    checked = check_order(make_sessions([[1, 2]] * 86, times))
    # Later than 80: sessions 81 .. 85
    assert (checked.num_train_sessions, checked.num_test_sessions) == (81, 5)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([[1], [2]], "no session has two events: there is no order to check"),
        ([[1, 2]], "the order check finds nothing to test on: splitting off the last 0.2 of the time leaves no test"),
    ],
)
def test_a_log_with_nothing_to_test_on_is_refused(make_sessions, events, message):
    with pytest.raises(DataError, match=message):
        check_order(make_sessions(events))


def test_neighbour_pairs_by_hand(make_sessions, unpack):
    sessions = make_sessions([[1, 2, 3], [4], [3, 1]], times=[[0, 5, 6], [7], [8, 9]], session_ids=["a", "b", "c"])
    pairs = neighbour_pairs(sessions)
    assert unpack(pairs) == [("a", [1, 2], [0, 5]), ("a", [2, 3], [5, 6]), ("c", [3, 1], [8, 9])]
    assert pairs.num_targets == sessions.num_targets


def test_shuffling_keeps_each_session_s_items_and_spreads_them_evenly(make_sessions, unpack):
    sessions = make_sessions([[1, 2, 3]] * 6000 + [[4, 4]])
    shuffled = unpack(shuffle_events(sessions, np.random.default_rng(0)))
    assert all(sorted(items) == [1, 2, 3] for _, items, _ in shuffled[:-1])
    assert shuffled[-1][1] == [4, 4]
    orders = Counter(tuple(items) for _, items, _ in shuffled[:-1])
    assert len(orders) == 6
    assert all(abs(count - 1000) < 120 for count in orders.values())  # standard deviation 29
    assert [times for _, _, times in shuffled] == [times for _, _, times in unpack(sessions)]


def test_verdicts_follow_the_intervals_of_the_gains():
    figures = [VariantFigures({"mrr@20": value}, {"mrr@20": (0.0, 1.0)}) for value in (0.5, 0.4, 0.3)]
    checked = OrderCheck(*figures, (0.1, 0.3), (-0.01, 0.2), 1000, 2000, 3000)
    assert checked.verdict == (
        "order matters in this log: MRR@20 is 0.5000 in order and 0.3000 shuffled, a gain of 0.1000 to 0.3000 on 2,000 "
        "test sessions; what came before the last item adds nothing that this check can see: MRR@20 is 0.4000 with the "
        "last item alone, a gain of -0.0100 to 0.2000"
    )
    assert not dataclasses.replace(checked, gain_of_order=(0.0, 0.3)).order_matters
