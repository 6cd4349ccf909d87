"""Our StoppingCriterion and recpack's, on the same sequences of matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recpack.algorithms import stopping_criterion as theirs
from scipy import sparse

from gru4rec import stopping as ours

TRUE = sparse.csr_matrix(np.eye(8))


def predictions(num_hits):
    """Return scores that put the true item of the first `num_hits` of eight users first, and last elsewhere."""
    scores = np.full((8, 8), 2.0) + np.arange(8) / 16
    scores[np.diag_indices(8)] = np.where(np.arange(8) < num_hits, 4.0, 1.0)
    return sparse.csr_matrix(scores)


def follow(library, criterion, sequence):
    """Return what each update answers, 'stop' where it raises, and the best value after it."""
    answers = []
    for num_hits in sequence:
        try:
            answer = criterion.update(TRUE, predictions(num_hits))
        except library.EarlyStoppingException:
            answer = "stop"
        answers.append((answer, pytest.approx(criterion.best_value, abs=1e-12)))
    return answers


sequences = st.lists(st.integers(0, 8), min_size=1, max_size=12)


@settings(deadline=None, max_examples=150)
@given(
    sequence=sequences,
    name=st.sampled_from(["recall", "ndcg", "precision"]),
    options=st.fixed_dictionaries(
        {
            "k": st.integers(1, 8),
            "stop_early": st.booleans(),
            "max_iter_no_change": st.integers(1, 4),
            "min_improvement": st.sampled_from([0.0, 0.1, 0.2, 0.3]),
        }
    ),
)
def test_updates_of_metrics(sequence, name, options):
    mine = follow(ours, ours.StoppingCriterion.create(name, **options), sequence)
    assert mine == follow(theirs, theirs.StoppingCriterion.create(name, **options), sequence)


@settings(deadline=None, max_examples=100)
@given(sequence=sequences, patience=st.integers(1, 4), min_improvement=st.sampled_from([0.0, 1.5]))
def test_updates_of_a_minimised_function(sequence, patience, min_improvement):
    def misses(true, predicted):
        return float((predicted.diagonal() < 2.0).sum())

    options = {"minimize": True, "stop_early": True, "max_iter_no_change": patience, "min_improvement": min_improvement}
    mine = follow(ours, ours.StoppingCriterion(misses, **options), sequence)
    assert mine == follow(theirs, theirs.StoppingCriterion(misses, **options), sequence)


def test_all_of_recpack_s_criteria_are_there_with_its_directions():
    for name, entry in theirs.StoppingCriterion.FUNCTIONS.items():
        assert ours.StoppingCriterion.FUNCTIONS[name]["minimize"] == entry["minimize"]
    for name in ("recall", "ndcg"):
        assert ours.StoppingCriterion.FUNCTIONS[name]["k"] == theirs.StoppingCriterion.FUNCTIONS[name]["k"] == 50


@pytest.mark.parametrize("library", [ours, theirs])
def test_an_unknown_criterion_is_a_value_error(library):
    with pytest.raises(ValueError, match="hit_rate"):
        library.StoppingCriterion.create("hit_rate")


@pytest.fixture
def scored():
    """True interactions of many users, and scores that are higher for true items than for others."""
    random = np.random.default_rng(0)
    true = sparse.csr_matrix((random.random((400, 300)) < 0.05).astype(float))
    return true, sparse.csr_matrix(random.normal(size=(400, 300)) + 0.5 * true.toarray())


def value_of(library, name, true, predicted):
    np.random.seed(0)  # recpack draws its negatives from the global state
    criterion = library.StoppingCriterion.create(name)
    criterion.update(true, predicted)
    return criterion.best_value


def test_bpr_agrees_on_average(scored):
    """Both draw their own negatives, so means over many pairs agree, single values do not."""
    assert value_of(ours, "bpr", *scored) == pytest.approx(value_of(theirs, "bpr", *scored), rel=0.02)


def test_warp_agrees_on_average_where_theirs_gets_distances(scored):
    """recpack's warp takes scores for distances, so that minimising it prefers bad scores; ours negates them."""
    true, scores = scored
    assert value_of(ours, "warp", true, scores) == pytest.approx(value_of(theirs, "warp", true, -scores), rel=0.02)
    assert value_of(theirs, "warp", true, scores) > value_of(theirs, "warp", true, -scores)
    assert value_of(ours, "warp", true, scores) < value_of(ours, "warp", true, -scores)
