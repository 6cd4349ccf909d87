"""Metrics of score matrices against true interactions, users x items, with recpack's definitions.

`X_true` and `X_pred` are csr matrices of the same shape. Users without true interactions do not count; an item that
`X_pred` does not store is not recommended; a stored item that ties with a true one ranks before it. Unlike
`gru4rec.metrics`, a user may have several true items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.float64]


def recall_k(X_true: sparse.csr_matrix, X_pred: sparse.csr_matrix, k: int = 50) -> float:  # noqa: N803
    """Mean over users of the share of their true items among the first k."""
    users, ranks, num_true = _true_ranks(X_true, X_pred)
    return float(np.mean(_sum_by_user(users, ranks <= k, num_true) / num_true))


def precision_k(X_true: sparse.csr_matrix, X_pred: sparse.csr_matrix, k: int = 50) -> float:  # noqa: N803
    """Mean over users of the share of the first k items that are true."""
    users, ranks, num_true = _true_ranks(X_true, X_pred)
    return float(np.mean(_sum_by_user(users, ranks <= k, num_true) / k))


def ndcg_k(X_true: sparse.csr_matrix, X_pred: sparse.csr_matrix, k: int = 50) -> float:  # noqa: N803
    """Mean over users of DCG / ideal DCG with binary relevance: a true item of rank r <= k gains 1 / log2(r + 1)."""
    users, ranks, num_true = _true_ranks(X_true, X_pred)
    gain = np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    return float(np.mean(_sum_by_user(users, gain, num_true) / ideal[np.minimum(num_true, k) - 1]))


def mrr_k(X_true: sparse.csr_matrix, X_pred: sparse.csr_matrix, k: int = 50) -> float:  # noqa: N803
    """Mean over users of 1 / rank of their first true item, 0 beyond rank k."""
    users, ranks, num_true = _true_ranks(X_true, X_pred)
    best = np.full(len(num_true), np.inf)
    np.minimum.at(best, users, ranks)
    return float(np.mean(np.where(best <= k, 1.0 / best, 0.0)))


def bpr_loss(X_true: sparse.csr_matrix, X_pred: sparse.csr_matrix, seed: int = 0) -> float:  # noqa: N803
    """Mean of -log sigmoid(s_i - s_j) over all true pairs (user, i), each with one false item j drawn uniformly.

    Scores that are not stored are 0. Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback"
    (UAI 2009).
    """
    positive, negative = _sampled_scores(X_true, X_pred, 1, seed)
    return float(np.mean(np.logaddexp(0.0, negative[:, 0] - positive)))


def warp_loss(
    X_true: sparse.csr_matrix,  # noqa: N803
    X_pred: sparse.csr_matrix,  # noqa: N803
    num_negatives: int = 20,
    margin: float = 1.9,
    seed: int = 0,
) -> float:
    """Weighted approximate-rank pairwise loss over all true pairs (user, i), each with `num_negatives` false items j.

    The worst violation max_j [margin - s_i + s_j]_+ counts log(M * items / num_negatives + 1) times, where M is the
    number of violations. Hsieh et al., "Collaborative Metric Learning" (WWW 2017), section 3.2, with -s as distance.
    """
    positive, negative = _sampled_scores(X_true, X_pred, num_negatives, seed)
    violation = margin - positive[:, None] + negative
    rank = (violation > 0).sum(1) * X_true.shape[1] / num_negatives
    return float(np.mean(np.maximum(violation.max(1), 0.0) * np.log(rank + 1.0)))


def _true_ranks(
    X_true: sparse.csr_matrix,  # noqa: N803
    X_pred: sparse.csr_matrix,  # noqa: N803
) -> tuple[npt.NDArray[Any], FloatArray, npt.NDArray[Any]]:
    """Return the user and the rank of each true item that is recommended, and the number of true items of each user.

    Users are counted from 0 among those that have true items.
    """
    true = _binary(X_true)
    num_true = np.diff(true.indptr)
    ranked = _ranks(X_pred)
    hits = ranked.multiply(true).tocoo()
    number = np.cumsum(num_true > 0) - 1
    return number[hits.row], hits.data, num_true[num_true > 0]


def _ranks(X_pred: sparse.csr_matrix) -> sparse.csr_matrix:  # noqa: N803
    """Return a matrix that stores, for each stored score, its rank in its row; ties share the last of their ranks."""
    rows = np.repeat(np.arange(X_pred.shape[0]), np.diff(X_pred.indptr))
    order = np.lexsort((-X_pred.data, rows))
    sorted_rows, sorted_scores = rows[order], X_pred.data[order]
    last_of_tie = np.ones(len(order), dtype=bool)
    last_of_tie[:-1] = (np.diff(sorted_rows) != 0) | (np.diff(sorted_scores) != 0)
    ends = np.flatnonzero(last_of_tie)
    place = ends[np.searchsorted(ends, np.arange(len(order)))]
    ranks = np.empty(len(order))
    ranks[order] = place - X_pred.indptr[sorted_rows] + 1
    return sparse.csr_matrix((ranks, X_pred.indices, X_pred.indptr), shape=X_pred.shape)


def _sampled_scores(
    X_true: sparse.csr_matrix,  # noqa: N803
    X_pred: sparse.csr_matrix,  # noqa: N803
    num_negatives: int,
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """Return the score of each true pair, shape (pairs,), and of false items of its user, (pairs, num_negatives)."""
    true = _binary(X_true)
    users, items = true.nonzero()
    random = np.random.default_rng(seed)
    known = users.astype(np.int64) * true.shape[1] + items
    drawn = random.integers(true.shape[1], size=(len(users), num_negatives))
    # A few redraws leave a true item among the false ones only for users that have nearly all of the items.
    for _ in range(20):
        bad = np.isin(users[:, None] * np.int64(true.shape[1]) + drawn, known)
        if not bad.any():
            break
        drawn[bad] = random.integers(true.shape[1], size=int(bad.sum()))
    positive = np.asarray(X_pred[users, items]).ravel()
    negative = np.asarray(X_pred[np.repeat(users, num_negatives), drawn.ravel()]).reshape(len(users), num_negatives)
    return positive.astype(np.float64), negative.astype(np.float64)


def _binary(X_true: sparse.csr_matrix) -> sparse.csr_matrix:  # noqa: N803
    true = sparse.csr_matrix(X_true, dtype=np.float64, copy=True)
    true.sum_duplicates()
    true.eliminate_zeros()
    true.data[:] = 1.0
    return true


def _sum_by_user(users: npt.NDArray[Any], values: npt.NDArray[Any], num_true: npt.NDArray[Any]) -> FloatArray:
    return np.bincount(users, weights=values, minlength=len(num_true)).astype(np.float64)
