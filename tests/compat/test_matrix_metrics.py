"""Metrics of score matrices, ours and recpack's. Scores are distinct: on ties recpack's order is arbitrary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recpack.metrics.dcg import ndcg_k
from recpack.metrics.precision import precision_k
from recpack.metrics.recall import recall_k
from recpack.metrics.reciprocal_rank import ReciprocalRankK
from scipy import sparse

from gru4rec import matrix_metrics


def reciprocal_rank_k(true, predicted, k):
    metric = ReciprocalRankK(k)
    metric.calculate(true, predicted)
    return metric.value


PAIRS = {
    "recall": (matrix_metrics.recall_k, recall_k),
    "precision": (matrix_metrics.precision_k, precision_k),
    "ndcg": (matrix_metrics.ndcg_k, ndcg_k),
    "mrr": (matrix_metrics.mrr_k, reciprocal_rank_k),
}


@st.composite
def matrices(draw):
    """Draw true interactions, of which there is one at least, and scores, of which some users may have none."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 25)), draw(st.integers(1, 60))
    true = random.random(shape) < draw(st.floats(0.0, 0.5))
    true[random.integers(shape[0]), random.integers(shape[1])] = True
    scores = random.permutation(np.arange(1.0, true.size + 1)).reshape(shape) - draw(st.sampled_from([0.5, 400.5]))
    scores[random.random(shape) > draw(st.floats(0.0, 1.0))] = 0.0
    return sparse.csr_matrix(true.astype(float)), sparse.csr_matrix(scores)


@pytest.mark.parametrize("name", PAIRS)
@settings(deadline=None, max_examples=200)
@given(pair=matrices(), k=st.integers(1, 70))
def test_random_matrices(name, pair, k):
    ours, theirs = PAIRS[name]
    assert ours(*pair, k=k) == pytest.approx(theirs(*pair, k=k), abs=1e-12)


@pytest.mark.parametrize("name", ["recall", "ndcg"])
def test_the_default_cut_off(name):
    random = np.random.default_rng(0)
    true = sparse.csr_matrix((random.random((20, 200)) < 0.1).astype(float))
    scores = sparse.csr_matrix(random.random((20, 200)))
    ours, theirs = PAIRS[name]
    assert ours(true, scores) == pytest.approx(theirs(true, scores), abs=1e-12)
