"""Overlap of two logs counted by hand, and each warning just above and just below where it begins."""

from __future__ import annotations

import pytest

from gru4rec.data.leakage import Overlap, compare_logs, leakage_warnings
from gru4rec.data.splitting import split_last_item, split_time_share

CLEAN = Overlap(100, 1000, 0, 0, 0, 0)


def test_overlap_by_hand(make_sessions):
    train = make_sessions([[1, 2], [2, 3]], times=[[0, 10], [20, 40]], session_ids=[1, 2])
    test = make_sessions(
        [[1, 9], [3, 1], [2, 2, 8], [1]], times=[[19, 50], [20, 21], [39, 50, 60], [40]], session_ids=[2, 3, 4, 5]
    )
    assert compare_logs(train, test) == Overlap(
        num_test_sessions=4,
        num_test_events=8,
        num_interleaved_sessions=1,  # starts at 19, the last training session at 20
        num_early_sessions=3,  # before 40
        num_shared_sessions=1,
        num_unknown_events=2,
    )


def test_items_of_the_vocabulary_that_never_occur_are_unknown(make_sessions):
    whole = make_sessions([[1, 2], [3, 2]])
    train, test = split_time_share(whole, 0.5)
    assert compare_logs(train, test).num_unknown_events == 1


def test_ids_of_two_kinds_are_compared_as_text(make_sessions):
    train = make_sessions([["1", "2"]], session_ids=["7"])
    test = make_sessions([[1, 3]], session_ids=[7])
    overlap = compare_logs(train, test)
    assert (overlap.num_shared_sessions, overlap.num_unknown_events) == (1, 1)


def test_a_split_by_time_is_clean_and_one_by_last_item_is_not(make_sessions):
    log = make_sessions([[1, 2, 3]] * 20, times=[[start, start + 1, start + 2] for start in range(0, 100, 5)])
    assert leakage_warnings(compare_logs(*split_time_share(log, 0.3))) == []
    told = leakage_warnings(compare_logs(*split_last_item(log)))
    assert told[0].startswith("19 of 20 test sessions (95%) start before the last training session starts")
    assert told[1].startswith("20 session ids are in both logs")
    assert all("gru4rec data split --last-days" in warning for warning in told[:2])


@pytest.mark.parametrize(
    ("overlap", "words"),
    [
        (CLEAN, []),
        (Overlap(100, 1000, 1, 1, 0, 0), ["1 of 100 test sessions (1%) start before the last training session starts"]),
        (Overlap(100, 1000, 0, 20, 0, 0), []),
        (Overlap(100, 1000, 0, 21, 0, 0), ["21 of 100 test sessions (21%) start before the last training event"]),
        (Overlap(100, 1000, 0, 0, 1, 0), ["1 session ids are in both logs"]),
        (Overlap(100, 1000, 0, 0, 0, 200), []),
        (Overlap(100, 1000, 0, 0, 0, 201), ["201 of 1,000 test events (20%) have items unknown to the training log"]),
    ],
)
def test_warnings(overlap, words):
    told = leakage_warnings(overlap)
    assert len(told) == len(words)
    assert all(warning.startswith(start) for warning, start in zip(told, words, strict=True))
