"""What Ray tells of the trials of a search, kept as records and written to its journal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ray import tune

from gru4rec.files import atomic_file
from gru4rec.hyperparameters import NAMES
from tuning.checkpoints import KEPT, folder_name
from tuning.journal import (
    DIVERGED,
    EPOCHS,
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    STOPPED_BY_ASHA,
    STOPPED_EARLY,
    TRIALS,
    Journal,
    PastTrial,
)
from tuning.progress import Progress, TrialRecord, best_record
from tuning.spec import COSTS, SearchSpec

REPORTED = ("epoch", "loss", "events_per_second", "seconds", "epoch_seconds", "best", "validated_on", "node")
ERRORS = "errors"


class SearchLog(tune.Callback):  # type: ignore[misc]  # Ray has no types
    """Keeps the record of every trial, and writes what happens to the search's journal.

    An epoch that is reported twice, because its trial went on from an earlier checkpoint, counts once.

    Parameters
    ----------
    spec : SearchSpec
    folder : Path
        The result folder.
    journal : Journal
    past : iterable of PastTrial
        Trials of the same search, from its journal.
    on_failure : callable, optional
        Called with a trial's number when it has failed, and whether it is to be tried again: `max_failures` times, and
        always when its node was taken away on notice (preempted).
    on_progress : callable, optional
        Called after each report.
    on_note : callable, optional
        Called with a few words about what went wrong and was mended.
    """

    def __init__(
        self,
        spec: SearchSpec,
        folder: Path,
        journal: Journal,
        past: Iterable[PastTrial] = (),
        on_failure: Callable[[int, bool], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.records: dict[int, TrialRecord] = {}
        self.ended: dict[int, float] = {}
        """When each of the trials ended, on the monotonic clock."""
        self._spec = spec
        self._folder = folder
        self._journal = journal
        self._failures: Counter[int] = Counter()
        self._checkpoint_bytes: dict[int, int] = {}  # of running trials
        self._on_failure = on_failure
        self._on_progress = on_progress
        self._on_note = on_note
        # Totals, kept from report to report: a search has thousands of trials, and each of them reports often.
        self._states: Counter[str] = Counter()
        self._epochs = 0
        self._best: TrialRecord | None = None
        elapsed = 0.0
        for trial in past:
            record = self._begin(trial.number, trial.seed, trial.hyperparameters)
            for line in trial.epochs:
                self._count(record, line)
                elapsed = max(elapsed, line["elapsed_s"])
            if trial.end is not None:
                self._end(record, trial.end)
        self._began = time.time() - elapsed

    @property
    def elapsed_s(self) -> float:
        """Seconds of searching."""
        return time.time() - self._began

    @property
    def complete(self) -> bool:
        """Whether all trials ended by themselves."""
        return len(self.records) == self._spec.trials and not self._states[RUNNING]

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles its callbacks with the experiment; what draws on the user's terminal stays behind.
        return self.__dict__ | {"_on_progress": None, "_on_note": None, "_on_failure": None}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._record_of(trial)
        self._tell()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        record = self.records[trial.config["trial"]]
        self._note_news(record, result)
        if "checkpoint_bytes" in result:
            self._checkpoint_bytes[record.number] = result["checkpoint_bytes"]
        if result["epoch"] <= record.epochs:
            return
        if "diverged" in result:
            self._write_end(record, DIVERGED, result["epoch"], result["diverged"])
        else:
            metrics = {key: value for key, value in result.items() if "@" in key}
            line = {
                "trial": record.number,
                **{key: result[key] for key in REPORTED},
                **metrics,
                **{name: result[name] for name in self._spec.objectives if name in COSTS},
                "state": _state(result, self._spec),
                "elapsed_s": round(self.elapsed_s, 3),
            }
            self._journal.append(EPOCHS, line, now=line["state"] != RUNNING)
            self._count(record, line)
        self._tell()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _forget_statistics(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _forget_statistics(trial)
        record = self._record_of(trial)
        self._failures[record.number] += int(trial.num_failures > 0)  # Ray does not count a node taken away on notice
        errors = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
        again = self._failures[record.number] <= self._spec.max_failures
        if again:
            self._note(f"trial {record.number} is tried again: {_last_line(errors)}")
        else:
            with atomic_file(self._folder / ERRORS / f"{folder_name(record.number)}.txt") as temporary:
                temporary.write_text(errors, encoding="utf-8")
            self._write_end(record, FAILED, record.epochs, _last_line(errors))
        if self._on_failure is not None:
            self._on_failure(record.number, again)
        self._tell()

    def progress(self) -> Progress:
        """Return the totals so far."""
        states = {state: count for state, count in self._states.items() if count}
        done = len(self.records) - self._states[RUNNING]
        elapsed = self.elapsed_s
        left = elapsed / done * (self._spec.trials - done) if done else None
        if left is not None and self._spec.time_budget_s is not None:
            left = min(left, max(0.0, self._spec.time_budget_s - elapsed))
        taken = KEPT * sum(self._checkpoint_bytes.values())
        return Progress(self._spec.trials, states, self._epochs, self._best, elapsed, left, taken)

    def close(self) -> None:
        """Mark trials that are still running as interrupted."""
        for record in self.records.values():
            if record.state == RUNNING:
                self._move(record, INTERRUPTED)

    def _record_of(self, trial: Any) -> TrialRecord:
        """Return the record of a trial of Ray's; one that fails before it starts has none yet."""
        config = trial.config
        if config["trial"] not in self.records:
            given = {name: config[name] for name in NAMES if name in config}
            return self._begin(config["trial"], config["seed"], given)
        return self.records[config["trial"]]

    def _begin(self, number: int, seed: int, hyperparameters: dict[str, Any]) -> TrialRecord:
        self.records[number] = TrialRecord(number, seed, hyperparameters)
        self._states[RUNNING] += 1
        return self.records[number]

    def _count(self, record: TrialRecord, line: dict[str, Any]) -> None:
        """Add a line of epochs.ndjson to the records."""
        self._epochs += line["epoch"] - record.epochs
        record.epochs = line["epoch"]
        record.seconds += line["epoch_seconds"]
        metrics = {key: value for key, value in line.items() if "@" in key}
        quality = line["validated_on"] == "all", metrics[self._spec.criterion.metric]
        if quality > record.quality(self._spec.criterion.metric):
            record.best_epoch, record.metrics = line["epoch"], metrics
            record.validated_on = line["validated_on"]
            self._best = best_record([self._best or record, record], self._spec.criterion.metric)
        record.costs = {name: line[name] for name in self._spec.objectives if name in COSTS}
        self._move(record, line["state"])

    def _write_end(self, record: TrialRecord, state: str, epochs: int, error: str) -> None:
        line = {"trial": record.number, "state": state, "epochs": epochs, "error": error}
        self._journal.append(TRIALS, line, now=True)
        self._end(record, line)

    def _end(self, record: TrialRecord, line: dict[str, Any]) -> None:
        """Add a line of trials.ndjson that says how a trial ended to the records."""
        self._epochs += line["epochs"] - record.epochs
        record.epochs = line["epochs"]
        record.error = line["error"]
        self._move(record, line["state"])

    def _move(self, record: TrialRecord, state: str) -> None:
        self._states[record.state] -= 1
        self._states[state] += 1
        record.state = state
        if state != RUNNING:
            self._checkpoint_bytes.pop(record.number, None)
            self.ended[record.number] = time.monotonic()

    def _note_news(self, record: TrialRecord, result: dict[str, Any]) -> None:
        for problem in result.get("problems", ()):
            self._note(problem)
        if "went_on_from" in result:
            self._note(f"trial {record.number} went on from epoch {result['went_on_from']}")

    def _note(self, text: str) -> None:
        if self._on_note is not None:
            self._on_note(text)

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress())


def _state(result: dict[str, Any], spec: SearchSpec) -> str:
    if not result["done"]:
        return RUNNING
    if result["stopped_early"]:
        return STOPPED_EARLY
    return FINISHED if result["epoch"] >= spec.max_epochs else STOPPED_BY_ASHA


def _forget_statistics(trial: Any) -> None:
    """Drop Ray's running statistics of an ended trial, which nobody reads: two thirds of what it keeps in memory."""
    trial.metric_analysis.clear()
    trial.metric_n_steps.clear()


def _last_line(errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "its process died"
