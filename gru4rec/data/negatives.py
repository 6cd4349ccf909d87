"""Negative items drawn with probability proportional to popularity ** sample_alpha.

Hidasi & Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations" (CIKM 2018),
section 3.1. Which drawn items count against which target is decided where scores are known, in the training step.
"""

from __future__ import annotations

import torch
from torch import Tensor

DRAWS_PER_BLOCK = 1 << 18


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
        weights = item_counts.double().pow(sample_alpha)
        self._cumulative = weights.cumsum(0) / weights.sum()
        self._cumulative[-1] = 1.0
        self._generator = generator
        self.start_epoch()

    def start_epoch(self) -> None:
        """Forget what is left of the block, so that the generator's state alone says what comes next."""
        self._block = torch.empty(0, dtype=torch.int64, device=self._cumulative.device)

    def draw(self, count: int) -> Tensor:
        """Return `count` item indices, shape (count,)."""
        if len(self._block) < count:
            uniform = torch.rand(
                max(count, DRAWS_PER_BLOCK),
                dtype=torch.float64,
                device=self._cumulative.device,
                generator=self._generator,
            )
            self._block = torch.searchsorted(self._cumulative, uniform, right=True)
        drawn, self._block = self._block[:count], self._block[count:]
        return drawn
