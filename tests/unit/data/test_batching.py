"""`lay_sessions` against a simulation of session-parallel lanes, one step and one lane at a time."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.data import batching
from gru4rec.data.batching import lay_sessions

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=15)
modest = settings(max_examples=80, deadline=None)


@pytest.fixture(scope="session")
def numbered(make_sessions):
    """A function: session lengths -> Sessions in which item n is event n, so that a cell tells which event it is."""

    def make(lengths):
        ends = np.cumsum(lengths)
        return make_sessions(
            [list(range(end - length, end)) for end, length in zip(ends.tolist(), lengths, strict=True)]
        )

    return make


def simulate(lengths, batch_size):
    """Yield the (input, target, start) of every lane of each step; a lane that is done takes the next session."""
    ends = np.cumsum(lengths).tolist()
    waiting = [(end - length, end - 1) for end, length in zip(ends, lengths, strict=True) if length > 1]
    lanes = []
    while waiting or lanes:
        while waiting and len(lanes) < batch_size:
            first, last = waiting.pop(0)
            lanes.append((first, first, last))
        yield [(event, event + 1, event == first) for event, first, _ in lanes]
        lanes = [(event + 1, first, last) for event, first, last in lanes if event + 1 < last]


def cells(grid):
    """The (input, target, start) of each step's prefix of lanes."""
    return [
        list(zip(grid.inputs[t, :n].tolist(), grid.targets[t, :n].tolist(), grid.starts[t, :n].tolist(), strict=True))
        for t, n in enumerate(grid.lanes_per_step.tolist())
    ]


@modest
@given(LENGTHS, st.integers(1, 6))
def test_each_step_holds_what_the_simulation_holds(numbered, lengths, batch_size):
    grid = lay_sessions(numbered(lengths), batch_size)
    assert list(map(Counter, cells(grid))) == list(map(Counter, simulate(lengths, batch_size)))


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_sessions_are_laid_some_at_a_time(numbered, monkeypatch, at_once):
    lengths = [3, 1, 2, 6, 2, 4, 2]
    monkeypatch.setattr(batching, "SESSIONS_AT_ONCE", at_once)
    grid = lay_sessions(numbered(lengths), 3)
    assert list(map(Counter, cells(grid))) == list(map(Counter, simulate(lengths, 3)))


@modest
@given(LENGTHS, st.integers(1, 6))
def test_each_pair_of_events_appears_once(numbered, lengths, batch_size):
    sessions = numbered(lengths)
    grid = lay_sessions(sessions, batch_size)
    laid = sorted((event, target) for step in cells(grid) for event, target, _ in step)
    last_events = set((np.cumsum(lengths) - 1).tolist())
    assert laid == [(event, event + 1) for event in range(sum(lengths)) if event not in last_events]
    assert grid.num_targets == sessions.num_targets == len(laid)


@modest
@given(LENGTHS, st.integers(1, 6))
def test_lanes_are_a_prefix_that_never_grows(numbered, lengths, batch_size):
    grid = lay_sessions(numbered(lengths), batch_size)
    assert np.all(np.diff(grid.lanes_per_step) <= 0)
    assert np.all(grid.lanes_per_step >= 1)
    assert grid.inputs.shape == grid.targets.shape == grid.starts.shape
    assert grid.inputs.shape == (grid.num_steps, min(batch_size, sum(length > 1 for length in lengths)))
    beyond = np.arange(grid.inputs.shape[1]) >= grid.lanes_per_step[:, None]
    assert not grid.targets[beyond].any()
    assert not grid.starts[beyond].any()


@modest
@given(LENGTHS, st.integers(1, 6))
def test_a_lane_goes_on_with_its_session_until_the_next_start(numbered, lengths, batch_size):
    expected = {}
    for step in cells(lay_sessions(numbered(lengths), batch_size)):
        for lane, (event, target, start) in enumerate(step):
            assert start or event == expected[lane]
            expected[lane] = target


def test_a_worked_example(make_sessions):
    # Sessions a b c d | e f | g h i | j k on two lanes: 'e f' ends first, then both lanes after step 3.
    grid = lay_sessions(make_sessions(["abcd", "ef", "ghi", "jk"]), batch_size=2)
    letters = np.array(list("abcdefghijk"))
    assert letters[grid.inputs[:3]].tolist() == [["a", "e"], ["b", "g"], ["c", "h"]]
    assert letters[grid.targets[:3]].tolist() == [["b", "f"], ["c", "h"], ["d", "i"]]
    assert grid.starts[:3].tolist() == [[True, True], [False, True], [False, False]]
    assert (letters[grid.inputs[3, 0]], letters[grid.targets[3, 0]], grid.starts[3, 0]) == ("j", "k", True)
    assert grid.lanes_per_step.tolist() == [2, 2, 2, 1]


def test_arrays_have_the_documented_types(numbered):
    grid = lay_sessions(numbered([3, 2]), batch_size=2)
    assert [grid.inputs.dtype, grid.targets.dtype, grid.starts.dtype] == [np.int32, np.int32, np.bool_]
    assert grid.lanes_per_step.dtype == np.int64


def test_sessions_of_one_event_make_an_empty_grid(numbered):
    grid = lay_sessions(numbered([1, 1]), batch_size=4)
    assert (grid.num_steps, grid.num_targets, grid.inputs.size) == (0, 0, 0)
