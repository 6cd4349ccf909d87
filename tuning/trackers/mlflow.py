"""Runs in MLflow: one for the search, with the winner's test figures and its model, and below it one for each trial.

Runs are found again by their tags, so a search that goes on goes on in the same runs.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from gru4rec.mlflow_model import save_mlflow_model
from tuning.budget import UNFINISHED
from tuning.checkpoints import folder_name
from tuning.journal import DIVERGED, FAILED, INTERRUPTED
from tuning.result import SPEC
from tuning.tracking import Subject, scalars

SEARCH, TRIAL, PARENT = "gru4rec.search", "gru4rec.trial", "mlflow.parentRunId"


class MLflowTracker:
    """Talks to a tracking server, or writes its database, by a client of its own: no global state of MLflow changes."""

    def __init__(self, subject: Subject) -> None:
        from mlflow import MlflowClient, entities  # here, as few have it installed

        self._entities = entities
        self._subject = subject
        logging = subject.spec.logging
        self._client = MlflowClient(tracking_uri=logging.mlflow)
        experiment = self._client.get_experiment_by_name(logging.mlflow_experiment)
        self._experiment = (
            self._client.create_experiment(logging.mlflow_experiment)
            if experiment is None
            else experiment.experiment_id
        )
        self._known = self._find_runs()
        self._open: dict[int, str] = {}
        self._epochs: dict[int, int] = {}
        self._search = self._begin_run("", subject.path.name, {}, _search_params(subject))

    def _find_runs(self) -> dict[str, Any]:
        """Return the runs of this search by the trial's number; '' is the search itself."""
        runs: dict[str, Any] = {}
        token = None
        while token != "":
            page = self._client.search_runs(
                [self._experiment], f"tags.`{SEARCH}` = '{self._subject.search_id}'", page_token=token
            )
            runs |= {run.data.tags[TRIAL]: run for run in page}
            token = page.token or ""
        return runs

    def _begin_run(self, trial: str, name: str, tags: dict[str, str], params: dict[str, Any]) -> str:
        """Go on with a run, or make it; return its id."""
        if trial in self._known:
            run_id: str = self._known[trial].info.run_id
            self._client.update_run(run_id, status="RUNNING")
        else:
            tags = {**tags, SEARCH: self._subject.search_id, TRIAL: trial}
            run_id = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        self._client.log_batch(run_id, params=[self._entities.Param(key, str(value)) for key, value in params.items()])
        return run_id

    def begin(self, line: dict[str, Any]) -> None:
        number, known = line["trial"], self._known.get(str(line["trial"]))
        if known is not None and known.info.status in ("FINISHED", "FAILED"):
            return
        tags = {PARENT: self._search, "seed": str(line["seed"])}
        self._open[number] = self._begin_run(str(number), folder_name(number), tags, line["hyperparameters"])
        self._epochs[number] = 0 if known is None else int(known.data.metrics.get("epoch", 0))

    def epoch(self, line: dict[str, Any]) -> None:
        number, epoch = line["trial"], line["epoch"]
        if number in self._open and epoch > self._epochs[number]:
            self._log(self._open[number], {**scalars(line), "epoch": epoch}, epoch)

    def end(self, number: int, state: str, error: str) -> None:
        if number in self._open:
            self._end_run(self._open.pop(number), "FAILED" if state in (FAILED, DIVERGED) else "FINISHED", state, error)

    def close(self, ended: str, model: Path | None) -> None:
        for run_id in self._open.values():
            self._end_run(run_id, "KILLED", INTERRUPTED)
        try:
            self._client.log_artifact(self._search, str(self._subject.path / SPEC))
            if model is not None:
                self._log_model(model)
        finally:
            self._end_run(self._search, "KILLED" if ended in UNFINISHED else "FINISHED", ended)

    def _log_model(self, model: Path) -> None:
        figures = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
        self._log(self._search, {f"validation/{name}": value for name, value in figures["validation"].items()}, 0)
        if "test" in figures:
            self._log(self._search, {f"test/{name}": value for name, value in figures["test"]["metrics"].items()}, 0)
        with tempfile.TemporaryDirectory(prefix="gru4rec-") as temporary:
            folder = save_mlflow_model(model, Path(temporary) / "model")
            self._client.log_artifacts(self._search, str(folder), "model")

    def _log(self, run_id: str, values: dict[str, float], step: int) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(
            run_id,
            metrics=[self._entities.Metric(metric_name(name), value, now, step) for name, value in values.items()],
        )

    def _end_run(self, run_id: str, status: str, state: str, error: str = "") -> None:
        self._client.set_tag(run_id, "state", state)
        if error:
            self._client.set_tag(run_id, "error", error)
        self._client.update_run(run_id, status=status)


def metric_name(name: str) -> str:
    """Return how a metric is called in MLflow, which takes no '@'.

    >>> metric_name("recall@20")
    'recall_at_20'
    """
    return name.replace("@", "_at_")


def _search_params(subject: Subject) -> dict[str, Any]:
    spec = subject.spec
    return {"metric": spec.criterion.metric, "max_epochs": spec.max_epochs, "seed": spec.seed}


make_tracker = MLflowTracker
