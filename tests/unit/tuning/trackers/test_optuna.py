"""The study that optuna-dashboard reads is the search's own, trial by trial."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from gru4rec.errors import SearchError
from gru4rec.stopping import StoppingRule
from tuning.journal import Journal, read_journal
from tuning.logging_spec import LoggingSpec
from tuning.searcher import make_searcher
from tuning.space import Dimension, Space
from tuning.spec import SearchSpec
from tuning.trackers.optuna import OptunaTracker, open_storage
from tuning.tracking import Subject

SPACE = Space(
    (
        Dimension("loss_fn", "choice", options=("cross-entropy", "bpr-max")),
        Dimension("bpreg", "float", 0.0, 1.0, when={"loss_fn": ("bpr-max",)}),
        Dimension("learning_rate", "float", 0.01, 0.3, log=True),
    ),
    {"embedding": "tied"},
    ({"loss_fn": "bpr-max", "bpreg": 0.5, "learning_rate": 0.1},),
)
SPEC = SearchSpec(
    SPACE,
    trials=6,
    max_epochs=3,
    seed=5,
    criterion=StoppingRule("recall@20", 2),
    logging=LoggingSpec(optuna="optuna.log"),
)
CURVES = {0: [0.2, 0.5, 0.4], 1: [0.3], 2: [0.4, 0.1]}


def epoch(trial, number, value, best, state):
    return {"trial": trial, "epoch": number, "recall@20": value, "best": best, "node": "n1", "state": state}


@pytest.fixture
def begun(tmp_path):
    """The lines with which four trials of a search begin, and that search's own study, which was told how they end."""
    searcher = make_searcher(SPEC, "search", Journal(tmp_path))
    for trial in "0123":
        searcher.suggest(trial)
    for trial, curve in CURVES.items():
        for number, value in enumerate(curve, 1):
            report = {"epoch": number, "recall@20": value, "best": max(curve[:number]), "stopped_early": trial == 2}
            searcher.on_trial_result(str(trial), report)
        searcher.on_trial_complete(str(trial), report)
    searcher.on_trial_complete("3", error=True)
    searcher.settle(3, again=False)
    return [vars(past) | {"trial": past.number} for past in read_journal(tmp_path)], searcher.study


@pytest.fixture
def tracker(tmp_path):
    return OptunaTracker(Subject(tmp_path, SPEC, SPACE, "id"))


def study_in(folder):
    return optuna.load_study(study_name=folder.name, storage=open_storage("optuna.log", folder))


def tell_all(tracker, lines):
    for line in lines:
        tracker.begin(line)
    for trial, state in ((0, "finished"), (1, "stopped by ASHA"), (2, "stopped early")):
        for number, value in enumerate(CURVES[trial], 1):
            tracker.epoch(epoch(trial, number, value, max(CURVES[trial][:number]), "running"))
        tracker.end(trial, state, "")
    tracker.end(3, "failed", "MemoryError")


def content(study):
    return [
        (trial.number, trial.state, trial.values, trial.params, trial.distributions, trial.intermediate_values)
        for trial in study.trials
    ]


def test_it_is_what_the_search_s_own_study_is(begun, tracker, tmp_path):
    lines, own = begun
    tell_all(tracker, lines)
    tracker.close("all trials ended", None)
    shown = study_in(tmp_path)
    assert content(shown) == content(own)
    assert [trial.state.name for trial in shown.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "FAIL"]
    assert shown.best_trial.number == 0
    assert shown.metric_names == ["recall@20"]
    assert shown.trials[0].user_attrs == {"seed": lines[0]["seed"], "node": "n1", "state": "finished"}
    assert shown.trials[3].user_attrs["error"] == "MemoryError"


def test_told_again_it_has_nothing_twice(begun, tracker, tmp_path):
    lines, _ = begun
    tell_all(tracker, lines)
    before = content(study_in(tmp_path))
    tell_all(OptunaTracker(Subject(tmp_path, SPEC, SPACE, "id")), lines)
    assert content(study_in(tmp_path)) == before


def test_an_interrupted_trial_waits_and_is_gone_on_with(begun, tracker, tmp_path):
    lines, _ = begun
    tracker.begin(lines[0])
    tracker.epoch(epoch(0, 1, 0.2, 0.2, "running"))
    assert study_in(tmp_path).trials[0].state == TrialState.RUNNING
    tracker.close("interrupted", None)
    assert study_in(tmp_path).trials[0].state == TrialState.WAITING
    again = OptunaTracker(Subject(tmp_path, SPEC, SPACE, "id"))
    again.begin(lines[0])
    assert study_in(tmp_path).trials[0].state == TrialState.RUNNING
    for number, value in ((1, 0.2), (2, 0.5), (3, 0.4)):
        again.epoch(epoch(0, number, value, max(0.2, value), "running"))
    again.end(0, "finished", "")
    (trial,) = study_in(tmp_path).trials
    assert (trial.state, trial.intermediate_values) == (TrialState.COMPLETE, {1: 0.2, 2: 0.5, 3: 0.4})


def test_several_objectives_have_no_intermediate_values(begun, tmp_path):
    spec = replace(SPEC, objectives=("parameters",), logging=LoggingSpec(optuna=f"sqlite:///{tmp_path}/studies.db"))
    tracker = OptunaTracker(Subject(tmp_path / "run", spec, SPACE, "id"))
    tracker.begin(begun[0][0])
    for number, value in ((1, 0.2), (2, 0.5)):
        tracker.epoch({**epoch(0, number, value, value, "running"), "parameters": 100})
    tracker.end(0, "finished", "")
    study = optuna.load_study(study_name="run", storage=spec.logging.optuna)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert (study.trials[0].values, study.trials[0].intermediate_values) == ([0.5, 100.0], {})


def test_a_study_of_another_search_is_left_alone(tracker, tmp_path):
    with pytest.raises(SearchError, match=r"has a study .* of another search; hint: give this one another --out"):
        OptunaTracker(Subject(tmp_path, SPEC, SPACE, "another"))
