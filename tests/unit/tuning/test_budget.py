"""Budgets: which of them ends a search, and on what."""

from __future__ import annotations

import pickle

import pytest

from tuning.budget import Budget
from tuning.space import Space
from tuning.spec import SearchSpec


def play(spec, *values, validated_on="all"):
    budget = Budget(spec)
    reasons = []
    for value in values:
        assert budget("trial", {"recall@20": value, "validated_on": validated_on}) is False
        budget.stop_all()
        reasons.append(budget.reason)
    return reasons


def test_without_a_budget_nothing_ends():
    assert play(SearchSpec(Space(())), 0.1, 0.9) == [None, None]


def test_epochs_are_counted_over_all_trials():
    assert play(SearchSpec(Space(()), epoch_budget=2), 0.1, 0.2, 0.3) == [
        None,
        "epoch budget used",
        "epoch budget used",
    ]


def test_a_target_ends_the_search():
    assert play(SearchSpec(Space(()), until="recall@20 = 0.2"), 0.1, 0.2) == [None, "target reached"]


def test_a_target_is_not_reached_on_a_sample():
    assert play(SearchSpec(Space(()), until="recall@20=0.2"), 0.3, validated_on="sample") == [None]


def test_a_value_that_is_not_finite_reaches_nothing():
    assert play(SearchSpec(Space(()), until="recall@20=0.2"), float("nan")) == [None]


def test_time():
    assert play(SearchSpec(Space(()), time_budget_s=0.0), 0.1) == ["time budget used"]
    assert play(SearchSpec(Space(()), time_budget_s=1000.0), 0.1) == [None]


def test_the_epoch_that_uses_the_budget_up_may_reach_the_target():
    assert play(SearchSpec(Space(()), until="recall@20=0.2", epoch_budget=1), 0.3) == ["target reached"]


@pytest.mark.parametrize("pickled", [False, True])
def test_the_count_is_kept(pickled):
    budget = Budget(SearchSpec(Space(()), epoch_budget=2))
    budget("trial", {"recall@20": 0.1})
    budget = pickle.loads(pickle.dumps(budget)) if pickled else budget
    budget("trial", {"recall@20": 0.1})
    assert budget.stop_all()
