"""What a search found: its trials, and the result folder on disk.

===============  ====================================================
search.toml      the specification as resolved, every default written out
trials.ndjson    what was tried and what failed, written while it runs
epochs.ndjson    one line per epoch of each trial, written while it runs
fingerprint.json what a search that goes on must find unchanged
trials.parquet   one row per trial
search.json      how the search ended, what confirming the best trials brought, and notes
report.html      what was found and how, for people; see `tuning.report`
best/            the model folder of the winner
tracking.json    the search's id in other tools; what they show is in tensorboard/, wandb/ and where [logging] says
checkpoints/     of trials that have not ended; with refit = false also that of each trial's best epoch
errors/          tracebacks of trials that failed
ray.log          Ray's messages
===============  ====================================================
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gru4rec.data.parquet_files import read_table
from gru4rec.errors import GRU4RecError, SearchError
from gru4rec.files import atomic_file, read_text, unreadable_as
from gru4rec.hyperparameters import NAMES
from gru4rec.numbers import is_number
from tuning.budget import ALL_TRIALS
from tuning.confirm import Confirmation
from tuning.journal import EPOCHS, INTERRUPTED
from tuning.progress import TrialRecord, best_record
from tuning.spec import COSTS, SearchSpec, read_spec, render_spec

SPEC, TRIALS, SEARCH = "search.toml", "trials.parquet", "search.json"
BEST, REPORT, CHECKPOINTS, LOCK = "best", "report.html", "checkpoints", ".lock"
WARM_START_TRIALS = 5
_KINDS = {
    "trial": int, "seed": int, "epochs": int, "best_epoch": int, "seconds": float, "state": str, "validated_on": str,
    "error": str, "hyperparameters": str,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class SearchResult:
    """A search that has ended.

    Parameters
    ----------
    path : Path
        The result folder.
    spec : SearchSpec
    trials : list of TrialRecord
        In the order of their numbers.
    ended : str
        Why the search ended, one of the words of `tuning.budget`.
    elapsed_s : float
        From the start of the trials to their end.
    confirmed : list of Confirmation
        The best trials with other seeds, when that was asked for.
    notes : list of str
        What went wrong beside the search itself.
    exported : bool
        Whether the winner's model folder has been written, that of these trials and not of fewer.
    """

    path: Path
    spec: SearchSpec
    trials: list[TrialRecord]
    ended: str = ALL_TRIALS
    elapsed_s: float = 0.0
    confirmed: list[Confirmation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exported: bool = False

    @property
    def best(self) -> TrialRecord:
        """The trial with the best epoch; among those confirmed with other seeds, the one with the best mean.

        Raises
        ------
        SearchError
            When no trial has a finite metric.
        """
        metric = self.spec.criterion.metric
        if self.confirmed:
            return self.trial(max(self.confirmed, key=lambda found: found.mean(metric)).trial)
        best = best_record(self.trials, metric)
        if best is None:
            reasons = sorted({record.error for record in self.trials if record.error})
            raise SearchError(
                f"none of {len(self.trials)} trials reported {metric}: {', '.join([*reasons[:1], self.ended])}"
            )
        return best

    def trial(self, number: int) -> TrialRecord:
        """Return the trial of that number.

        Raises
        ------
        SearchError
            When there is none.
        """
        for record in self.trials:
            if record.number == number:
                return record
        raise SearchError(f"there is no trial {number}; this search has trials 0 to {len(self.trials) - 1}")

    @property
    def best_model(self) -> Path:
        """The model folder of the winner."""
        return self.path / BEST

    def leaderboard(self) -> list[TrialRecord]:
        """Return the trials, the best first; those measured on a sample after those measured on all sessions."""
        metric = self.spec.criterion.metric
        return sorted(self.trials, key=lambda record: (*record.quality(metric), -record.number), reverse=True)

    def best_points(self, count: int = WARM_START_TRIALS) -> list[dict[str, Any]]:
        """Return the hyperparameters of the best trials, for another search to begin with."""
        return [trial.hyperparameters for trial in self.leaderboard()[:count] if trial.best_epoch > 0]

    def pareto_front(self) -> list[TrialRecord]:
        """Return the trials that no other beats in one objective without losing in another, the best metric first."""
        names = [self.spec.criterion.metric, *self.spec.objectives]
        measured = [trial for trial in self.leaderboard() if trial.best_epoch > 0]
        values = {
            trial.number: [-trial.costs[name] if name in COSTS else trial.metrics[name] for name in names]
            for trial in measured
        }
        return [
            trial
            for trial in measured
            if not any(_dominates(values[other.number], values[trial.number]) for other in measured)
        ]

    def epochs(self) -> pd.DataFrame:
        """Return the learning curves: a row per epoch of each trial.

        Raises
        ------
        SearchError
            When their file is damaged.
        """
        path = self.path / EPOCHS
        with unreadable_as(SearchError, path):
            lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
            return pd.DataFrame([_object(json.loads(line)) for line in lines if line])


@contextmanager
def result_folder(path: str | Path, spec: SearchSpec) -> Iterator[Path]:
    """Make the folder of a new search and write its specification; yield the folder's absolute path.

    When the search fails before any epoch was recorded, the folder is removed again.

    Raises
    ------
    SearchError
        When the folder holds anything: another search is never mixed with or overwritten.
    """
    path = Path(path).resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "another search" if (path / SPEC).exists() else "other files"
        raise SearchError(f"{path} holds {what}", "choose another --out")
    path.mkdir(parents=True, exist_ok=True)
    with held(path):
        write_spec(path, spec)
        try:
            yield path
        except BaseException:
            if not (path / EPOCHS).exists():
                shutil.rmtree(path)
            raise


def write_spec(path: Path, spec: SearchSpec) -> None:
    """Write search.toml."""
    with atomic_file(path / SPEC) as temporary:
        temporary.write_text(render_spec(spec), encoding="utf-8")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other processes from working on a result folder; the system lets go of it when this process ends.

    Raises
    ------
    SearchError
        When another process has it.
    """
    with (path / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SearchError(f"{path} is in use: its search is running", "wait for it to end, or stop it") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # a file system without locks
                raise
        yield


def write_result(result: SearchResult) -> None:
    """Write search.json and trials.parquet, in this order: an outcome that is `exported` has the trials beside it."""
    rows = [
        {
            "trial": record.number,
            "state": record.state,
            "epochs": record.epochs,
            "best_epoch": record.best_epoch,
            **record.metrics,
            "validated_on": record.validated_on,
            **record.costs,
            "seconds": record.seconds,
            "seed": record.seed,
            "error": record.error,
            **{name: record.hyperparameters.get(name) for name in NAMES},
            "hyperparameters": json.dumps(record.hyperparameters),
        }
        for record in result.trials
    ]
    frame = pd.DataFrame(rows)
    for name in NAMES:
        if rows and any(isinstance(value, str) for value in frame[name]):
            frame[name] = frame[name].map(lambda value: value if value is None else str(value))
    outcome = {
        "ended": result.ended,
        "elapsed_s": round(result.elapsed_s, 3),
        "epochs": sum(record.epochs for record in result.trials),
        "confirmed": [dataclasses.asdict(found) for found in result.confirmed],
        "notes": result.notes,
        "exported": result.exported,
    }
    with atomic_file(result.path / SEARCH) as temporary:
        temporary.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    with atomic_file(result.path / TRIALS) as temporary:
        frame.to_parquet(temporary, index=False)


def load_spec(path: Path) -> SearchSpec:
    """Read the specification in a result folder.

    Raises
    ------
    SearchError
        When it is no result folder.
    """
    if not (path / SPEC).is_file():
        raise SearchError(f"{path} is not the folder of a search: it has no {SPEC}")
    return read_spec(path / SPEC, try_out=False)


def load_result(path: str | Path) -> SearchResult:
    """Read a result folder.

    Raises
    ------
    SearchError
        When it is no result folder, one of its files is damaged, or its search has not ended.
    """
    path = Path(path).resolve()
    spec = load_spec(path)
    if not (path / TRIALS).is_file():
        raise SearchError(
            f"{path} has no {TRIALS}", f"its search has not ended, or was killed: gru4rec tune resume {path}"
        )
    with unreadable_as(SearchError, path / TRIALS):
        trials = [_record(row, spec) for row in read_table(path / TRIALS).to_pylist()]
    with unreadable_as(SearchError, path / SEARCH):
        outcome = _outcome(json.loads(read_text(path / SEARCH)), spec)
    return SearchResult(path, spec, trials, *outcome)


def is_complete(path: Path, num_trials: int) -> bool:
    """Whether a result folder has the outcome of so many trials or more, all ended, and the model made of them."""
    try:
        result = load_result(path)
    except GRU4RecError:
        return False
    ended = [trial for trial in result.trials if trial.state != INTERRUPTED]
    return len(ended) >= num_trials and result.exported and result.best_model.exists()


def _record(row: Mapping[str, Any], spec: SearchSpec) -> TrialRecord:
    """Return the trial of a row; raise ValueError when it is none."""
    place = f"trial {row.get('trial')!r}"
    for name, kind in _KINDS.items():
        if type(row.get(name)) is not kind:
            raise ValueError(f"{place}: {name} must be of type {kind.__name__}, got {row.get(name)!r}")
    numbers = {name: float(value) for name, value in row.items() if is_number(value)}
    record = TrialRecord(
        number=row["trial"],
        seed=row["seed"],
        hyperparameters=_object(json.loads(row["hyperparameters"])),
        state=row["state"],
        epochs=row["epochs"],
        best_epoch=row["best_epoch"],
        metrics={name: value for name, value in numbers.items() if "@" in name},
        validated_on=row["validated_on"],
        costs={name: numbers[name] for name in spec.objectives if name in COSTS and name in numbers},
        seconds=row["seconds"],
        error=row["error"],
    )
    for name in (spec.criterion.metric, *spec.objectives) if record.best_epoch > 0 else ():
        if name not in record.metrics | record.costs:
            raise ValueError(f"{place}: {name} must be a number, got {row.get(name)!r}")
    return record


def _outcome(content: Any, spec: SearchSpec) -> tuple[str, float, list[Confirmation], list[str], bool]:
    """Return what search.json says; raise ValueError when it says something else."""
    ended, elapsed_s, confirmed = (_object(content).get(name) for name in ("ended", "elapsed_s", "confirmed"))
    if not (isinstance(ended, str) and is_number(elapsed_s) and isinstance(confirmed, list)):
        raise ValueError("ended must be text, elapsed_s a number and confirmed a list")
    notes = content.get("notes", [])
    if not (isinstance(notes, list) and all(isinstance(note, str) for note in notes)):
        raise ValueError(f"notes must be a list of texts, got {notes!r}")
    exported = content.get("exported", False)
    if type(exported) is not bool:
        raise ValueError(f"exported must be true or false, got {exported!r}")
    confirmations = [_confirmation(_object(found), spec.criterion.metric) for found in confirmed]
    return ended, float(elapsed_s), confirmations, notes, exported


def _confirmation(found: dict[str, Any], metric: str) -> Confirmation:
    trial, metrics = found.get("trial"), _object(found.get("metrics"))
    good = all(isinstance(values, list) and values and all(map(_is_value, values)) for values in metrics.values())
    if type(trial) is not int or metric not in metrics or not good:
        raise ValueError(f"confirmed must have a trial and its {metric} with each seed, got {found!r}")
    return Confirmation(trial, metrics)


def _is_value(value: object) -> bool:
    """Whether it is the metric of a trained model, NaN where the training diverged."""
    return is_number(value) or isinstance(value, float)


def _object(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {content!r}")
    return content


def _dominates(one: list[float], other: list[float]) -> bool:
    return one != other and all(mine >= theirs for mine, theirs in zip(one, other, strict=True))
