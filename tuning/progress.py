"""What is known of a search while it runs: each trial's record, and the totals that a person wants to see."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune

from gru4rec.hyperparameters import NAMES
from tuning.spec import COSTS, SearchSpec

RUNNING, FINISHED, STOPPED_BY_ASHA, STOPPED_EARLY, DIVERGED, FAILED, INTERRUPTED = (
    "running",
    "finished",
    "stopped by ASHA",
    "stopped early",
    "diverged",
    "failed",
    "interrupted",
)
REPORTED = ("epoch", "loss", "events_per_second", "seconds", "validated_on")


@dataclass
class TrialRecord:
    """One trial.

    Parameters
    ----------
    number : int
        From 0, in the order of the searcher's suggestions.
    seed : int
    hyperparameters : dict
        Those that the search space set; the others have their defaults.
    state : str
        How it ended, or 'running'.
    epochs : int
        Epochs trained.
    best_epoch : int
        0 when there is none.
    metrics : dict of str to float
        At the best epoch.
    validated_on : {'all', 'sample'}
        The validation sessions that the metrics are of. An epoch measured on all goes before one measured on a sample.
    costs : dict of str to float
        Those among the search's objectives.
    seconds : float
        Training and validation.
    error : str
    """

    number: int
    seed: int
    hyperparameters: dict[str, Any]
    state: str = RUNNING
    epochs: int = 0
    best_epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    validated_on: str = "sample"
    costs: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""

    def quality(self, metric: str) -> tuple[bool, float]:
        """Return what trials are ordered by: whether measured on all validation sessions, and the best value."""
        return self.validated_on == "all", self.metrics.get(metric, -math.inf)


@dataclass(frozen=True)
class Progress:
    """A search at one moment.

    Parameters
    ----------
    trials : int
        Trials that the search will have.
    states : dict of str to int
        Trials so far by state.
    epochs : int
        Epochs trained so far, over all trials.
    best : TrialRecord, optional
    elapsed_s : float
    left_s : float, optional
        Estimate from the trials done so far; None before the first.
    """

    trials: int
    states: dict[str, int]
    epochs: int
    best: TrialRecord | None
    elapsed_s: float
    left_s: float | None


class SearchLog(tune.Callback):  # type: ignore[misc]  # Ray has no types
    """Keeps the record of every trial, and writes each epoch to epochs.ndjson as it is reported.

    Parameters
    ----------
    spec : SearchSpec
    epochs_file : Path
    on_progress : callable, optional
        Called after each report.
    """

    def __init__(
        self, spec: SearchSpec, epochs_file: Path, on_progress: Callable[[Progress], None] | None = None
    ) -> None:
        self.records: dict[int, TrialRecord] = {}
        self._spec = spec
        self._epochs_file = epochs_file
        self._on_progress = on_progress
        self._began = time.time()
        # Totals, kept from report to report: a search has thousands of trials, and each of them reports often.
        self._states: Counter[str] = Counter()
        self._epochs = 0
        self._best: TrialRecord | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the search began."""
        return time.time() - self._began

    @property
    def complete(self) -> bool:
        """Whether all trials ended by themselves."""
        return len(self.records) == self._spec.trials and not self._states[RUNNING]

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles its callbacks with the experiment; what draws on the user's terminal stays behind.
        return self.__dict__ | {"_on_progress": None}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        config = trial.config
        given = {name: config[name] for name in NAMES if name in config}
        if config["trial"] not in self.records:
            self.records[config["trial"]] = TrialRecord(config["trial"], config["seed"], given)
            self._states[RUNNING] += 1
        self._tell()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        record = self.records[trial.config["trial"]]
        self._epochs += result["epoch"] - record.epochs
        record.epochs = result["epoch"]
        record.error = result.get("diverged", "")
        metrics = {key: value for key, value in result.items() if "@" in key}
        value = metrics[self._spec.criterion.metric]
        if math.isfinite(value):
            record.seconds += result["time_this_iter_s"]
            if (result["validated_on"] == "all", value) > record.quality(self._spec.criterion.metric):
                record.best_epoch, record.metrics = result["epoch"], metrics
                record.validated_on = result["validated_on"]
                self._best = best_record([self._best or record, record], self._spec.criterion.metric)
            record.costs = {name: result[name] for name in self._spec.objectives if name in COSTS}
            line = {
                "trial": record.number,
                **{key: result[key] for key in REPORTED},
                **metrics,
                **record.costs,
                "elapsed_s": round(self.elapsed_s, 3),
                "epoch_seconds": result["time_this_iter_s"],  # with validation
                "node": result["node"],
            }
            with self._epochs_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self._move(record, _state(record, result, self._spec))
        self._tell()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self.records[trial.config["trial"]]
        record.error = _last_line(trial.error_file)
        self._move(record, FAILED)
        self._tell()

    def progress(self) -> Progress:
        """Return the totals so far."""
        states = {state: count for state, count in self._states.items() if count}
        done = len(self.records) - self._states[RUNNING]
        elapsed = self.elapsed_s
        left = elapsed / done * (self._spec.trials - done) if done else None
        if left is not None and self._spec.time_budget_s is not None:
            left = min(left, max(0.0, self._spec.time_budget_s - elapsed))
        return Progress(self._spec.trials, states, self._epochs, self._best, elapsed, left)

    def close(self) -> None:
        """Mark trials that are still running as interrupted."""
        for record in self.records.values():
            if record.state == RUNNING:
                self._move(record, INTERRUPTED)

    def _move(self, record: TrialRecord, state: str) -> None:
        self._states[record.state] -= 1
        self._states[state] += 1
        record.state = state

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress())


def best_record(records: list[TrialRecord], metric: str) -> TrialRecord | None:
    """Return the trial with the best epoch, the earliest of equals."""
    measured = [record for record in records if metric in record.metrics]
    return max(measured, key=lambda record: (*record.quality(metric), -record.number), default=None)


def _state(record: TrialRecord, result: dict[str, Any], spec: SearchSpec) -> str:
    if result.get("diverged"):
        return DIVERGED
    if not result["done"]:
        return RUNNING
    if result["stopped_early"]:
        return STOPPED_EARLY
    return FINISHED if record.epochs >= spec.max_epochs else STOPPED_BY_ASHA


def _last_line(error_file: str | None) -> str:
    if error_file is None:
        return "the trial's process died"
    lines = [line for line in Path(error_file).read_text(encoding="utf-8").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "unknown error"
