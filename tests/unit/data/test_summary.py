"""The figures of a log counted by hand, and each warning just above and just below where it begins."""

from __future__ import annotations

import json

import pytest

from gru4rec.data.summary import summarise

DAY = 86_400
YEAR = 365 * DAY


def warnings_of(sessions):
    return summarise(sessions)[1]


def test_figures_by_hand(make_sessions):
    sessions = make_sessions(
        [[1, 1, 2], [3], [1, 2, 2, 1, 1], [1]],
        times=[[0, 0, 10], [10], [20, 30, 30, 40, 50], [2 * DAY]],
    )
    summary, warnings = summarise(sessions)
    assert summary == {
        "sessions": 4,
        "events": 10,
        "items": 3,
        "targets": 6,
        "sessions of one event": 2,
        "median session length": 2.0,  # of 1 1 3 5
        "longest session": 5,
        "items with fewer than 5 events": 2,  # item 1 has 6
        "span in days": 2.0,
        "neighbours at the same time": 2,
        "neighbours with the same item": 3,
    }
    assert len(warnings) == 1  # 2 of 6 targets at the same time


def test_items_of_the_vocabulary_that_do_not_occur_are_not_counted(make_sessions):
    summary, _ = summarise(make_sessions([[1, 2], [3, 3]]).select_sessions([True, False]))
    assert (summary["items"], summary["items with fewer than 5 events"]) == (2, 2)


def test_neighbours_of_two_sessions_are_not_neighbours(make_sessions):
    summary, _ = summarise(make_sessions([[1, 2], [2, 3], [3, 1]], times=[[0, 5], [5, 6], [6, 7]]))
    assert (summary["neighbours at the same time"], summary["neighbours with the same item"]) == (0, 0)


def test_figures_fit_json(make_sessions):
    summary, warnings = summarise(make_sessions([[1, 2]], times=[[0.5, 1.5]]))
    assert json.loads(json.dumps([summary, warnings], allow_nan=False)) == [summary, warnings]


def test_a_good_log_has_no_warnings(make_sessions):
    assert warnings_of(make_sessions([[1, 2, 3], [2, 1]])) == []


def test_one_event(make_sessions):
    summary, warnings = summarise(make_sessions([[7]]))
    assert (summary["events"], summary["targets"], summary["span in days"]) == (1, 0, 0.0)
    assert len(warnings) == 1


def test_sessions_of_one_event_only(make_sessions):
    assert warnings_of(make_sessions([[1], [2]])) == [
        "no session has two events: there is nothing to learn; is --session-key the right column?"
    ]


@pytest.mark.parametrize(("tied", "share"), [(1, None), (2, "40%")])
def test_equal_times_of_more_than_a_fifth(make_sessions, tied, share):
    times = [0] * (tied + 1) + list(range(1, 6 - tied))  # five pairs of neighbours
    wanted = [f"{share} of neighbouring events have the same time: is the order real?"] if share else []
    assert warnings_of(make_sessions([[1, 2, 3, 4, 5, 6]], times=[times])) == wanted


@pytest.mark.parametrize(("years", "warned"), [(99, False), (101, True)])
def test_more_than_a_hundred_years(make_sessions, years, warned):
    sessions = make_sessions([[1, 2], [3, 4]], times=[[0, 1], [years * YEAR, years * YEAR + 1]])
    wanted = ["the log spans more than 100 years: are its times in ms, us or ns? say so with --time-unit"]
    assert warnings_of(sessions) == (wanted if warned else [])


@pytest.mark.parametrize(("days", "warned"), [(29, False), (31, True)])
def test_sessions_of_more_than_a_month(make_sessions, days, warned):
    # The median of three sessions, so one long session is not enough.
    times = [[0, 90 * DAY], [1, 1 + days * DAY], [2, 3]]
    wanted = ["half of the sessions last over 30 days: are these users' histories rather than sessions?"]
    assert warnings_of(make_sessions([[1, 2]] * 3, times=times)) == (wanted if warned else [])
