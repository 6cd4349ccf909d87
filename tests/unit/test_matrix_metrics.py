"""Metrics of score matrices: against a user at a time in plain Python, and by hand.

A matrix is written here as a list of rows, a row as a dict column -> what is stored.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from gru4rec.matrix_metrics import bpr_loss, mrr_k, ndcg_k, precision_k, recall_k, warp_loss

METRICS = {"recall": recall_k, "precision": precision_k, "ndcg": ndcg_k, "mrr": mrr_k}
RANDOM = np.random.default_rng(0)


def matrix(rows, num_items):
    """Store just what the rows say, zeros too, in their order."""
    indptr = np.cumsum([0, *map(len, rows)])
    indices = [column for row in rows for column in row]
    data = [float(value) for row in rows for value in row.values()]
    return sparse.csr_matrix((data, indices, indptr), shape=(len(rows), num_items))


# --- recall, precision, ndcg, mrr ------------------------------------------------------------------------------------


def of_user(name, true_items, scores, k):
    """Return the value of one user; of the items in `scores`, those that score as high as a true one come before it."""
    ranks = [sum(other >= scores[item] for other in scores.values()) for item in true_items if item in scores]
    hits = [rank for rank in ranks if rank <= k]
    if name == "recall":
        return len(hits) / len(true_items)
    if name == "precision":
        return len(hits) / k
    if name == "mrr":
        return 1 / min(hits) if hits else 0.0
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(true_items)) + 1))
    return sum(1 / math.log2(rank + 1) for rank in hits) / ideal


def reference(name, true, predicted, k):
    values = []
    for row, scores in zip(true, predicted, strict=True):
        true_items = [item for item, count in row.items() if count != 0]
        if true_items:
            values.append(of_user(name, true_items, scores, k))
    return sum(values) / len(values)


@st.composite
def cases(draw):
    """Return true rows with counts and explicit zeros, scored rows with ties that may be dense, empty or unsorted."""
    num_items = draw(st.integers(1, 8))
    items = st.integers(0, num_items - 1)
    users = draw(st.integers(1, 6))
    true = [draw(st.dictionaries(items, st.integers(0, 3))) for _ in range(users)]
    true[draw(st.integers(0, users - 1))][draw(items)] = draw(st.integers(1, 3))
    score = st.sampled_from([-1.5, 0.0, 0.25, 1.0, 2.0]) | st.floats(-10, 10)
    all_items = st.permutations(range(num_items)).map(dict.fromkeys)
    kinds = st.dictionaries(items, score) | all_items.map(lambda row: {item: draw(score) for item in row})
    return num_items, [dict(sorted(row.items())) for row in true], [draw(kinds) for _ in range(users)]


@pytest.mark.parametrize("name", METRICS)
@settings(deadline=None)
@given(cases(), st.integers(1, 10))
@example((3, [{0: 1}, {}], [{}, {0: 1.0}]), 2)  # nothing is recommended to the only user that counts
@example((3, [{0: 5, 1: 0}], [{0: 0.0, 1: 0.0, 2: 0.0}]), 3)  # counts, explicit zeros, all tied
@example((4, [{0: 1, 1: 1}], [{3: 1.0, 1: 1.0, 0: 1.0}]), 2)  # true items that tie with one another
def test_metrics_equal_a_user_at_a_time(name, case, k):
    num_items, true, predicted = case
    value = METRICS[name](matrix(true, num_items), matrix(predicted, num_items), k)
    assert value == pytest.approx(reference(name, true, predicted, k), abs=1e-12)


# User 0: item 2 is first, item 0 third of four; user 1: item 3 ties with items 0 and 1, so it is third; user 2: nothing
# is recommended; user 3 has no true item and does not count.
TRUE = [{0: 1, 2: 4}, {3: 1}, {1: 2}, {2: 0}]
PREDICTED = [{0: 0.5, 1: 0.7, 2: 0.9, 3: -1.0}, {0: 0.4, 1: 0.4, 3: 0.4}, {}, {2: 1.0}]
LOG2_OF_4 = 2.0


@pytest.mark.parametrize(
    ("name", "k", "values"),
    [
        ("recall", 1, [1 / 2, 0, 0]),
        ("recall", 2, [1 / 2, 0, 0]),
        ("recall", 3, [2 / 2, 1, 0]),
        ("precision", 1, [1, 0, 0]),
        ("precision", 3, [2 / 3, 1 / 3, 0]),
        ("precision", 50, [2 / 50, 1 / 50, 0]),
        ("ndcg", 1, [1, 0, 0]),
        ("ndcg", 3, [(1 + 1 / LOG2_OF_4) / (1 + 1 / math.log2(3)), 1 / LOG2_OF_4, 0]),
        ("mrr", 2, [1, 0, 0]),
        ("mrr", 3, [1, 1 / 3, 0]),
    ],
)
def test_metrics_by_hand(name, k, values):
    value = METRICS[name](matrix(TRUE, 4), matrix(PREDICTED, 4), k)
    assert value == pytest.approx(sum(values) / 3)


@pytest.mark.parametrize(("name", "within"), [("recall", 1.0), ("precision", 1 / 50), ("ndcg", 1 / math.log2(51))])
def test_the_default_cutoff_is_50(name, within):
    scores = matrix([dict(enumerate(range(60, 0, -1)))], 60)
    assert METRICS[name](matrix([{49: 1}], 60), scores) == pytest.approx(within)
    assert METRICS[name](matrix([{50: 1}], 60), scores) == 0.0


@pytest.mark.parametrize("metric", [*METRICS.values(), bpr_loss, warp_loss])
def test_metrics_leave_the_matrices_alone(metric):
    matrices = matrix(TRUE, 4), matrix(PREDICTED, 4)
    before = [vars(one.copy()) for one in matrices]
    metric(*matrices)
    for one, copy in zip(matrices, before, strict=True):
        assert all(np.array_equal(getattr(one, part), copy[part]) for part in ("data", "indices", "indptr"))


# --- bpr and warp ----------------------------------------------------------------------------------------------------


def softplus(x):
    return math.log1p(math.exp(x))


def test_bpr_by_hand():
    """All false items of a user share a score, so it does not matter which is drawn."""
    true = [{0: 1, 1: 3}, {2: 1}, {1: 0}, {}]
    scores = [{0: 3.0, 1: 1.0, 2: 0.5, 3: 0.5, 4: 0.5}, {2: -1.0}, {0: 9.0}, {}]
    pairs = [softplus(0.5 - 3.0), softplus(0.5 - 1.0), softplus(0.0 + 1.0)]  # -log sigmoid(x) = softplus(-x)
    assert bpr_loss(matrix(true, 5), matrix(scores, 5)) == pytest.approx(sum(pairs) / 3)


@pytest.mark.parametrize("num_negatives", [1, 3, 20])
@pytest.mark.parametrize("seed", range(3))
def test_warp_by_hand(num_negatives, seed):
    """All false items of a user share a score, so all violate the margin or none: the rank is all items, or 0."""
    true = [{0: 1, 1: 3}, {2: 1}, {1: 0}, {}]
    scores = [{0: 4.0, 1: 1.0, 2: 0.5, 3: 0.5, 4: 0.5}, {2: -1.0}, {0: 9.0}, {}]
    violations = [0.0, 1.9 - 1.0 + 0.5, 1.9 + 1.0 + 0.0]
    value = warp_loss(matrix(true, 5), matrix(scores, 5), num_negatives=num_negatives, seed=seed)
    assert value == pytest.approx(sum(violation * math.log(5 + 1) for violation in violations) / 3)


def test_warp_with_another_margin():
    value = warp_loss(matrix([{0: 1}], 4), matrix([{0: 2.0, 1: 1.75, 2: 1.75, 3: 1.75}], 4), margin=0.5)
    assert value == pytest.approx(0.25 * math.log(4 + 1))


def test_warp_counts_the_violations_among_the_drawn():
    """One of two false items violates: its share of the draws decides the rank, the worst violation the amount."""
    true, scores = matrix([{0: 1}], 3), matrix([{0: 2.0, 1: 1.1, 2: -5.0}], 3)
    possible = [0.0, *(1.0 * math.log(count * 3 / 4 + 1) for count in range(1, 5))]
    found = {warp_loss(true, scores, num_negatives=4, seed=seed) for seed in range(30)}
    assert len(found) > 2
    for value in found:
        assert min(abs(value - one) for one in possible) < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_true_items_are_not_drawn_as_false_ones(seed):
    true = matrix([{0: 1, 1: 1}] * 20, 4)
    scores = matrix([{0: 5.0, 1: 5.0}] * 20, 4)
    assert bpr_loss(true, scores, seed=seed) == pytest.approx(softplus(-5.0))
    assert warp_loss(true, scores, seed=seed) == 0.0


def test_a_user_for_whom_all_items_are_true_does_not_hang():
    assert bpr_loss(matrix([{0: 1, 1: 1}], 2), matrix([{0: 1.0, 1: 1.0}], 2)) == pytest.approx(math.log(2))


TRUE_AT_RANDOM = sparse.csr_matrix(RANDOM.random((20, 30)) < 0.1)
SCORES_AT_RANDOM = sparse.csr_matrix(RANDOM.normal(size=(20, 30)))


@pytest.mark.parametrize("loss", [bpr_loss, warp_loss])
def test_losses_are_a_function_of_the_seed(loss):
    values = [loss(TRUE_AT_RANDOM, SCORES_AT_RANDOM, seed=seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] == loss(TRUE_AT_RANDOM, SCORES_AT_RANDOM)
    assert values[1] != values[2]


@pytest.mark.parametrize("loss", [bpr_loss, warp_loss])
def test_better_scores_give_a_lower_loss(loss):
    """Also for warp, whose distance is minus the score."""
    values = [loss(TRUE_AT_RANDOM, SCORES_AT_RANDOM + TRUE_AT_RANDOM * lift) for lift in (-1.0, 0.0, 1.0, 2.0)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
