"""All that a result folder knows of its search, also of one that still runs or was killed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gru4rec.errors import SearchError
from gru4rec.files import read_text, unreadable_as
from gru4rec.numbers import is_number
from tuning.fingerprint import FINGERPRINT
from tuning.journal import Journal, read_journal
from tuning.progress import TrialRecord, best_record
from tuning.result import BEST, TRIALS, SearchResult, load_result, load_spec
from tuning.search_log import SearchLog

NOT_ENDED = "not ended: it is running, or was killed"


@dataclass(frozen=True, eq=False)
class Findings:
    """What a report is made of.

    Parameters
    ----------
    result : SearchResult
    curves : dict of int to list of dict
        The lines of epochs.ndjson, by trial.
    figures : dict
        The winner's metrics.json; empty before it is trained.
    versions : dict of str to str
        fingerprint.json.
    """

    result: SearchResult
    curves: dict[int, list[dict[str, Any]]]
    figures: dict[str, Any]
    versions: dict[str, Any]

    @property
    def metric(self) -> str:
        """What the search maximised."""
        return self.result.spec.criterion.metric

    @cached_property
    def best(self) -> TrialRecord | None:
        """The winner; None when no trial has a value."""
        return self.result.best if best_record(self.result.trials, self.metric) else None

    @cached_property
    def measured(self) -> list[TrialRecord]:
        """Trials with a value, the best first."""
        return [trial for trial in self.result.leaderboard() if trial.best_epoch > 0]

    def value(self, trial: TrialRecord, name: str | None = None) -> float:
        """Return a trial's metric or cost, the search's own metric by default, at its best epoch."""
        return {**trial.metrics, **trial.costs}[name or self.metric]


def read_findings(folder: str | Path) -> Findings:
    """Read a result folder.

    Raises
    ------
    SearchError
        When it is no result folder, or one of its files is damaged.
    """
    path = Path(folder).resolve()
    spec = load_spec(path)
    past = read_journal(path, (spec.criterion.metric, *spec.objectives))
    records = SearchLog(spec, path, Journal(path), past).records
    elapsed_s = max((line["elapsed_s"] for trial in past for line in trial.epochs), default=0.0)
    result = SearchResult(path, spec, [records[number] for number in sorted(records)], NOT_ENDED, elapsed_s)
    if (path / TRIALS).is_file():
        written = load_result(path)
        if _progress(written) == _progress(result):  # otherwise the search has gone on since
            result = written
    return collect(result)


def collect(result: SearchResult) -> Findings:
    """Add to a result what else its folder holds.

    Raises
    ------
    SearchError
        When a file is damaged.
    """
    past = read_journal(result.path, (result.spec.criterion.metric,))
    curves = {trial.number: trial.epochs for trial in past}
    figures = _read_object(result.path / BEST / "metrics.json")
    findings = Findings(result, curves, figures, _read_object(result.path / FINGERPRINT))
    if findings.best is None or figures.get("trial") != findings.best.number:
        return Findings(result, curves, {}, findings.versions)  # of an earlier winner, before the search went on
    with unreadable_as(SearchError, result.path / BEST / "metrics.json"):
        _check_test(figures)
    return findings


def _progress(result: SearchResult) -> list[tuple[int, int]]:
    return [(trial.number, trial.epochs) for trial in result.trials]


def _read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, nothing when there is none."""
    if not path.is_file():
        return {}
    with unreadable_as(SearchError, path):
        content = json.loads(read_text(path))
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, got {type(content).__name__}")
    return content


def _check_test(figures: dict[str, Any]) -> None:
    """Raise ValueError unless figures on the test log are as `tuning.winner` writes them."""
    if "test" not in figures:
        return
    test, baselines = figures["test"], figures.get("baselines")
    if not (isinstance(test, dict) and isinstance(baselines, dict)):
        raise ValueError("test and baselines must be objects")
    names = _metrics(test.get("metrics")).keys()
    for table in (test.get("metrics_with_misses"), *baselines.values()):
        if _metrics(table).keys() != names:
            raise ValueError("test and baselines must have the same metrics")
    intervals = test.get("intervals")
    if not (isinstance(intervals, dict) and intervals.keys() == names and all(map(_is_interval, intervals.values()))):
        raise ValueError("test.intervals must have two numbers for each metric")
    for name in ("num_sessions", "num_targets", "num_unknown_targets"):
        if type(test.get(name)) is not int:
            raise ValueError(f"test.{name} must be a whole number, got {test.get(name)!r}")


def _metrics(table: Any) -> dict[str, float]:
    if not (isinstance(table, dict) and all(map(is_number, table.values()))):
        raise ValueError("test and baselines must have a number for each metric")
    return table


def _is_interval(ends: Any) -> bool:
    return isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends))
