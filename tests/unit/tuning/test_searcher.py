"""What Optuna is told of trials that end in different ways."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from gru4rec.stopping import StoppingRule
from tuning.journal import EPOCHS, TRIALS, Journal, read_journal
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


def test_a_diverged_trial_is_the_worst_that_there_is(searcher):
    """PRUNED without a value: TPE ranks that below all that got anywhere."""
    searcher.suggest("a")
    searcher.on_trial_result("a", report(1, 0.2))
    searcher.on_trial_result("a", report(2, math.nan))
    searcher.on_trial_complete("a", report(2, math.nan))
    assert told(searcher).state == TrialState.PRUNED
    assert told(searcher).intermediate_values == {}


def test_a_failed_trial_is_fail(searcher):
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    searcher.settle(0, again=False)
    assert told(searcher).state == TrialState.FAIL


def test_a_trial_that_is_tried_again_goes_before_anything_new(searcher):
    first, second = searcher.suggest("a"), searcher.suggest("b")
    for name, number in (("b", 1), ("a", 0)):
        searcher.on_trial_complete(name, error=True)
        searcher.settle(number, again=True)
    assert [searcher.suggest("c"), searcher.suggest("d")] == [first, second]
    assert searcher.suggest("e")["trial"] == 2
    searcher.on_trial_complete("c", report(3, 0.4))
    assert told(searcher).state == TrialState.COMPLETE


def test_there_are_as_many_trials_as_asked_for(searcher):
    """While any of them may fail there may be more to do."""
    for number in range(6):
        searcher.suggest(str(number))
    assert searcher.suggest("more") is None
    for number in range(6):
        searcher.on_trial_complete(str(number), report(3, 0.4), error=number == 5)
    assert searcher.suggest("more") is None
    searcher.settle(5, again=False)
    assert searcher.suggest("more") == Searcher.FINISHED


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
    assert searcher.running == {}
    assert told(searcher, 1).state == TrialState.PRUNED
    assert searcher.suggest("more")["trial"] == 2


@pytest.mark.parametrize("crash", [1, 2, 4, 9, 14])
def test_a_searcher_that_knows_the_past_goes_on_as_the_first_would_have(tmp_path, crash):
    """Trials that have not ended come first; then what is suggested is what would have been."""
    spec = SearchSpec(PRESETS["full"], trials=20, seed=3)
    for name in ("whole", "part"):
        (tmp_path / name).mkdir()
    whole = play(make_searcher(spec, "whole", Journal(tmp_path / "whole")), 16, tmp_path / "whole")
    play(make_searcher(spec, "first", Journal(tmp_path / "part")), crash, tmp_path / "part", crashes=True)
    past = read_journal(tmp_path / "part")
    assert [trial.running for trial in past] == [False] * (crash - 1) + [True]
    rest = play(make_searcher(spec, "second", Journal(tmp_path / "part"), past), 17 - crash, tmp_path / "part")
    assert rest == whole[crash - 1 :]
    assert (tmp_path / "part" / TRIALS).read_bytes() == (tmp_path / "whole" / TRIALS).read_bytes()


def play(searcher, trials, folder, crashes=False):
    """Run trials of every kind one after the other, and write their journal; the last does not end if it `crashes`."""
    journal, found = Journal(folder), []
    for left in reversed(range(trials)):
        config = searcher.suggest("a")
        found.append(config)
        number = config["trial"]
        chance = random.Random(number)
        for epoch in range(1, 1 + (number % 10 or 10)):
            value = chance.random()
            done = epoch == (number % 10 or 10)
            if crashes and left == 0 and (done or epoch > 2):
                return found
            line = {
                "trial": number,
                **report(epoch, value, best=1.0),
                "state": "stopped by ASHA" if done else "running",
                "validated_on": "all",
                "epoch_seconds": 0.1,
                "elapsed_s": 0.2,
            }
            if number % 5 == 4 and done:
                end = {"trial": number, "state": ("failed", "diverged")[number % 2], "epochs": epoch, "error": ""}
                journal.append(TRIALS, end)
                searcher.on_trial_complete("a", report(epoch, math.nan), error=end["state"] == "failed")
                if end["state"] == "failed":
                    searcher.settle(number, again=False)
                break
            journal.append(EPOCHS, line)
            (searcher.on_trial_complete if done else searcher.on_trial_result)("a", line)
    return found


def test_points_that_were_not_tried_yet_come_after_those_that_were(tmp_path):
    points = tuple({"learning_rate": rate} for rate in (0.1, 0.2, 0.3))
    spec = replace(SPEC, space=replace(SPEC.space, points=points))
    make_searcher(spec, "first", Journal(tmp_path)).suggest("a")
    searcher = make_searcher(spec, "second", Journal(tmp_path), read_journal(tmp_path))
    assert [searcher.suggest(name)["learning_rate"] for name in "abc"] == [0.1, 0.2, 0.3]


def test_seeds_of_trials_differ():
    seeds = {trial_seed(search, trial) for search in range(5) for trial in range(100)}
    assert len(seeds) == 500
