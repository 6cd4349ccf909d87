"""The model folder of a trial tells of its search. That its figures are those of a search: tests/integration."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from gru4rec import load_model, read_log, split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.verification import verify_model
from tuning.progress import TrialRecord
from tuning.result import SearchResult
from tuning.search_data import SearchData
from tuning.space import Space
from tuning.spec import DataSpec, SearchSpec, read_spec
from tuning.winner import export_trial

FIXED = {"hidden_size": 8, "num_components": 8, "batch_size": 16}
CURVE = {0: [0.1, 0.3], 1: [0.2]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of trial 0 of two, and the log it was trained on."""
    path = tmp_path_factory.mktemp("search")
    train_full, test = split_time_share(read_log(generate_log(200, 100, seed=2)), 0.2)
    train, validation = split_time_share(train_full, 0.2)
    spec = SearchSpec(Space((), FIXED), DataSpec("/home/someone/train.csv", "validation.csv", licence="CC0"), trials=2)
    trials = [
        TrialRecord(number, 5, {"learning_rate": 0.1 + number}, "finished", len(values), len(values),
                    {"recall@20": values[-1]}, "all", seconds=1.0)
        for number, values in CURVE.items()
    ]  # fmt: skip
    lines = [
        {"trial": number, "epoch": epoch, "recall@20": value, "node": "10.0.0.7"}
        for number, values in CURVE.items()
        for epoch, value in enumerate(values, start=1)
    ]
    (path / "epochs.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = SearchResult(path, spec, trials)
    return export_trial(result, trials[0], path / "model", SearchData(train, validation, train_full, test)), train_full


def test_the_leaderboard_and_the_curve_are_there(exported):
    folder, _ = exported
    board = pd.read_csv(folder / "search/leaderboard.csv")
    assert board[["rank", "trial", "recall@20", "learning_rate"]].values.tolist() == [
        [1, 0, 0.3, 0.1],
        [2, 1, 0.2, 1.1],
    ]
    curve = pd.read_csv(folder / "search/curve.csv")
    assert curve.to_dict(orient="list") == {"trial": [0, 0], "epoch": [1, 2], "recall@20": [0.1, 0.3]}


def test_settings_are_there_without_where_the_logs_were(exported):
    folder, _ = exported
    spec = read_spec(folder / "search/search.toml")
    assert FIXED.items() <= spec.space.fixed.items()
    assert (spec.trials, spec.data) == (2, None)
    assert not any(b"/home/someone" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_card_has_figures_beside_intervals_and_baselines(exported):
    folder, train_full = exported
    card = (folder / "README.md").read_text()
    assert "one of 2 trials of a search" in card
    assert "The weights are those of epoch 2, with the seed 5." in card
    for row in ("validation", "test", "test, 95 % interval from", "test, with misses", "test, popularity"):
        assert f"| {row} | " in card
    assert f"| events | {train_full.num_events:,} |" in card
    assert "| licence | CC0 |" in card


def test_it_is_sound(exported):
    folder, train_full = exported
    assert {check.passed for check in verify_model(folder)} == {True, None}
    assert load_model(folder).training_log.num_events == train_full.num_events
