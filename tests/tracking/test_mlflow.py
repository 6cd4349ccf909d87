"""What MLflow has of a search that was killed and went on, and the model that it serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import pytest

from gru4rec import load_model, read_log
from gru4rec.errors import ModelFolderError
from gru4rec.mlflow_model import save_mlflow_model

EVENTS = pd.DataFrame({"SessionId": [7, 7, 9], "ItemId": ["item-00001", "item-00002", "item-00003"]})


@pytest.fixture(scope="session")
def runs(shown):
    return shown.mlflow()[1]


def test_the_search_is_one_run_with_one_run_for_each_trial(runs):
    assert sorted(trial for trial, _ in runs) == ["", "0", "1", "2"]
    assert {run.info.status for _, run in runs} == {"FINISHED"}
    search = dict(runs)[""]
    assert search.info.run_name == "run"
    parents = {run.data.tags.get("mlflow.parentRunId") for trial, run in runs if trial}
    assert parents == {search.info.run_id}


def test_every_epoch_is_there_once(shown, runs):
    client, _ = shown.mlflow()
    for trial, lines in shown.epochs().items():
        history = client.get_metric_history(dict(runs)[str(trial)].info.run_id, "recall_at_20")
        assert [(point.step, point.value) for point in history] == [
            (line["epoch"], line["recall@20"]) for line in lines
        ]


def test_a_trial_has_its_hyperparameters(shown, runs):
    begun = [json.loads(line) for line in (shown.path / "trials.ndjson").read_text().splitlines()]
    for line in begun:
        run = dict(runs)[str(line["trial"])]
        assert run.data.params == {name: str(value) for name, value in line["hyperparameters"].items()}
        assert run.data.tags["seed"] == str(line["seed"])
        assert run.data.tags["state"] == "finished"


def test_the_search_has_the_winner_s_figures(shown, runs):
    figures = json.loads((shown.path / "best/metrics.json").read_text())
    logged = dict(runs)[""].data.metrics
    assert logged["test/recall_at_20"] == figures["test"]["metrics"]["recall@20"]
    assert logged["validation/mrr_at_20"] == figures["validation"]["mrr@20"]


def test_the_logged_model_recommends_as_the_model_folder_does(shown, runs):
    model = mlflow.pyfunc.load_model(str(Path(dict(runs)[""].info.artifact_uri) / "model"))
    expected = load_model(shown.path / "best").recommend(read_log(EVENTS.assign(Time=[1, 2, 3])), k=4).table
    got = model.predict(EVENTS, params={"k": 4})
    pd.testing.assert_frame_equal(got, expected)
    assert list(got["session"]) == [7] * 4 + [9] * 4
    seen = model.predict(EVENTS.assign(Time=[1, 2, 3]), params={"k": 150, "exclude_seen": True})
    assert not set(seen["item"][seen["session"] == 7]) & {"item-00001", "item-00002"}


def test_the_command_line_of_mlflow_predicts(shown, tmp_path):
    save_mlflow_model(shown.path / "best", tmp_path / "model")
    request = {"dataframe_split": EVENTS.to_dict(orient="split", index=False), "params": {"k": 2}}
    (tmp_path / "request.json").write_text(json.dumps(request))
    command = ["mlflow", "models", "predict", "--model-uri", "model", "--env-manager", "local"]
    done = subprocess.run(
        [*command, "--input-path", "request.json", "--output-path", "answer.json"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = pd.DataFrame(json.loads((tmp_path / "answer.json").read_text())["predictions"])
    expected = load_model(shown.path / "best").recommend(read_log(EVENTS.assign(Time=[1, 2, 3])), k=2).table
    assert list(answer["item"]) == list(expected["item"])


def test_no_pickle_is_in_it(shown, tmp_path):
    folder = save_mlflow_model(shown.path / "best", tmp_path / "model")
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file() and "code" not in path.parts}
    assert kinds <= {"", ".json", ".ndjson", ".toml", ".csv", ".yaml", ".txt", ".md", ".parquet", ".safetensors"}


def test_what_is_there_is_not_overwritten(shown, tmp_path):
    with pytest.raises(ModelFolderError, match="exists already"):
        save_mlflow_model(shown.path / "best", tmp_path)
