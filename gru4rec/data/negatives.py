"""Negative items drawn with probability proportional to popularity ** sample_alpha.

Hidasi & Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations" (CIKM 2018),
section 3.1. Which drawn items count against which target is decided where scores are known, in the training step.

Drawn by Walker's alias method (1977): each item has a share of 1 / num_items of a line, of which it keeps the first
part and leaves the rest to one other item, its alias. A draw looks up one place; a search would take log2(num_items).
"""

from __future__ import annotations

import torch
from torch import Tensor

DRAWS_PER_BLOCK = 1 << 16  # so that a block stays in a core's cache while it is made


class NegativeSampler:
    """Draws item indices with replacement, in large blocks.

    Parameters
    ----------
    item_counts : Tensor, shape (num_items,)
        Popularity: events per item in the training log.
    sample_alpha : float
        Exponent of popularity; 0 draws uniformly.
    generator : torch.Generator
        The only source of randomness; it lives on the device of `item_counts`.
    """

    def __init__(self, item_counts: Tensor, sample_alpha: float, generator: torch.Generator) -> None:
        kept, alias = alias_table(item_counts.double().pow(sample_alpha))
        self._kept, self._alias = kept, alias
        self._generator = generator
        self.start_epoch()

    def start_epoch(self) -> None:
        """Forget what is left of the block, so that the generator's state alone says what comes next."""
        self._block = self._alias.new_empty(0)
        self._num_drawn = 0  # of the block

    def draw(self, count: int) -> Tensor:
        """Return `count` item indices, shape (count,)."""
        if self._num_drawn + count > len(self._block):
            self._block, self._num_drawn = self._draw_block(max(count, DRAWS_PER_BLOCK)), 0
        drawn = self._block[self._num_drawn : self._num_drawn + count]
        self._num_drawn += count
        return drawn

    def _draw_block(self, count: int) -> Tensor:
        place = torch.rand(count, dtype=torch.float64, device=self._kept.device, generator=self._generator)
        place *= len(self._kept)
        item = place.long()
        kept = place.sub_(item) < self._kept.index_select(0, item)
        return torch.where(kept, item, self._alias.index_select(0, item))


def alias_table(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of its share that each item keeps, and the item that has the rest; both of shape (num_items,).

    Items below the mean weight ("light") leave their deficits, one after the other, to those above it ("heavy") in
    turn; a heavy item that gives away more than its excess leaves what it lacks to the next heavy one. So who is whose
    alias follows from the running sums of deficits and excesses, without a loop over items.

    Parameters
    ----------
    weights : Tensor of float64, shape (num_items,)
        Positive; need not sum to one.
    """
    shares = weights * (len(weights) / weights.sum())
    light, heavy = (shares < 1.0).nonzero().squeeze(1), (shares >= 1.0).nonzero().squeeze(1)
    kept, alias = shares.clamp(max=1.0), torch.arange(len(shares), device=shares.device)
    if not (len(light) and len(heavy)):  # all alike, up to rounding
        return kept, alias
    deficits, excesses = (1.0 - shares[light]).cumsum(0), (shares[heavy] - 1.0).cumsum(0)
    last = len(heavy) - 1
    giver = torch.searchsorted(excesses, torch.cat([deficits.new_zeros(1), deficits[:-1]]), right=True)
    alias[light] = heavy[giver.clamp_max(last)]
    # A heavy item is used up by the light one whose deficit carries the running sum to its own or beyond.
    taken = deficits[torch.searchsorted(deficits, excesses[:-1]).clamp_max(len(light) - 1)]
    kept[heavy[:-1]] = (1.0 - (taken - excesses[:-1])).clamp_(0.0, 1.0)
    alias[heavy[:-1]] = heavy[1:]
    return kept, alias
