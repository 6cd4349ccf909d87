"""Budgets: which of them ends a search, and on what."""

from __future__ import annotations

from tuning.budget import Budget
from tuning.journal import PastTrial
from tuning.space import Space
from tuning.spec import SearchSpec


def report(epoch, value, trial=0, validated_on="all"):
    return {"epoch": epoch, "recall@20": value, "validated_on": validated_on, "config": {"trial": trial}}


def play(spec, *values, validated_on="all"):
    budget = Budget(spec)
    reasons = []
    for epoch, value in enumerate(values, 1):
        assert budget("id", report(epoch, value, validated_on=validated_on)) is False
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


def test_an_epoch_that_is_reported_again_counts_once():
    budget = Budget(SearchSpec(Space(()), epoch_budget=3))
    for epoch in (1, 2, 1, 2):
        budget("id", report(epoch, 0.1))
    assert not budget.stop_all()
    budget("id", report(1, 0.1, trial=1))
    assert budget.stop_all()


def test_the_past_counts():
    past = [PastTrial(0, 0, {}, {}, [{**report(epoch, 0.3), "elapsed_s": 9.5} for epoch in (1, 2)])]
    assert Budget(SearchSpec(Space(()), epoch_budget=2), past).stop_all()
    assert Budget(SearchSpec(Space(()), until="recall@20=0.3"), past).stop_all()
    assert Budget(SearchSpec(Space(()), time_budget_s=9.0), past).stop_all()
    assert not Budget(SearchSpec(Space(()), time_budget_s=900.0), past).stop_all()


def test_a_storage_that_failed_ends_the_search():
    budget = Budget(SearchSpec(Space(())))
    budget("id", {**report(0, float("nan")), "storage_problem": "no space left"})
    assert budget.stop_all()
    assert (budget.reason, budget.problem) == ("storage failed", "no space left")
