"""The highest scores of each row against a full sort, and against torch's topk where scores are tied."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec import top_items
from gru4rec.top_items import best_of_tiles, top_scores


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 999), rows=st.integers(1, 4), width=st.integers(1, 400), k=st.integers(1, 9), chunk=st.just(2)
)
def test_the_highest_scores_equal_a_full_sort(seed, rows, width, k, chunk):
    """Chunks of two, so that several levels of chunks of chunks are needed."""
    k = min(k, width)
    scores = np.random.default_rng(seed).permuted(np.tile(np.arange(width, dtype=np.float32), (rows, 1)), axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_items, "CHUNK", chunk)
        values, places = top_scores(torch.from_numpy(scores), k)
    wanted = np.argsort(-scores, axis=1)[:, :k]
    assert np.array_equal(places.numpy(), wanted)
    assert np.array_equal(values.numpy(), np.take_along_axis(scores, wanted, axis=1))


def test_tied_scores_are_the_right_ones_and_places_are_not_repeated():
    scores = torch.randint(0, 3, (50, 2000), generator=torch.Generator().manual_seed(0)).float()
    values, places = top_scores(scores, 20)
    assert torch.equal(values, scores.topk(20).values)
    assert torch.equal(scores.gather(1, places), values)
    assert all(len(set(row)) == 20 for row in places.tolist())


@pytest.mark.parametrize("place", [0, 777, 1999])
def test_nan_is_the_highest(place):
    scores = torch.zeros(1, 2000)
    scores[0, place] = torch.nan
    assert top_scores(scores, 3)[1][0, 0] == place


@pytest.mark.parametrize("rows", [1, 40])
def test_tiles_of_a_large_catalogue_equal_a_full_sort(make_model, monkeypatch, rows):
    monkeypatch.setattr(top_items, "SCORES_PER_TILE", 40 * 700)
    network = make_model(range(3000)).network
    states = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))
    scores = states.double() @ network.output_table.double().T + network.item_bias.double()
    best = scores.argmax(1)
    scores[torch.arange(rows), best] = -torch.inf
    values, items = best_of_tiles(network, states, 20, torch.arange(rows), best)
    assert torch.equal(items, scores.argsort(1, descending=True)[:, :20])
    assert torch.allclose(values.double(), scores.gather(1, items), rtol=1e-4)
