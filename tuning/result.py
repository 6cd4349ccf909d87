"""What a search found: its trials, and the result folder on disk.

===============  ====================================================
search.toml      the specification as resolved, every default written out
trials.ndjson    what was tried and what failed, written while it runs
epochs.ndjson    one line per epoch of each trial, written while it runs
fingerprint.json what a search that goes on must find unchanged
trials.parquet   one row per trial
search.json      how the search ended, and what confirming the best trials brought
report.html      learning curves (when plotly is installed)
best/            the model folder of the winner
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

from gru4rec.errors import SearchError
from gru4rec.files import atomic_file
from gru4rec.hyperparameters import NAMES
from tuning.budget import ALL_TRIALS
from tuning.confirm import Confirmation
from tuning.journal import EPOCHS
from tuning.progress import TrialRecord, best_record
from tuning.spec import COSTS, SearchSpec, read_spec, render_spec

SPEC, TRIALS, SEARCH = "search.toml", "trials.parquet", "search.json"
BEST, REPORT, CHECKPOINTS, LOCK = "best", "report.html", "checkpoints", ".lock"
WARM_START_TRIALS = 5


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
    """

    path: Path
    spec: SearchSpec
    trials: list[TrialRecord]
    ended: str = ALL_TRIALS
    elapsed_s: float = 0.0
    confirmed: list[Confirmation] = field(default_factory=list)

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
        """Return the learning curves: a row per epoch of each trial."""
        path = self.path / EPOCHS
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return pd.DataFrame([json.loads(line) for line in lines])


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
    """Write search.json and trials.parquet."""
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
    return read_spec(path / SPEC)


def load_result(path: str | Path) -> SearchResult:
    """Read a result folder.

    Raises
    ------
    SearchError
        When it is no result folder, or its search has not ended.
    """
    path = Path(path).resolve()
    spec = load_spec(path)
    if not (path / TRIALS).is_file():
        raise SearchError(
            f"{path} has no {TRIALS}", f"its search has not ended, or was killed: gru4rec tune resume {path}"
        )
    rows = pd.read_parquet(path / TRIALS).astype(object)
    records = rows.where(rows.notna(), None).to_dict(orient="records")
    outcome = json.loads((path / SEARCH).read_text(encoding="utf-8"))
    confirmed = [Confirmation(**found) for found in outcome["confirmed"]]
    trials = [_record(row, spec) for row in records]
    return SearchResult(path, spec, trials, outcome["ended"], outcome["elapsed_s"], confirmed)


def _record(row: Mapping[Any, Any], spec: SearchSpec) -> TrialRecord:
    return TrialRecord(
        number=int(row["trial"]),
        seed=int(row["seed"]),
        hyperparameters=json.loads(row["hyperparameters"]),
        state=row["state"],
        epochs=int(row["epochs"]),
        best_epoch=int(row["best_epoch"]),
        metrics={key: float(value) for key, value in row.items() if "@" in key and value is not None},
        validated_on=row["validated_on"],
        costs={name: float(row[name]) for name in spec.objectives if name in COSTS and row.get(name) is not None},
        seconds=float(row["seconds"]),
        error=row["error"],
    )


def _dominates(one: list[float], other: list[float]) -> bool:
    return one != other and all(mine >= theirs for mine, theirs in zip(one, other, strict=True))
