"""The rows of a table that a mini-batch touches, each of them once.

An item that comes up several times in a mini-batch, as target, as drawn negative or as input, has one score and one
gradient: work on it once, and count how often it comes up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Distinct(NamedTuple):
    """Rows of a table without repetition, in the order in which they first come up.

    Parameters
    ----------
    rows : Tensor of int64, shape (num_rows,)
    places : Tensor of int64, shape (num_entries,)
        Place in `rows` of each entry.
    is_first : Tensor of bool, shape (num_rows,), or None
        Not None where shapes are static: then `rows` are all entries, and `places` names the first of equal ones.
        The others must be left without any gradient.
    """

    rows: Tensor
    places: Tensor
    is_first: Tensor | None

    def count_first(self, num_entries: int) -> int:
        """Return how many of `rows` the first `num_entries` entries take up."""
        if self.is_first is not None or num_entries == 0:
            return num_entries
        return int(self.places[:num_entries].max()) + 1

    def first(self, num_rows: int) -> Distinct:
        """Return the first of the rows; places are left out."""
        is_first = None if self.is_first is None else self.is_first[:num_rows]
        return Distinct(self.rows[:num_rows], self.places[:0], is_first)

    def sum(self, gradient: Tensor) -> Tensor:
        """Return the sum of the gradients of each row, shape (num_rows, ...), of those of the entries."""
        return gradient.new_zeros(len(self.rows), *gradient.shape[1:]).index_add_(0, self.places, gradient)


class DistinctRows:
    """Finds the distinct rows among entries, in time linear in their number.

    Parameters
    ----------
    num_rows : int
        Of the table.
    device : torch.device
    static_shapes : bool, optional
        Whether shapes must not depend on values, so that nothing waits for the device; the default is all but CPUs.
    """

    def __init__(self, num_rows: int, device: torch.device, static_shapes: bool | None = None) -> None:
        self._first_entry = torch.empty(num_rows, dtype=torch.int64, device=device)  # scratch, of any content
        self._static_shapes = device.type != "cpu" if static_shapes is None else static_shapes

    def find(self, entries: Tensor) -> Distinct:
        """Return the distinct rows of `entries`, a tensor of int64.

        Examples
        --------
        >>> DistinctRows(9, torch.device("cpu")).find(torch.tensor([4, 2, 4]))
        Distinct(rows=tensor([4, 2]), places=tensor([0, 1, 0]), is_first=None)
        """
        numbers = torch.arange(len(entries), device=entries.device)
        # The minimum, where plain assignment would leave the choice to a race between threads.
        self._first_entry.scatter_reduce_(0, entries, numbers, "amin", include_self=False)
        first = self._first_entry.index_select(0, entries)
        is_first = first == numbers
        if self._static_shapes:
            return Distinct(entries, first, is_first)
        rank = is_first.cumsum(0).sub_(1)
        places = rank.index_select(0, first)
        num_rows = int(rank[-1]) + 1 if len(rank) else 0
        return Distinct(entries.new_empty(num_rows).scatter_(0, places, entries), places, None)
