"""Picked scores and their gradients, by either way, against scores of the whole table differentiated by autograd."""

from __future__ import annotations

import pytest
import torch

from gru4rec.nn import picking
from gru4rec.nn.distinct import DistinctRows
from gru4rec.nn.picking import Picks, SparseProduct, WholeProduct, make_product
from gru4rec.nn.products import COLUMNS, gather_columns

NUM_ITEMS = 70
WAYS = [pytest.param(lambda picks: WholeProduct(picks, gather_columns(picks.table, picks.rows)), id="whole"),
        pytest.param(SparseProduct, id="sparse")]  # fmt: skip


def make_picks(num_rows, num_picks, size=6, dtype=torch.float64, static_shapes=False, num_items=NUM_ITEMS):
    """Return random picks: some come up twice in a row, and there is a distinct row that nobody picked."""
    generator = torch.Generator().manual_seed(num_rows + num_picks)
    items = torch.randint(num_items - 1, (num_rows, num_picks), generator=generator)
    items[:, -1] = items[:, 0]
    touched = DistinctRows(num_items, torch.device("cpu"), static_shapes).find(
        torch.cat([items.flatten(), torch.tensor([num_items - 1])])
    )
    states, table = (
        torch.randn(rows, size, dtype=torch.float64, generator=generator).to(dtype) for rows in (num_rows, num_items)
    )
    return Picks(states, table, items, touched.rows, touched.places[:-1].view_as(items))


def by_autograd(picks, d_scores):
    """Return scores, and gradients of the states and of the whole table."""
    states, table = picks.states.double().requires_grad_(), picks.table.double().requires_grad_()
    scores = (states @ table.T).gather(1, picks.items)
    return scores.detach(), *torch.autograd.grad(scores, (states, table), d_scores.double())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("static_shapes", [False, True])
@pytest.mark.parametrize("numbers_per_block", [1, 100, 1 << 17])  # a row, a few rows with a rest, and all of them
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("num_rows", [1, 11, 16])
def test_scores_and_gradients_equal_autograd(
    monkeypatch, way, static_shapes, numbers_per_block, dtype, tolerance, num_rows
):
    monkeypatch.setattr(picking, "NUMBERS_PER_BLOCK", numbers_per_block)
    picks = make_picks(num_rows, 5, dtype=dtype, static_shapes=static_shapes)
    d_scores = torch.randn(num_rows, 5, generator=torch.Generator().manual_seed(2)).to(dtype)
    product = way(picks)
    scores = product.scores()
    d_states, d_rows = product.gradients(d_scores)

    assert (scores.dtype, d_states.dtype, d_rows.dtype) == (dtype,) * 3
    assert len(d_rows) == len(picks.rows)
    d_table = torch.zeros(NUM_ITEMS, 6, dtype=torch.float64).index_add_(0, picks.rows, d_rows.double())
    actual = (scores.double(), d_states.double(), d_table)
    torch.testing.assert_close(actual, by_autograd(picks, d_scores), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_scored_is_left_alone(way):
    picks, d_scores = make_picks(11, 5), torch.ones(11, 5, dtype=torch.float64)
    kept = [*picks, d_scores]
    before = [tensor.clone() for tensor in kept]
    product = way(picks)
    product.scores()
    product.gradients(d_scores)
    assert all(map(torch.equal, kept, before))


@pytest.mark.parametrize(
    ("num_items", "num_picks", "expected"),
    [
        (50, 40, WholeProduct),  # at most 50 distinct items for 40 picks
        (100_000, 40, SparseProduct),  # 64 rows of 40 picks are nearly all distinct
    ],
)
def test_one_product_where_picks_repeat_one_another(num_items, num_picks, expected):
    assert isinstance(make_product(make_picks(64, num_picks, num_items=num_items)), expected)


def test_whole_product_is_of_the_distinct_items_only():
    picks = make_picks(4, 3, num_items=100_000)
    product = make_product(picks)
    assert isinstance(product, WholeProduct)
    assert product.columns.shape == (COLUMNS, 6)


def test_blocks_bound_the_memory(monkeypatch):
    """Of 16 rows with 5 picks of 6 numbers, blocks of 100 numbers take 3 at a time."""
    monkeypatch.setattr(picking, "NUMBERS_PER_BLOCK", 100)
    blocks = list(SparseProduct(make_picks(16, 5))._blocks())
    assert [(block.start, block.stop) for block, _ in blocks] == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 15), (15, 16)]
    assert {tuple(memory.shape) for _, memory in blocks} == {(3, 5, 6), (1, 5, 6)}
    assert {memory.data_ptr() for _, memory in blocks} == {blocks[0][1].data_ptr()}
