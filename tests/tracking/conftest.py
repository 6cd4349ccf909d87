"""A search shown everywhere, killed on the way and gone on with. Run by `make test-tracking`."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gru4rec import read_log, split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.data.writing import write_log

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
SPEC = """
data = {{ train = "train.csv", validation = "validation.csv", test = "test.csv" }}
[search]
trials = 3
max_epochs = 8
max_concurrent_trials = 2
[stopping]
grace_period = 8
max_iter_no_change = 8
[logging]
tensorboard = true
mlflow = "sqlite:///{folder}/mlruns.db"
wandb = "shop"
optuna = "optuna.log"
[fixed]
batch_size = 16
loss_fn = "cross-entropy"
embedding = "tied"
num_negatives = 64
[space.hidden_size]
type = "int"
low = 64
high = 96
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "default")  # the tools' own use of others is not ours to mend


class Shown:
    """A search's result folder, and what the tools have of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "run"

    def epochs(self) -> dict[int, list[dict]]:
        """Return the lines of epochs.ndjson of each trial."""
        lines = map(json.loads, (self.path / "epochs.ndjson").read_text().splitlines())
        trials: dict[int, list[dict]] = {}
        for line in lines:
            trials.setdefault(line["trial"], []).append(line)
        return trials

    def mlflow(self):
        """Return a client of the tracking database, and the runs of the search by the trial's number, '' its own."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{self.home}/mlruns.db")
        experiment = client.get_experiment_by_name("gru4rec-tune")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        return client, [(run.data.tags["gru4rec.trial"], run) for run in runs]


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Run the search until MLflow has two epochs of a trial, kill it, and have it go on to its end."""
    home = tmp_path_factory.mktemp("shown")
    train, rest = split_time_share(read_log(generate_log(3_000, 150, seed=2)), 0.2)
    validation, test = split_time_share(rest, 0.5)
    for name, log in (("train", train), ("validation", validation), ("test", test)):
        write_log(log.to_frame(), home / f"{name}.csv")
    (home / "search.toml").write_text(SPEC.format(folder=home))
    shown = Shown(home)
    process = start(home, "run", "search.toml", "--out", "run")
    try:
        wait_for(lambda: has_epoch(home / "mlruns.db", 2), process)
    finally:
        process.kill()
        process.communicate()
    assert not (shown.path / "best").exists()
    process = start(home, "resume", "run")
    try:
        _, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "failed" not in err
    return shown


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from gru4rec.cli.main import main; main()", "tune", *arguments]
    return subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def has_epoch(database: Path, epoch: int) -> bool:
    """Whether MLflow has an epoch of a trial; its own client would make the tables that the search is making."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            query = "SELECT COUNT(*) FROM metrics WHERE key = 'epoch' AND step >= ?"
            return connection.execute(query, [epoch]).fetchone()[0] > 0
    except sqlite3.OperationalError:  # not there yet
        return False


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.5)
