"""InteractionMatrix -> Sessions, on a fake of recpack's class and on a class of somebody else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from gru4rec.data.interactions import check_interactions, is_interactions, read_interactions
from gru4rec.errors import DataError

SHAPE = (5, 7)
EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=30)


class Purchases:
    """An InteractionMatrix of another house: same interface, no common base."""

    shape = SHAPE
    has_timestamps = True

    @property
    def timestamps(self):
        index = pd.MultiIndex.from_tuples([(3, 6), (3, 1), (0, 1)], names=["buyer", "product"])
        return pd.Series([20.5, 10.25, 30.0], index=index)

    @property
    def values(self):
        return sparse.csr_matrix(([1, 1, 1], ([3, 3, 0], [6, 1, 1])), shape=self.shape)


# --- read_interactions -----------------------------------------------------------------------------------------------


def test_a_history_is_in_order_of_time(make_interactions, unpack):
    matrix = make_interactions([(2, 5, 30), (2, 1, 10), (2, 3, 20)], SHAPE)
    assert unpack(read_interactions(matrix)) == [(2, [1, 3, 5], [10, 20, 30])]


def test_equal_times_keep_the_order_of_the_matrix(make_interactions, unpack):
    matrix = make_interactions([(2, 5, 10), (2, 1, 10), (2, 3, 10), (2, 6, 9)], SHAPE)
    assert unpack(read_interactions(matrix)) == [(2, [6, 5, 1, 3], [9, 10, 10, 10])]


def test_repeated_interactions_are_events_of_their_own(make_interactions, unpack):
    matrix = make_interactions([(2, 5, 10), (2, 1, 11), (2, 5, 12), (2, 5, 12)], SHAPE)
    assert unpack(read_interactions(matrix)) == [(2, [5, 1, 5, 5], [10, 11, 12, 12])]


def test_users_without_history_have_no_session(make_interactions, unpack):
    matrix = make_interactions([(4, 0, 1), (1, 0, 2)], SHAPE)
    assert [user for user, _, _ in unpack(read_interactions(matrix))] == [4, 1]  # in order of their start


def test_the_vocabulary_is_all_columns(make_interactions):
    sessions = read_interactions(make_interactions([(0, 2, 1), (0, 6, 2)], SHAPE))
    assert sessions.items.ids.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert sessions.item_index.tolist() == [2, 6]


@settings(deadline=None)
@given(EVENTS)
def test_every_event_arrives_at_its_place(make_interactions, unpack, events):
    sessions = read_interactions(make_interactions(events, SHAPE))
    found = {user: list(zip(times, items, strict=True)) for user, items, times in unpack(sessions)}
    expected = {
        user: sorted(((time, item) for owner, item, time in events if owner == user), key=lambda event: event[0])
        for user in {user for user, _, _ in events}
    }
    assert found == expected


def test_a_matrix_of_another_class_is_read(unpack):
    assert is_interactions(Purchases())
    assert check_interactions(X=Purchases()) == SHAPE
    assert unpack(read_interactions(Purchases())) == [(3, [1, 6], [10.25, 20.5]), (0, [1], [30.0])]


def test_the_matrix_is_left_alone(make_interactions):
    matrix = make_interactions([(2, 5, 30), (2, 1, 10)], SHAPE)
    before = matrix.timestamps.copy(), matrix.values.copy()
    read_interactions(matrix)
    pd.testing.assert_series_equal(matrix.timestamps, before[0])
    assert (matrix.values != before[1]).nnz == 0


def test_a_matrix_without_interactions_is_refused(make_interactions):
    with pytest.raises(DataError, match=r"^the InteractionMatrix has no interactions$"):
        read_interactions(make_interactions([], SHAPE))


# --- check_interactions ----------------------------------------------------------------------------------------------


def test_the_common_shape_is_returned(make_interactions):
    first, second = (make_interactions([(0, item, 1)], SHAPE) for item in (1, 2))
    assert check_interactions(X=first, other=second) == SHAPE


@pytest.mark.parametrize(
    "matrix",
    [sparse.csr_matrix(SHAPE), sparse.csr_array(SHAPE), np.zeros(SHAPE), pd.Series([1.0]), [[1, 2]], None],
    ids=lambda matrix: type(matrix).__name__,
)
def test_what_carries_no_order_is_a_type_error_with_a_hint(make_interactions, matrix):
    with pytest.raises(TypeError) as error:
        check_interactions(X=make_interactions([(0, 1, 1)], SHAPE), other=matrix)
    assert str(error.value) == (
        f"other must be an InteractionMatrix, Sessions or a DataFrame, got {type(matrix).__name__}; hint: the order of "
        "events is needed, which a csr matrix does not carry"
    )


def test_a_matrix_without_timestamps_is_a_value_error_with_a_hint(make_interactions):
    with pytest.raises(ValueError, match=r"^X has no timestamps, .*; hint: pass timestamp_ix to it$"):
        check_interactions(X=make_interactions([(0, 1, 1)], SHAPE, timestamps=False))


@pytest.mark.parametrize("shape", [(5, 8), (6, 7)])
def test_shapes_that_differ_are_both_named(make_interactions, shape):
    with pytest.raises(ValueError) as error:
        check_interactions(X=make_interactions([(0, 1, 1)], SHAPE), other=make_interactions([(0, 1, 1)], shape))
    assert str(error.value) == f"other has shape {shape}, but X has shape (5, 7)"


# --- is_interactions -------------------------------------------------------------------------------------------------


def test_a_matrix_without_timestamps_is_still_recognised(make_interactions):
    """Its `timestamps` raises AttributeError, as recpack's does."""
    assert is_interactions(make_interactions([(0, 1, 1)], SHAPE, timestamps=False))


@pytest.mark.parametrize("lacking", ["has_timestamps", "timestamps", "values"])
def test_a_class_that_lacks_one_property_is_not_recognised(lacking):
    names = {"has_timestamps", "timestamps", "values"} - {lacking}
    assert not is_interactions(type("Matrix", (), dict.fromkeys(names))())


def test_dataframes_are_not_taken_for_a_matrix():
    assert not is_interactions(pd.DataFrame({"SessionId": [1], "ItemId": [2], "Time": [3]}))
