"""`DistinctRows` against dictionaries."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.nn.distinct import DistinctRows

NUM_ROWS = 9
CPU = torch.device("cpu")
ENTRIES = st.lists(st.integers(0, NUM_ROWS - 1), max_size=30)


def find(entries, static_shapes=False):
    return DistinctRows(NUM_ROWS, CPU, static_shapes).find(torch.tensor(entries, dtype=torch.int64))


@settings(max_examples=60, deadline=None)
@given(before=ENTRIES, entries=ENTRIES)
def test_rows_come_once_in_the_order_in_which_they_first_come_up(before, entries):
    finder = DistinctRows(NUM_ROWS, CPU)
    finder.find(torch.tensor(before, dtype=torch.int64))
    distinct = finder.find(torch.tensor(entries, dtype=torch.int64))
    assert distinct.rows.tolist() == list(dict.fromkeys(entries))
    assert distinct.rows[distinct.places].tolist() == entries
    assert distinct.is_first is None


@settings(max_examples=60, deadline=None)
@given(entries=ENTRIES)
def test_static_shapes_do_not_hang_on_the_entries(entries):
    distinct = find(entries, static_shapes=True)
    assert distinct.rows.tolist() == entries
    assert distinct.places.tolist() == [entries.index(entry) for entry in entries]
    assert distinct.is_first.tolist() == [entry not in entries[:place] for place, entry in enumerate(entries)]


@pytest.mark.parametrize("static_shapes", [False, True])
@settings(max_examples=60, deadline=None)
@given(entries=st.lists(st.tuples(st.integers(0, NUM_ROWS - 1), st.integers(-50, 50)), max_size=30))
def test_sum_equals_a_dict(static_shapes, entries):
    sums = defaultdict(int)
    for row, value in entries:
        sums[row] += value
    distinct = find([row for row, _ in entries], static_shapes)
    summed = distinct.sum(torch.tensor([[value, -value] for _, value in entries]).reshape(-1, 2))
    kept = torch.ones(len(summed), dtype=torch.bool) if distinct.is_first is None else distinct.is_first
    assert dict(zip(distinct.rows[kept].tolist(), summed[kept].tolist(), strict=True)) == {
        row: [total, -total] for row, total in sums.items()
    }
    assert not summed[~kept].any()


@pytest.mark.parametrize(("static_shapes", "expected"), [(False, [0, 1, 2, 2, 3]), (True, [0, 1, 2, 3, 4])])
def test_first_entries_take_up_the_first_rows(static_shapes, expected):
    distinct = find([7, 2, 7, 4], static_shapes)
    assert [distinct.count_first(count) for count in range(5)] == expected
    first = distinct.first(distinct.count_first(3))
    assert set(first.rows.tolist()) == {7, 2}


def test_order_does_not_hang_on_threads():
    """The norm of a gradient, and so every bit after it, depends on this order; 40,000 rows make torch go parallel."""
    threads = torch.get_num_threads()
    entries = torch.randint(0, 5000, (40_000,), generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(2)
    try:
        orders = [DistinctRows(5000, CPU).find(entries).rows for _ in range(20)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(order, orders[0]) for order in orders)
