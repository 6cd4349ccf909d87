"""Advice: each sentence where it has a reason, and nowhere else."""

from __future__ import annotations

import pytest

from tuning.report.advice import advise
from tuning.report.findings import read_findings


@pytest.fixture
def advice_on(tmp_path, make_run, make_figures):
    def advise_on(made_trials, winner=None, markov=0.5, **settings):
        figures = make_figures(winner, markov=markov) if winner is not None else None
        return "\n".join(advise(read_findings(make_run(tmp_path / "run", made_trials, figures=figures, **settings))))

    return advise_on


def test_nothing_is_said_of_a_good_search(advice_on, many, made):
    trials = [*many(30), made([0.5, 0.7, 0.9, 0.8, 0.8, 0.8], hyperparameters={"learning_rate": 0.1})]
    advice = advice_on(trials, winner=30)
    assert advice == (
        "The winner is ahead of trial 9 by 0.1564 with one seed each: --confirm 3x3 would tell luck from merit."
    )


def test_few_trials_and_an_end_that_came_early(advice_on, made):
    advice = advice_on([made([0.5, 0.4])], trials=10, ended="time budget used")
    assert "(time budget used; 1 of 10 trials begun)" in advice
    assert "Only 1 trial got as far as a recall@20" in advice


def test_failures_and_divergence(advice_on, made):
    trials = [made([0.5, 0.4]), made([], "failed", error="no memory"), made([], "diverged", error="NaN")]
    advice = advice_on(trials)
    assert "1 trial failed; errors/ in the result folder has the tracebacks. The first: no memory" in advice
    assert "1 trial of 3 diverged" in advice


def test_a_curve_that_may_still_rise(advice_on, made):
    assert "best in the last of its 6 epochs" in advice_on([made([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])])


def test_a_model_below_a_baseline(advice_on, made):
    advice = advice_on([made([0.5, 0.4])], winner=0, markov=0.7)
    assert "does not beat the first-order Markov baseline" in advice
    assert "popularity" not in advice


def test_a_range_that_ends_where_the_best_trials_are(advice_on, made):
    """learning_rate may be larger than 0.3; hidden_size at 32 could be smaller, but no best trial is there."""
    trials = [
        made([0.3 + rate, 0.1], hyperparameters={"learning_rate": rate, "hidden_size": 100 + number})
        for number, rate in enumerate([0.3, 0.299, 0.298, *(0.02 + 0.005 * place for place in range(20))])
    ]
    advice = advice_on(trials)
    assert "3 of the best 5 trials have learning_rate at the upper end of its range (0.3)" in advice
    assert "hidden_size" not in advice


def test_a_range_that_ends_by_nature(advice_on, made):
    trials = [made([0.5, 0.1], hyperparameters={"loss_fn": "bpr-max", "bpreg": 0.0}) for _ in range(25)]
    assert "bpreg" not in advice_on(trials)
