"""Bootstrap intervals against a loop over resamples, and against what an interval promises: coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec import intervals
from gru4rec.errors import ParameterError
from gru4rec.intervals import bootstrap_intervals
from gru4rec.metrics import compute_metrics

KEYS = ["recall@5", "mrr@10", "ndcg@5", "precision@3"]


def slow_intervals(sessions, keys, num_resamples, confidence, seed):
    """Draw sessions, put their ranks one after the other, compute the metric; again and again."""
    random = np.random.default_rng(seed)
    values = {key: [] for key in keys}
    for _ in range(num_resamples):
        drawn = [sessions[place] for place in random.integers(len(sessions), size=len(sessions))]
        for key, value in compute_metrics(np.concatenate(drawn), keys).items():
            values[key].append(value)
    tail = 100 * (1 - confidence) / 2
    return {key: (np.percentile(each, tail), np.percentile(each, 100 - tail)) for key, each in values.items()}


def flat(sessions):
    return np.concatenate(sessions), np.repeat(np.arange(len(sessions)), list(map(len, sessions)))


@settings(max_examples=30, deadline=None)
@given(
    sessions=st.lists(st.lists(st.integers(1, 15), min_size=1, max_size=6), min_size=1, max_size=12),
    confidence=st.sampled_from([0.5, 0.95]),
    seed=st.integers(0, 2**31),
    weights_per_block=st.sampled_from([1, 50, 1 << 22]),
)
def test_equals_a_loop_over_resamples(sessions, confidence, seed, weights_per_block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "WEIGHTS_PER_BLOCK", weights_per_block)
        found = bootstrap_intervals(*flat(sessions), iter(KEYS), 40, confidence, seed)
    expected = slow_intervals(sessions, KEYS, 40, confidence, seed)
    assert list(found) == KEYS
    for key in KEYS:
        assert found[key] == pytest.approx(expected[key], rel=1e-9, abs=1e-12), key
        assert all(type(end) is float for end in found[key])


def test_numbers_and_order_of_sessions_do_not_matter_but_which_targets_they_hold_does():
    ranks, session = np.array([1, 1, 30, 30]), np.array([0, 0, 1, 1])
    assert bootstrap_intervals(ranks, session, KEYS) == bootstrap_intervals(ranks, session * 100 - 7, KEYS)
    low, high = bootstrap_intervals(ranks, session, ["recall@5"])["recall@5"]
    assert (low, high) == (0.0, 1.0)
    assert bootstrap_intervals(ranks, np.zeros(4, int), ["recall@5"])["recall@5"] == (0.5, 0.5)  # one session


def test_the_seed_decides():
    sessions = flat([[rank, 3] for rank in range(1, 20)])
    first, again, other = (bootstrap_intervals(*sessions, ["mrr@20"], seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def simulated(random, num_sessions=80):
    """Sessions of 1 to 8 targets that are all hits or all misses, half of them; the true recall is 0.5."""
    lengths = random.integers(1, 9, size=num_sessions)
    hit = random.random(num_sessions) < 0.5
    return np.repeat(np.where(hit, 1, 50), lengths), np.repeat(np.arange(num_sessions), lengths)


def test_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(5)
    covered, covered_by_targets = 0, 0
    for _ in range(300):
        ranks, session = simulated(random)
        low, high = bootstrap_intervals(ranks, session, ["recall@20"], 200)["recall@20"]
        covered += low <= 0.5 <= high
        low, high = bootstrap_intervals(ranks, np.arange(len(ranks)), ["recall@20"], 200)["recall@20"]
        covered_by_targets += low <= 0.5 <= high
    assert 0.90 <= covered / 300 <= 0.98  # 95 % of 300, give or take four standard deviations
    assert covered_by_targets / 300 < 0.75  # what resampling targets would claim


def test_difference_of_a_model_and_itself_is_zero():
    ranks, session = simulated(np.random.default_rng(0))
    assert bootstrap_intervals(ranks, session, KEYS, minus=ranks) == dict.fromkeys(KEYS, (0.0, 0.0))


def test_a_small_but_steady_gain_shows_in_the_difference_only():
    session = np.repeat(np.arange(100), 2)
    other = np.where(session % 2, 2, 40)
    ranks = other - (session % 10 == 1)  # one session in ten ranks its targets first instead of second
    own, others = (bootstrap_intervals(each, session, ["mrr@20"])["mrr@20"] for each in (ranks, other))
    assert own[0] < others[1]  # the two intervals overlap
    low, high = bootstrap_intervals(ranks, session, ["mrr@20"], minus=other)["mrr@20"]
    # Gains of 0.5 in 10 of 100 sessions: mean 0.05, standard error 0.5 * sqrt(0.1 * 0.9 / 100) = 0.015
    assert (low, high) == (pytest.approx(0.05 - 1.96 * 0.015, abs=0.006), pytest.approx(0.05 + 1.96 * 0.015, abs=0.006))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": np.array([1])}, "ranks and session_of_target must be of one length >= 1, got 1 and 2"),
        ({"ranks": np.array([], int), "session_of_target": np.array([], int)}, "one length >= 1, got 0 and 0"),
        ({"num_resamples": 0}, "num_resamples must be a whole number >= 1, got 0"),
        ({"confidence": 1.0}, r"confidence must be in \(0, 1\), got 1.0"),
        ({"keys": ["recal@5"]}, "unknown metric 'recal@?5?'"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    arguments = {"ranks": np.array([1, 2]), "session_of_target": np.array([0, 1]), "keys": ["recall@5"], **changes}
    with pytest.raises(ParameterError, match=message):
        bootstrap_intervals(**arguments)


def test_two_models_must_rank_the_same_targets():
    with pytest.raises(ParameterError, match="both models must rank the same targets, got 2 and 1"):
        bootstrap_intervals(np.array([1, 2]), np.array([0, 1]), KEYS, minus=np.array([1]))
