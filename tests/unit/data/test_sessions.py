"""`Sessions` against lists of lists: every operation is done a second time, slowly, on plain Python lists."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.data.sessions import ItemVocabulary, concatenate_sessions, order_events, ranges
from gru4rec.errors import DataError

EVENTS = st.lists(st.lists(st.integers(10, 16), min_size=1, max_size=5), min_size=1, max_size=8)
modest = settings(max_examples=50, deadline=None)


def text(*ids):
    return np.array(ids, dtype=object)


def test_counts(make_sessions):
    sessions = make_sessions([[5, 7, 5], [9], [7, 5]], times=[[0, 1, 2], [3], [3.5, 8]])
    assert (sessions.num_sessions, sessions.num_events, sessions.num_items, sessions.num_targets) == (3, 6, 3, 3)
    assert sessions.lengths.tolist() == [3, 1, 2]
    assert sessions.start_times.tolist() == [0, 3, 3.5]
    assert sessions.item_counts().tolist() == [3, 2, 1]


def test_a_session_without_events_has_no_targets(make_sessions):
    assert make_sessions([[5, 7], [], [9]]).num_targets == 1


def test_counts_cover_items_that_do_not_occur(make_sessions):
    without_last = make_sessions([[5, 7], [9]]).select_sessions(np.array([True, False]))
    assert without_last.num_items == 3
    assert without_last.item_counts().tolist() == [1, 1, 0]


@modest
@given(EVENTS, st.data())
def test_selected_events_equal_a_list_comprehension(make_sessions, unpack, events, data):
    sessions = make_sessions(events)
    mask = data.draw(st.lists(st.booleans(), min_size=sessions.num_events, max_size=sessions.num_events))
    flags = iter(mask)
    wanted = []
    for session_id, items, times in unpack(sessions):
        kept = [(item, time) for item, time in zip(items, times, strict=True) if next(flags)]
        if kept:
            wanted.append((session_id, [item for item, _ in kept], [time for _, time in kept]))
    assert unpack(sessions.select_events(np.array(mask, dtype=bool))) == wanted


@modest
@given(EVENTS, st.data())
def test_selected_sessions_equal_a_list_comprehension(make_sessions, unpack, events, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    sessions = make_sessions(events)
    wanted = [session for session, keep in zip(unpack(sessions), mask, strict=True) if keep]
    assert unpack(sessions.select_sessions(np.array(mask, dtype=bool))) == wanted


def test_selecting_a_session_without_events_drops_it(make_sessions, unpack):
    sessions = make_sessions([[5], [], [7]])
    assert unpack(sessions.select_sessions(np.array([True, True, False]))) == [(0, [5], [0])]


def test_selecting_leaves_the_original_alone(make_sessions, unpack):
    sessions = make_sessions([[5, 7], [9]])
    before = unpack(sessions)
    sessions.select_sessions(np.array([False, True])).with_own_items().item_index[:] = 0
    assert unpack(sessions) == before


@modest
@given(EVENTS, st.data())
def test_own_items_are_the_ones_that_occur(make_sessions, unpack, events, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    part = make_sessions(events).select_sessions(np.array(mask, dtype=bool))
    own = part.with_own_items()
    assert unpack(own) == unpack(part)
    assert own.items.ids.tolist() == sorted({item for _, items, _ in unpack(part) for item in items})
    assert own.item_index.dtype == np.int32


@modest
@given(EVENTS, st.sets(st.integers(10, 20), min_size=1))
def test_events_of_items_another_vocabulary_lacks_are_dropped_and_counted(make_sessions, unpack, events, known):
    vocabulary = ItemVocabulary(np.array(sorted(known, reverse=True)))
    over, num_dropped = make_sessions(events).with_items_of(vocabulary)
    kept = [[item for item in session if item in known] for session in events]
    assert [items for _, items, _ in unpack(over)] == [session for session in kept if session]
    assert num_dropped == sum(item not in known for session in events for item in session)
    assert over.items is vocabulary


def test_without_ids_numbers_sessions_and_items(make_sessions, unpack):
    sessions = make_sessions([["b", "a"], ["b"]], session_ids=["x", "y"])
    assert unpack(sessions.without_ids()) == [(0, [1, 0], [0, 1]), (1, [1], [2])]


def test_to_frame_has_the_ids_of_the_log(make_sessions):
    sessions = make_sessions([["b", "a"], ["b"]], times=[[1, 2], [1.5]], session_ids=["x", "y"])
    wanted = pd.DataFrame({"SessionId": ["x", "x", "y"], "ItemId": ["b", "a", "b"], "Time": [1.0, 2.0, 1.5]})
    pd.testing.assert_frame_equal(sessions.to_frame(), wanted, check_dtype=False)


@pytest.mark.parametrize(
    ("known", "asked", "wanted"),
    [
        (np.array([7, 9]), np.array([9, 7, 8]), [1, 0, -1]),
        (np.array([7, 9]), text("9", "x", "007"), [1, -1, -1]),
        (np.array([7, 9]), np.array(["9", "x"]), [1, -1]),
        (text("7", "a"), np.array([7, 8]), [0, -1]),
        (text("7", "a"), text("a", "A"), [1, -1]),
        (text("7", "a"), np.array(["a", "A"]), [1, -1]),
        (np.array([7, 9]), np.array([], dtype=np.int64), []),
    ],
)
def test_encode_gives_each_id_its_place_and_unknown_ones_minus_one(known, asked, wanted):
    index = ItemVocabulary(known).encode(asked)
    assert index.tolist() == wanted
    assert index.dtype == np.int32


def test_decode_has_the_shape_of_its_argument():
    assert ItemVocabulary(text("a", "b")).decode([[1, 0], [1, 1]]).tolist() == [["b", "a"], ["b", "b"]]


@modest
@given(EVENTS, EVENTS, st.data())
def test_concatenation_is_both_logs_sorted_by_start(make_sessions, unpack, first, second, data):
    logs = []
    for events in (first, second):
        starts = data.draw(st.lists(st.integers(0, 20), min_size=len(events), max_size=len(events)).map(sorted))
        times = [[start + step for step in range(len(items))] for start, items in zip(starts, events, strict=True)]
        logs.append(make_sessions(events, times))
    both = concatenate_sessions(*logs)
    assert unpack(both) == sorted(unpack(logs[0]) + unpack(logs[1]), key=lambda session: session[2][0])
    assert both.items.ids.tolist() == sorted({item for events in (first, second) for items in events for item in items})


def test_concatenation_turns_session_ids_of_two_kinds_into_text(make_sessions):
    both = concatenate_sessions(make_sessions([[1]], session_ids=[7]), make_sessions([[2]], session_ids=["a"]))
    assert both.session_ids.tolist() == ["7", "a"]


def test_concatenation_refuses_item_ids_of_two_kinds(make_sessions):
    with pytest.raises(DataError, match="different kinds of item ids: one has integers, the other text"):
        concatenate_sessions(make_sessions([[1]]), make_sessions([["a"]]))


@modest
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4))))
def test_ranges_equal_chained_ranges(pairs):
    starts, lengths = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    wanted = [number for start, length in pairs for number in range(start, start + length)]
    assert ranges(starts, lengths).tolist() == wanted


@settings(max_examples=100, deadline=None)
@given(events=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=30))
def test_order_of_events_equals_sorting_lists(events):
    names = sorted({session for session, _ in events})
    codes = np.array([names.index(session) for session, _ in events], dtype=np.int32)
    order, by_start, offsets = order_events(codes, np.array([time for _, time in events]), len(names))
    in_time = sorted(range(len(events)), key=lambda row: events[row][1])  # equal times in the order of the log
    starts = list(dict.fromkeys(events[row][0] for row in in_time))
    expected = [[row for row in in_time if events[row][0] == session] for session in starts]
    assert [names[code] for code in by_start.tolist()] == starts
    assert order.tolist() == [row for session in expected for row in session]
    assert np.diff(offsets).tolist() == list(map(len, expected))
