"""What a search found: its trials, and the result folder on disk.

===============  ====================================================
search.toml      the specification as resolved, every default written out
epochs.ndjson    one line per epoch of each trial, written while it runs
trials.parquet   one row per trial
report.html      learning curves (when plotly is installed)
best/            the model folder of the winner
ray/, ray.log    Ray's own state and messages
===============  ====================================================
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gru4rec.errors import SearchError
from gru4rec.files import atomic_file
from gru4rec.hyperparameters import NAMES
from tuning.progress import INTERRUPTED, TrialRecord, best_record
from tuning.space import Dimension, Value
from tuning.spec import SearchSpec, read_spec, render_spec

SPEC, EPOCHS, TRIALS, BEST, REPORT = "search.toml", "epochs.ndjson", "trials.parquet", "best", "report.html"


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
    """

    path: Path
    spec: SearchSpec
    trials: list[TrialRecord]

    @property
    def best(self) -> TrialRecord:
        """The trial with the best epoch.

        Raises
        ------
        SearchError
            When no trial has a finite metric.
        """
        best = best_record(self.trials, self.spec.criterion.metric)
        if best is None:
            reasons = sorted({record.error for record in self.trials if record.error})
            raise SearchError(
                f"none of {len(self.trials)} trials reported {self.spec.criterion.metric}"
                + (f": {reasons[0]}" if reasons else "")
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
    def interrupted(self) -> bool:
        """Whether the search ended before its trials did, and not by its time budget."""
        ended = len(self.trials) == self.spec.trials and all(record.state != INTERRUPTED for record in self.trials)
        return not ended and self.spec.time_budget_s is None

    @property
    def best_model(self) -> Path:
        """The model folder of the winner."""
        return self.path / BEST

    def leaderboard(self) -> list[TrialRecord]:
        """Return the trials, the best first; those without a metric last."""
        metric = self.spec.criterion.metric
        return sorted(self.trials, key=lambda record: (-record.metrics.get(metric, -1.0), record.number))

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
    with atomic_file(path / SPEC) as temporary:
        temporary.write_text(render_spec(spec), encoding="utf-8")
    try:
        yield path
    except BaseException:
        if not (path / EPOCHS).exists():
            shutil.rmtree(path)
        raise


def write_trials(path: Path, trials: list[TrialRecord]) -> None:
    """Write trials.parquet."""
    rows = [
        {
            "trial": record.number,
            "state": record.state,
            "epochs": record.epochs,
            "best_epoch": record.best_epoch,
            **record.metrics,
            "seconds": record.seconds,
            "seed": record.seed,
            "error": record.error,
            **{name: record.hyperparameters.get(name) for name in NAMES},
        }
        for record in trials
    ]
    frame = pd.DataFrame(rows)
    for name in NAMES:
        if frame[name].map(type).nunique() > 1 and frame[name].map(lambda value: isinstance(value, str)).any():
            frame[name] = frame[name].map(lambda value: value if value is None else str(value))
    with atomic_file(path / TRIALS) as temporary:
        frame.to_parquet(temporary, index=False)


def load_result(path: str | Path) -> SearchResult:
    """Read a result folder.

    Raises
    ------
    SearchError
        When it is no result folder, or its search has not ended.
    """
    path = Path(path).resolve()
    if not (path / SPEC).is_file():
        raise SearchError(f"{path} is not the folder of a search: it has no {SPEC}")
    if not (path / TRIALS).is_file():
        raise SearchError(f"{path} has no {TRIALS}", "its search has not ended")
    spec = read_spec(path / SPEC)
    rows = pd.read_parquet(path / TRIALS).astype(object)
    records = rows.where(rows.notna(), None).to_dict(orient="records")
    return SearchResult(path, spec, [_record(row, spec) for row in records])


def _record(row: Mapping[Any, Any], spec: SearchSpec) -> TrialRecord:
    searched = {
        dimension.name: _restore(dimension, row[dimension.name])
        for dimension in spec.space.dimensions
        if row[dimension.name] is not None
    }
    return TrialRecord(
        number=int(row["trial"]),
        seed=int(row["seed"]),
        hyperparameters={**spec.space.fixed, **searched},
        state=row["state"],
        epochs=int(row["epochs"]),
        best_epoch=int(row["best_epoch"]),
        metrics={key: float(value) for key, value in row.items() if "@" in key and value is not None},
        seconds=float(row["seconds"]),
        error=row["error"],
    )


def _restore(dimension: Dimension, value: Any) -> Value:
    """Return the value that the sampler chose: a table column has one type, and numbers beside gaps are floats."""
    if dimension.kind == "int":
        return int(value)
    if dimension.kind == "float":
        return float(value)
    return next(option for option in dimension.options if option == value or str(option) == value)
