"""How searches begin and end: budgets, targets, Ctrl-C, warm starts, confirmation, objectives; on a real Ray."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gru4rec import load_model, read_log, split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.data.writing import write_log
from gru4rec.errors import SearchError
from gru4rec.stopping import StoppingRule
from tuning import Dimension, SearchData, SearchSpec, Space, load_result, tune

SPEC = SearchSpec(
    Space(
        (
            Dimension("hidden_size", "int", 8, 24, step=8),
            Dimension("learning_rate", "float", 0.02, 0.3, log=True),
        ),
        {"loss_fn": "cross-entropy", "embedding": "tied", "num_negatives": 32, "batch_size": 16},
    ),
    trials=3,
    max_epochs=4,
    grace_period=1,
    seed=1,
    criterion=StoppingRule("recall@20", 4),
    max_concurrent_trials=1,
    refit=False,
)


@pytest.fixture(scope="module")
def data():
    train, validation = split_time_share(read_log(generate_log(500, 100, seed=2)), 0.3)
    return SearchData(train, validation)


@pytest.fixture(scope="module")
def search(ray_local, data, tmp_path_factory):
    """Run a search with these settings."""

    def run(**changes):
        return tune(dataclasses.replace(SPEC, **changes), tmp_path_factory.mktemp("search") / "run", data)

    return run


def test_an_epoch_budget(search):
    result = search(epoch_budget=5)
    assert result.ended == "epoch budget used"
    assert sum(trial.epochs for trial in result.trials) in {5, 6}  # one may be running when the fifth is counted
    assert load_result(result.path).ended == "epoch budget used"
    assert load_model(result.best_model)


def test_a_time_budget(search):
    """A busy machine may need all of the time to start the first trial."""
    try:
        result = search(time_budget_s=10.0, trials=5000)
    except SearchError as error:
        assert "none of" in str(error)
        assert "time budget used" in str(error)
    else:
        assert result.ended == "time budget used"
        assert len(result.trials) < 5000


def test_a_target(search):
    result = search(until="mrr@20=0.0001", trials=50)
    assert result.ended == "target reached"
    assert len(result.trials) == 1
    assert max(result.best.metrics["mrr@20"], 0) >= 0.0001


def test_all_trials(search):
    assert search().ended == "all trials ended"


def test_the_winner_of_a_confirmation_has_the_best_mean(search):
    result = search(confirm="2x3")
    assert [found.trial for found in result.confirmed] == [trial.number for trial in result.leaderboard()[:2]]
    means = {found.trial: sum(found.metrics["recall@20"]) / 3 for found in result.confirmed}
    assert means[result.best.number] == max(means.values())
    assert all(len(set(found.metrics["mrr@20"])) == 3 for found in result.confirmed)
    figures = json.loads((result.best_model / "metrics.json").read_text())
    assert figures["trial"] == result.best.number
    assert len(figures["confirmed"]["recall@20"]) == 3
    assert load_result(result.path).best.number == result.best.number


def test_epochs_before_the_last_rung_are_measured_on_a_sample(search, data):
    result = search(validation_sample_size=20, reduction_factor=3)
    table = result.epochs()
    assert result.spec.rungs == [1, 3]
    assert set(table.loc[table["epoch"] < 3, "validated_on"]) == {"sample"}
    assert set(table.loc[table["epoch"] >= 3, "validated_on"]) == {"all"}
    assert (result.best.validated_on, result.best.best_epoch >= 3) == ("all", True)
    assert load_model(result.best_model).evaluate(data.validation).metrics == result.best.metrics


def test_a_trial_that_loses_patience_on_the_sample_is_measured_on_all(search):
    space = dataclasses.replace(SPEC.space, dimensions=(), fixed={**SPEC.space.fixed, "learning_rate": 1e-9})
    result = search(
        space=space, trials=1, max_epochs=30, grace_period=9, validation_sample_size=20,
        criterion=StoppingRule("recall@20", 2, 0.5),
    )  # fmt: skip
    assert result.epochs()["validated_on"].tolist()[-2:] == ["sample", "all"]
    assert (result.best.state, result.best.validated_on) == ("stopped early", "all")


def test_several_objectives(search):
    result = search(objectives=("parameters", "recommend_ms"), trials=4)
    front = result.pareto_front()
    assert result.best in front
    sizes = {trial.hyperparameters["hidden_size"]: trial.costs["parameters"] for trial in result.trials}
    model = load_model(result.best_model)
    assert sizes[result.best.hyperparameters["hidden_size"]] == sum(
        weight.numel() for weight in model.network.weights.values()
    )
    assert all(trial.costs["recommend_ms"] > 0 for trial in result.trials)
    assert load_result(result.path).trials == result.trials


def test_a_search_begins_with_the_points_it_is_given(search):
    first = search()
    second = search(space=SPEC.space.with_points(first.best_points()), trials=2)
    expected = [trial.hyperparameters for trial in first.leaderboard()[:2]]
    assert [trial.hyperparameters for trial in second.trials] == [pytest.approx(point) for point in expected]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(tmp_path, times):
    """The whole process group gets the signal, as from a terminal; a second one ends at once."""
    write_log(generate_log(20_000, 100, seed=4), tmp_path / "log.csv")
    (tmp_path / "search.toml").write_text(
        "data.train = 'log.csv'\ndata.validation = 'log.csv'\n[search]\ntrials = 2000\nmax_epochs = 3000\n"
        "max_concurrent_trials = 1\nrefit = false\n[stopping]\nmax_iter_no_change = 3000\n"
        "[fixed]\nbatch_size = 16\n[space.hidden_size]\ntype = 'int'\nlow = 8\nhigh = 16\n"
    )
    command = [sys.executable, "-c", "from gru4rec.cli.main import main; main()", "tune", "run", "search.toml"]
    process = subprocess.Popen(
        [*command, "--out", "run"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    epochs = tmp_path / "run" / "epochs.ndjson"
    try:
        _wait_for(lambda: epochs.exists() and epochs.read_text().count("\n") > 0, process)
        for _ in range(times):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(1.5)  # two that come together are one
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    result = load_result(tmp_path / "run")
    assert result.ended == "interrupted"
    assert result.best.best_epoch > 0
    if times == 1:
        assert "interrupted; wrote" in err
        assert "trial" in out
        assert load_model(result.best_model)
    else:
        assert not result.best_model.exists()


def _wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
