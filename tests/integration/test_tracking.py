"""A search that is shown while it runs finds what it finds unseen; optuna-dashboard's own server looks on."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gru4rec import read_log, split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.stopping import StoppingRule
from tuning import Dimension, SearchData, SearchSpec, Space, load_result, tune
from tuning.logging_spec import LoggingSpec

SPEC = SearchSpec(
    Space(
        (Dimension("learning_rate", "float", 0.02, 0.3, log=True),),
        {"loss_fn": "cross-entropy", "embedding": "tied", "hidden_size": 16, "num_negatives": 32, "batch_size": 16},
    ),
    trials=5,
    max_epochs=6,
    grace_period=2,
    seed=1,
    criterion=StoppingRule("recall@20", 6),
    max_concurrent_trials=1,
    refit=False,
)


@pytest.fixture(scope="module")
def data():
    train, validation = split_time_share(read_log(generate_log(500, 100, seed=2)), 0.3)
    return SearchData(train, validation)


class Dashboard:
    """optuna-dashboard's own server on loopback."""

    def __init__(self, file: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        script = "from optuna_dashboard._cli import main; main()"
        self._server = subprocess.Popen(
            [sys.executable, "-c", script, str(file), "--host", "127.0.0.1", "--port", str(self._port), "--quiet"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the study until the answer is as it should be."""
        deadline = time.monotonic() + 60
        while not (study := self._ask()) or not condition(study):
            assert time.monotonic() < deadline, study
            time.sleep(0.2)
        return study

    def _ask(self) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self._port}/api/studies"
        try:
            (study,) = json.load(urllib.request.urlopen(address, timeout=10))["study_summaries"]
            return json.load(urllib.request.urlopen(f"{address}/{study['study_id']}", timeout=10)) | study
        except OSError:  # it is starting
            return {}

    def stop(self) -> None:
        self._server.kill()
        self._server.wait()


@pytest.fixture(scope="module")
def shown(ray_local, data, tmp_path_factory):
    """Run the search, holding it after its first epoch until the dashboard shows it; return it and what was shown."""
    path = tmp_path_factory.mktemp("shown") / "run"
    spec = dataclasses.replace(SPEC, logging=LoggingSpec(tensorboard=True, optuna="optuna.log"))
    dashboards, studies = [], []

    def look(progress):
        if progress.epochs and not dashboards:
            while not (path / "optuna.log").exists():
                time.sleep(0.1)
            dashboards.append(Dashboard(path / "optuna.log"))
            studies.append(dashboards[0].wait_for(lambda study: study["trials"][:1] and intermediate(study, 0)))

    try:
        result = tune(spec, path, data, on_progress=look)
        studies.append(
            dashboards[0].wait_for(lambda study: len(study["trials"]) == 5 and states(study)[-1] != "Running")
        )
    finally:
        for dashboard in dashboards:
            dashboard.stop()
    return result, studies


def states(study):
    return [trial["state"] for trial in study["trials"]]


def intermediate(study, number):
    return [(point["step"], point["value"]) for point in study["trials"][number]["intermediate_values"]]


def test_the_dashboard_shows_a_trial_that_runs(shown):
    result, (while_it_ran, _) = shown
    first = result.epochs().iloc[0]
    assert states(while_it_ran) == ["Running"]
    assert intermediate(while_it_ran, 0) == [(1, first["recall@20"])]
    assert while_it_ran["study_name"] == "run"


def test_the_dashboard_shows_how_trials_ended(shown):
    result, (_, at_the_end) = shown
    names = {"finished": "Complete", "stopped early": "Complete", "stopped by ASHA": "Pruned"}
    assert states(at_the_end) == [names[record.state] for record in result.trials]
    epochs = result.epochs()
    for record in result.trials:
        curve = epochs[epochs["trial"] == record.number]
        assert intermediate(at_the_end, record.number) == list(zip(curve["epoch"], curve["recall@20"], strict=True))
    assert at_the_end["best_trials"][0]["number"] == result.best.number


def test_a_search_that_is_shown_finds_what_it_finds_unseen(shown, data, tmp_path):
    result, _ = shown
    unseen = tune(SPEC, tmp_path / "run", data)
    assert [dataclasses.replace(record, seconds=0.0) for record in result.trials] == [
        dataclasses.replace(record, seconds=0.0) for record in unseen.trials
    ]
    values = ["trial", "epoch", "loss", "recall@20", "mrr@20", "ndcg@20", "best", "state"]
    assert result.epochs()[values].equals(unseen.epochs()[values])
    assert (result.best_model / "weights.safetensors").read_bytes() == (
        unseen.best_model / "weights.safetensors"
    ).read_bytes()


def test_a_tool_that_cannot_be_reached_is_noted_and_the_search_goes_on(ray_local, data, tmp_path):
    (tmp_path / "file").touch()
    spec = dataclasses.replace(SPEC, trials=2, max_epochs=2, logging=LoggingSpec(optuna=f"{tmp_path}/file/optuna.log"))
    said = []
    result = tune(spec, tmp_path / "run", data, on_stage=said.append)
    problem = f"NotADirectoryError: [Errno 20] Not a directory: '{tmp_path}/file/optuna.log'"
    assert f"optuna failed, the search goes on: {problem}" in said
    assert result.notes == [f"optuna failed, and lacks part of the search: {problem}"]
    assert load_result(result.path).notes == result.notes
    assert len(result.trials) == 2
