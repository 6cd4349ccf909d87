"""What Optuna is told of trials that end in different ways."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from gru4rec.stopping import StoppingRule
from tuning.presets import PRESETS
from tuning.searcher import make_searcher, trial_seed
from tuning.space import Dimension, Space
from tuning.spec import SearchSpec

SPEC = SearchSpec(
    Space((Dimension("learning_rate", "float", 0.01, 0.3, log=True),), points=({"learning_rate": 0.1},)),
    trials=6,
    max_epochs=3,
    seed=5,
    criterion=StoppingRule("recall@20", 2),
)


def report(epoch, value, best=None, stopped_early=False):
    return {"epoch": epoch, "recall@20": value, "best": best or value, "stopped_early": stopped_early}


@pytest.fixture
def searcher():
    return make_searcher(SPEC, "study")


def told(searcher, number=0):
    return searcher.study.trials[number]


def test_a_suggestion_is_a_configuration(searcher):
    first = searcher.suggest("a")
    assert first == {"learning_rate": 0.1, "trial": 0, "seed": trial_seed(5, 0)}
    assert searcher.suggest("b")["trial"] == 1


def test_a_trial_that_ran_to_its_end_is_complete_with_its_best_value(searcher):
    searcher.suggest("a")
    searcher.on_trial_result("a", report(1, 0.2))
    searcher.on_trial_result("a", report(2, 0.5))
    searcher.on_trial_complete("a", report(3, 0.4, best=0.5))
    assert told(searcher).state == TrialState.COMPLETE
    assert told(searcher).value == 0.5
    assert told(searcher).intermediate_values == {1: 0.2, 2: 0.5, 3: 0.4}


def test_a_trial_that_lost_patience_is_complete(searcher):
    searcher.suggest("a")
    searcher.on_trial_complete("a", report(2, 0.4, best=0.45, stopped_early=True))
    assert told(searcher).state == TrialState.COMPLETE
    assert told(searcher).value == 0.45


def test_a_trial_that_asha_stopped_is_pruned_with_its_values(searcher):
    searcher.suggest("a")
    searcher.on_trial_complete("a", report(1, 0.2))
    assert told(searcher).state == TrialState.PRUNED
    assert told(searcher).intermediate_values == {1: 0.2}


def test_a_diverged_trial_is_pruned_and_not_left_running(searcher):
    searcher.suggest("a")
    searcher.on_trial_result("a", report(1, 0.2))
    searcher.on_trial_result("a", report(2, math.nan))
    searcher.on_trial_complete("a", report(2, math.nan))
    assert told(searcher).state == TrialState.PRUNED
    assert told(searcher).intermediate_values == {1: 0.2}


def test_a_failed_trial_is_fail(searcher):
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    assert told(searcher).state == TrialState.FAIL


def test_a_second_end_is_ignored(searcher):
    searcher.suggest("a")
    searcher.on_trial_complete("a", report(3, 0.4))
    searcher.on_trial_complete("a", error=True)
    assert told(searcher).state == TrialState.COMPLETE


def test_the_same_seed_suggests_the_same():
    def suggestions(seed):
        searcher = make_searcher(SearchSpec(PRESETS["full"], trials=12, seed=seed), f"study-{seed}")
        found = []
        for number in range(12):
            found.append(searcher.suggest(str(number)))
            searcher.on_trial_complete(str(number), report(10, 0.1 + number / 100))
        return found

    assert suggestions(1) == suggestions(1)
    assert suggestions(1) != suggestions(2)


def test_several_objectives():
    searcher = make_searcher(replace(SPEC, objectives=("mrr@20", "parameters")), "study")
    assert [direction.name for direction in searcher.study.directions] == ["MAXIMIZE", "MAXIMIZE", "MINIMIZE"]
    for number, done in enumerate((3, 1)):
        searcher.suggest(str(number))
        searcher.on_trial_result(str(number), {**report(1, 0.5), "mrr@20": 0.3, "parameters": 900})
        searcher.on_trial_complete(str(number), {**report(done, 0.4, best=0.5), "mrr@20": 0.1, "parameters": 900})
    assert told(searcher).values == [0.5, 0.3, 900]  # of the best epoch
    assert searcher.at_best == {}
    assert told(searcher, 1).state == TrialState.PRUNED
    assert searcher.suggest("more")["trial"] == 2


def test_a_search_goes_on_from_its_saved_state(tmp_path):
    searcher = make_searcher(SPEC, "study")
    searcher.suggest("a")
    searcher.save(str(tmp_path / "state"))
    restored = make_searcher(SPEC, "other")
    restored.restore(str(tmp_path / "state"))
    for each in (searcher, restored):
        each.on_trial_complete("a", report(3, 0.5))
    assert searcher.suggest("b") == restored.suggest("b")


def test_seeds_of_trials_differ():
    seeds = {trial_seed(search, trial) for search in range(5) for trial in range(100)}
    assert len(seeds) == 500
