"""The best items of states, in tiles of scores: memory is bounded, whatever the catalogue."""

from __future__ import annotations

import torch
from torch import Tensor

from gru4rec.evaluation import score_tiles
from gru4rec.nn.network import Network

ROWS_PER_TILE = 128
SCORES_PER_TILE = 6 << 20  # 24 MiB: the bound on memory; glibc fetches pages anew for each block of some 30 and more
CHUNK = 8


def rows_at_once(k: int) -> int:
    """Return how many rows `best_of_tiles` may be given at most."""
    return max(1, min(ROWS_PER_TILE, SCORES_PER_TILE // k))


def best_of_tiles(
    network: Network, states: Tensor, k: int, excluded_rows: Tensor, excluded_items: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the k highest scores of each row and their items, both of shape (rows, k), best first.

    Parameters
    ----------
    states : Tensor, shape (rows, H)
    k : int
        At most the number of items.
    excluded_rows, excluded_items : Tensor of int64, shape (count,)
        Items whose score in that row counts as minus infinity.
    """
    if len(states) == 1:  # a product of one row is limited by memory, and padding it for oneDNN doubles its time
        scores = torch.addmv(network.item_bias, network.output_table, states[0])
        scores[excluded_items] = -torch.inf
        return top_scores(scores.unsqueeze(0), k)
    best_scores = states.new_empty(len(states), 0)
    best_items = torch.empty_like(best_scores, dtype=torch.int64)
    for first, scores in score_tiles(network, states, max(k, SCORES_PER_TILE // len(states))):
        width = scores.shape[1]
        inside = (excluded_items >= first) & (excluded_items < first + width)
        scores[excluded_rows[inside], excluded_items[inside] - first] = -torch.inf
        tile_scores, tile_items = top_scores(scores, min(k, width))
        tile_items += first
        if first:
            tile_scores = torch.cat([best_scores, tile_scores], dim=1)  # at most (rows, 2k)
            tile_items = torch.cat([best_items, tile_items], dim=1)
            tile_scores, places = tile_scores.topk(min(k, tile_scores.shape[1]), dim=1)
            tile_items = tile_items.gather(1, places)
        best_scores, best_items = tile_scores, tile_items
    return best_scores, best_items


def top_scores(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k highest of each row and their places, both of shape (rows, k), the highest first; NaN is highest.

    Parameters
    ----------
    scores : Tensor, shape (rows, width)
    k : int
        At most the width.

    Notes
    -----
    `Tensor.topk` takes as long as the product that made the scores. The maximum of chunks is a pass that processors do
    many numbers at a time, and the k best chunks, by their maximum, hold the k best scores: what is in another chunk
    has at least k others that are as high. The best chunks are found the same way.
    """
    rows, width = scores.shape
    if width < 2 * CHUNK * k:
        values, places = scores.topk(k, dim=1)
        return values, places
    chunks = width // CHUNK
    whole = chunks * CHUNK
    strided = scores[:, :whole].view(rows, CHUNK, chunks)  # place p is in chunk p % chunks
    _, best = top_scores(strided.amax(1), k)
    places = (best.unsqueeze(1) + torch.arange(0, whole, chunks, device=scores.device).unsqueeze(1)).flatten(1)
    rest = torch.arange(whole, width, device=scores.device).expand(rows, -1)
    places = torch.cat([places, rest], dim=1)  # (rows, CHUNK * k + less than CHUNK)
    values, chosen = scores.gather(1, places).topk(k, dim=1)
    return values, places.gather(1, chosen)
