"""The result folder: written, read back, protected."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from gru4rec.errors import SearchError
from gru4rec.stopping import StoppingRule
from tuning.confirm import Confirmation
from tuning.presets import PRESETS
from tuning.progress import TrialRecord
from tuning.result import SearchResult, load_result, result_folder, write_result
from tuning.space import Dimension, Space
from tuning.spec import SearchSpec

SPEC = SearchSpec(PRESETS["full"], trials=3, criterion=StoppingRule("recall@20", 2))
TRIALS = [
    TrialRecord(
        0, 11, {"loss_fn": "bpr-max", "hidden_size": 64, "bpreg": 0.5, **SPEC.space.fixed}, "finished", 10, 4,
        {"recall@20": 0.5, "mrr@20": 0.2}, "all", {}, 12.5,
    ),
    TrialRecord(
        1, 12, {"loss_fn": "bpr", "hidden_size": 96, **SPEC.space.fixed}, "stopped by ASHA", 3, 3,
        {"recall@20": 0.6, "mrr@20": 0.1}, "all", {}, 3.0,
    ),
    TrialRecord(
        2, 13, {"loss_fn": "bpr", "hidden_size": 32, **SPEC.space.fixed}, "diverged", 1, error="loss became nan",
    ),
]  # fmt: skip
CONFIRMED = [Confirmation(0, {"recall@20": [0.5, 0.6]}), Confirmation(1, {"recall@20": [0.7, 0.5]})]


def enter(path):
    with result_folder(path, SPEC) as made:
        return made


@pytest.fixture
def folder(tmp_path):
    with result_folder(tmp_path / "run", SPEC) as path:
        write_result(SearchResult(path, SPEC, TRIALS, "epoch budget used", 21.5, CONFIRMED))
    return path


def test_what_is_written_is_read_back(folder):
    result = load_result(folder)
    assert result.trials == TRIALS
    assert (result.ended, result.elapsed_s, result.confirmed) == ("epoch budget used", 21.5, CONFIRMED)
    assert dataclasses.replace(result.spec, space=SPEC.space) == SPEC
    assert result.spec.space.dimensions == SPEC.space.dimensions


def test_values_of_mixed_types_are_read_back(tmp_path):
    space = Space(
        (
            Dimension("num_negatives", "choice", options=(64, "all")),
            Dimension("logq", "choice", options=(0, 1), when={"num_negatives": (64,)}),
        ),
        {"loss_fn": "cross-entropy", "clipnorm": None},
    )
    trials = [
        TrialRecord(0, 1, {**space.fixed, "num_negatives": 64, "logq": 1}, "finished", 1, 1, {"recall@20": 0.5}),
        TrialRecord(1, 2, {**space.fixed, "num_negatives": "all"}, "finished", 1, 1, {"recall@20": 0.4}),
    ]
    with result_folder(tmp_path / "run", dataclasses.replace(SPEC, space=space)) as path:
        write_result(SearchResult(path, SPEC, trials))
    found = [record.hyperparameters for record in load_result(path).trials]
    assert found == [trial.hyperparameters for trial in trials]
    assert [type(values["num_negatives"]) for values in found] == [int, str]


def test_the_best_and_the_leaderboard(folder):
    result = load_result(folder)
    assert result.best.number == 1
    assert [record.number for record in result.leaderboard()] == [1, 0, 2]
    assert result.trial(2).error == "loss became nan"


def test_trials_are_a_table_for_others(folder):
    table = pd.read_parquet(folder / "trials.parquet")
    assert table["recall@20"].tolist()[:2] == [0.5, 0.6]
    assert table["hidden_size"].tolist() == [64, 96, 32]


def test_an_unknown_trial(folder):
    with pytest.raises(SearchError, match="there is no trial 9; this search has trials 0 to 2"):
        load_result(folder).trial(9)


def test_no_trial_with_a_metric(folder):
    with pytest.raises(SearchError, match="none of 1 trials reported recall@20: loss became nan, all trials ended"):
        _ = SearchResult(folder, SPEC, TRIALS[2:]).best


def test_a_folder_that_holds_a_search_is_refused(folder):
    with pytest.raises(SearchError, match="run holds another search; hint: choose another --out"):
        enter(folder)


def test_a_folder_that_holds_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SearchError, match="holds other files"):
        enter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_taken(tmp_path):
    assert (enter(tmp_path) / "search.toml").is_file()


def test_a_search_that_fails_before_its_first_epoch_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), result_folder(tmp_path / "run", SPEC):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_fails_later_leaves_what_it_found(tmp_path):
    with pytest.raises(RuntimeError), result_folder(tmp_path / "run", SPEC) as path:
        (path / "epochs.ndjson").write_text("{}")
        raise RuntimeError
    assert {found.name for found in path.iterdir()} == {"search.toml", "epochs.ndjson", ".lock"}


def test_a_folder_without_a_search(tmp_path):
    with pytest.raises(SearchError, match="is not the folder of a search"):
        load_result(tmp_path)


def test_a_search_that_has_not_ended(tmp_path):
    path = enter(tmp_path / "run")
    with pytest.raises(SearchError, match=r"has no trials.parquet; hint: its search has not ended"):
        load_result(path)


def test_confirmed_trials_are_chosen_among_by_their_mean():
    diverged = Confirmation(1, {"recall@20": [0.9, float("nan")]})
    assert SearchResult(Path(), SPEC, TRIALS, confirmed=CONFIRMED).best.number == 1
    assert SearchResult(Path(), SPEC, TRIALS, confirmed=[CONFIRMED[0], diverged]).best.number == 0


def test_what_was_measured_on_all_sessions_goes_before_a_sample():
    sampled = dataclasses.replace(TRIALS[1], validated_on="sample")
    result = SearchResult(Path(), SPEC, [TRIALS[0], sampled, TRIALS[2]])
    assert result.best.number == 0
    assert [trial.number for trial in result.leaderboard()] == [0, 1, 2]


def test_the_pareto_front():
    spec = dataclasses.replace(SPEC, objectives=("parameters", "mrr@20"))
    values = [(0.5, 100.0, 0.2), (0.6, 200.0, 0.1), (0.4, 100.0, 0.2), (0.5, 90.0, 0.1), (0.6, 200.0, 0.1)]
    trials = [
        TrialRecord(number, 0, {}, "finished", 1, 1, {"recall@20": recall, "mrr@20": mrr}, "all", {"parameters": size})
        for number, (recall, size, mrr) in enumerate(values)
    ]
    assert [trial.number for trial in SearchResult(Path(), spec, trials).pareto_front()] == [1, 4, 0, 3]


def test_the_best_trials_are_points_of_another_search(folder):
    points = load_result(folder).best_points()
    assert points == [TRIALS[1].hyperparameters, TRIALS[0].hyperparameters]
    fitted = PRESETS["full"].with_points(points).fitted_points()
    assert fitted[0] == {"loss_fn": "bpr", "hidden_size": 96}


# --- folders that are damaged on purpose -----------------------------------------------------------------------------


def change_trials(folder, change):
    frame = pd.read_parquet(folder / "trials.parquet").astype(object)
    change(frame)
    frame.to_parquet(folder / "trials.parquet", index=False)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("trial", "x", "trial 'x': trial must be of type int, got 'x'"),
        ("state", None, "trial 0: state must be of type str, got None"),
        ("seconds", "long", "trial 0: seconds must be of type float, got 'long'"),
        ("recall@20", None, "trial 0: recall@20 must be a number, got None"),
        ("hyperparameters", "[1]", "expected an object, got [1]"),
        ("hyperparameters", "[" * 10**5, "maximum recursion depth exceeded"),
    ],
)
def test_a_damaged_trial_is_named(folder, name, value, problem):
    change_trials(folder, lambda frame: frame.__setitem__(name, value))
    with pytest.raises(SearchError) as error:
        load_result(folder)
    assert str(error.value).startswith(f"{folder / 'trials.parquet'} cannot be read: {problem}")


def test_a_missing_column_of_trials_is_named(folder):
    change_trials(folder, lambda frame: frame.pop("seed"))
    with pytest.raises(SearchError, match=r"trials\.parquet cannot be read: trial 0: seed must be of type int, got"):
        load_result(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read: Expecting value"),
        (b"\xff", "cannot be read: 'utf-8' codec"),
        (b"[]", "cannot be read: expected an object, got []"),
        (b"{}", "cannot be read: ended must be text, elapsed_s a number and confirmed a list"),
        (b'{"ended": "x", "elapsed_s": 1, "confirmed": [1]}', "cannot be read: expected an object, got 1"),
        (
            b'{"ended": "x", "elapsed_s": 1, "confirmed": [{"trial": 0, "metrics": {"recall@20": []}}]}',
            "cannot be read: confirmed must have a trial and its recall@20 with each seed",
        ),
        (
            b'{"ended": "x", "elapsed_s": 1, "confirmed": [{"trial": 0, "metrics": {"mrr@20": [1.0]}}]}',
            "cannot be read: confirmed must have a trial and its recall@20 with each seed",
        ),
    ],
)
def test_a_damaged_outcome_is_named(folder, content, problem):
    (folder / "search.json").write_bytes(content)
    with pytest.raises(SearchError) as error:
        load_result(folder)
    assert str(error.value).startswith(f"{folder / 'search.json'} {problem}")


@pytest.mark.parametrize("line", ["1", "{", "\xff"], ids=repr)
def test_damaged_curves_are_named(folder, line):
    (folder / "epochs.ndjson").write_bytes(b'{"trial": 0, "epoch": 1}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(SearchError, match=r"epochs\.ndjson"):
        load_result(folder).epochs()


def test_the_function_of_a_space_is_not_called(folder, tmp_path, monkeypatch):
    (tmp_path / "touching.py").write_text("from pathlib import Path\nPath(__file__).with_name('marker').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    (folder / "search.toml").write_text('[space]\nfunction = "touching:space"\n')
    load_result(folder)
    assert not (tmp_path / "marker").exists()
