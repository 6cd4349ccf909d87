"""Scores of items that each row has picked for itself, and their gradients: pick by pick, or all by one product.

N rows, C picks of each, H hidden size, U distinct items among all picks. Biases are left to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from gru4rec.nn.products import gather_columns, input_gradient, linear, weight_gradient

DISTINCT_PER_PICK = 12
"""Up to how many distinct items for each of C the whole product is taken.

It multiplies N U H numbers, the sparse one moves N C H: so U / C decides. With 32 to 512 rows and H = 100 both took the
same time at 9 to 18 on an Intel Xeon; sooner with smaller H, later with larger.
"""
NUMBERS_PER_BLOCK = 1 << 17  # of gathered rows: they stay in a core's cache, and its pages are not asked for anew


class Picks(NamedTuple):
    """What is scored.

    Parameters
    ----------
    states : Tensor, shape (N, H)
    table : Tensor, shape (num_items, H)
    items : Tensor of int64, shape (N, C)
    rows : Tensor of int64, shape (U,)
        The items without repetition; there may be others.
    places : Tensor of int64, shape (N, C)
        Place in `rows` of each item.
    """

    states: Tensor
    table: Tensor
    items: Tensor
    rows: Tensor
    places: Tensor


class PickedProduct(Protocol):
    """The product of each row's state with the table's rows that it picked."""

    def scores(self) -> Tensor:
        """Return the products, shape (N, C)."""

    def gradients(self, d_scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the states, shape (N, H), and of the distinct rows of the table, shape (U, H)."""


def make_product(picks: Picks) -> PickedProduct:
    """Choose the way that takes less time."""
    if len(picks.rows) <= DISTINCT_PER_PICK * picks.places.shape[1]:
        return WholeProduct(picks, gather_columns(picks.table, picks.rows))
    return SparseProduct(picks)


@dataclass(frozen=True)
class WholeProduct:
    """Every distinct item is scored for every row, and the scores are picked.

    Parameters
    ----------
    picks : Picks
    columns : Tensor, shape (at least U, H)
        Rows of the table, then zeros.
    """

    picks: Picks
    columns: Tensor

    def scores(self) -> Tensor:
        return linear(self.picks.states, self.columns).gather(1, self.picks.places)

    def gradients(self, d_scores: Tensor) -> tuple[Tensor, Tensor]:
        states, places = self.picks.states, self.picks.places
        d_whole = d_scores.new_zeros(len(states), len(self.columns)).scatter_add_(1, places, d_scores)
        d_rows = weight_gradient(d_whole, states)[: len(self.picks.rows)]
        return input_gradient(d_whole, self.columns), d_rows


@dataclass(frozen=True)
class SparseProduct:
    """Only what was picked is scored, a block of rows at a time."""

    picks: Picks

    def scores(self) -> Tensor:
        states, table, items, _, _ = self.picks
        scores = states.new_empty(items.shape)
        for block, gathered in self._blocks():
            torch.index_select(table, 0, items[block].flatten(), out=gathered.flatten(0, 1))
            torch.bmm(gathered, states[block].unsqueeze(2), out=scores[block].unsqueeze(2))
        return scores

    def gradients(self, d_scores: Tensor) -> tuple[Tensor, Tensor]:
        states, table, items, rows, places = self.picks
        d_rows = states.new_zeros(len(rows), states.shape[1])
        for block, product in self._blocks():
            torch.mul(d_scores[block].unsqueeze(2), states[block].unsqueeze(1), out=product)
            d_rows.index_add_(0, places[block].flatten(), product.flatten(0, 1))
        return functional.embedding_bag(items, table, per_sample_weights=d_scores, mode="sum"), d_rows

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks of rows, and memory for H numbers of each of their picks, shape (rows of the block, C, H)."""
        states, items = self.picks.states, self.picks.items
        num_rows, numbers_per_row = len(states), items.shape[1] * states.shape[1]
        # Other devices have no such cache to fill, and each block costs them calls.
        most = max(NUMBERS_PER_BLOCK // numbers_per_row, 1) if states.device.type == "cpu" else num_rows
        buffer = states.new_empty(min(most, num_rows), items.shape[1], states.shape[1])
        for first in range(0, num_rows, most):
            block = slice(first, min(first + most, num_rows))
            yield block, buffer[: block.stop - first]
