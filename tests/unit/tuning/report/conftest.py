"""Result folders of made-up searches, as a search would have written them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gru4rec.stopping import StoppingRule
from tuning.confirm import Confirmation
from tuning.journal import EPOCHS, FINISHED, RUNNING, TRIALS, Journal, read_journal
from tuning.result import SearchResult, result_folder, write_result
from tuning.search_log import SearchLog
from tuning.space import Dimension, Space
from tuning.spec import DataSpec, SearchSpec

SPACE = Space(
    (
        Dimension("loss_fn", "choice", options=("bpr-max", "cross-entropy")),
        Dimension("hidden_size", "int", 32, 256),
        Dimension("learning_rate", "float", 0.01, 0.3, log=True),
        Dimension("bpreg", "float", 0.0, 2.0, when={"loss_fn": ("bpr-max",)}),
    ),
    {"embedding": "tied", "clipnorm": None},
)
METRICS = {"recall@20": 0.61, "mrr@20": 0.3}


@dataclass
class Made:
    """A trial: the values of its epochs, how long each took, when it began, how it ended."""

    values: Sequence[float]
    state: str = FINISHED
    seconds: float = 10.0
    begin_s: float = 0.0
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    node: str = "n"
    costs: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="session")
def made() -> type[Made]:
    return Made


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Write the result folder of a search with these trials."""

    def make(
        path: Path,
        made_trials: Sequence[Made],
        *,
        ended: str | None = "all trials ended",
        elapsed_s: float | None = None,
        confirmed: Sequence[Confirmation] = (),
        figures: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Path:
        data = DataSpec("train.parquet", "validation.parquet", test="test.parquet")
        given = {
            "data": data,
            "trials": max(1, len(made_trials)),
            "max_epochs": 6,
            "criterion": StoppingRule("recall@20", 3),
        }
        spec = SearchSpec(SPACE, **given | settings)
        with result_folder(path, spec):
            write_journal(path, made_trials)
            past = read_journal(path)
            log = SearchLog(spec, path, Journal(path), past)
            if ended is not None:
                elapsed = elapsed_s or max((line["elapsed_s"] for trial in past for line in trial.epochs), default=1.0)
                records = [log.records[number] for number in sorted(log.records)]
                write_result(SearchResult(path, spec, records, ended, elapsed, list(confirmed)))
            if figures is not None:
                (path / "best").mkdir()
                (path / "best" / "metrics.json").write_text(json.dumps(figures))
        return path

    return make


@pytest.fixture(scope="session")
def make_figures() -> Callable[..., dict[str, Any]]:
    """Return a metrics.json of that trial."""

    def make(trial: int, metrics: dict[str, float] = METRICS, markov: float = 0.5) -> dict[str, Any]:
        test = {
            "metrics": metrics,
            "intervals": {key: [value - 0.01, value + 0.01] for key, value in metrics.items()},
            "metrics_with_misses": {key: value - 0.005 for key, value in metrics.items()},
            "num_sessions": 100,
            "num_targets": 400,
            "num_unknown_targets": 3,
        }
        baselines = {"popularity": dict.fromkeys(metrics, 0.1), "first-order Markov": dict.fromkeys(metrics, markov)}
        return {"trial": trial, "test": test, "baselines": baselines}

    return make


def write_journal(path: Path, trials: Sequence[Made]) -> None:
    begun, epochs, ends = [], [], []
    for number, trial in enumerate(trials):
        hyperparameters = {**SPACE.fixed, **trial.hyperparameters}
        begun.append({"trial": number, "seed": 7 + number, "hyperparameters": hyperparameters, "params": {}})
        for epoch, value in enumerate(trial.values, 1):
            state = trial.state if epoch == len(trial.values) and not trial.error else RUNNING
            epochs.append(
                {
                    "trial": number,
                    "epoch": epoch,
                    "epoch_seconds": trial.seconds,
                    "best": max(trial.values[:epoch]),
                    "validated_on": "all",
                    "node": trial.node,
                    "recall@20": value,
                    "mrr@20": value / 2,
                    **trial.costs,
                    "state": state,
                    "elapsed_s": trial.begin_s + epoch * trial.seconds,
                }
            )
        if trial.error:
            end = {"trial": number, "state": trial.state, "epochs": len(trial.values), "error": trial.error}
            ends.append(end)
    for name, lines in ((TRIALS, [*begun, *ends]), (EPOCHS, epochs)):
        (path / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="session")
def many(made: type[Made]) -> Callable[[int], list[Made]]:
    """Trials of which the learning rate alone decides: the nearer to 0.15, the better. All but each ninth meet ASHA."""

    def make(count: int) -> list[Made]:
        trials = []
        for number in range(count):
            rate = 0.01 + 0.29 * (number * 0.618034 % 1.0)
            loss = "bpr-max" if number % 2 else "cross-entropy"
            given = {"loss_fn": loss, "hidden_size": 32 + number * 37 % 225, "learning_rate": rate}
            given |= {"bpreg": number * 0.41 % 2.0} if loss == "bpr-max" else {}
            epochs = 6 if number % 9 == 0 else 2
            values = [0.8 - abs(rate - 0.15) - 0.2 / epoch for epoch in range(1, epochs + 1)]
            state = FINISHED if epochs == 6 else "stopped by ASHA"
            begin_s = 25.0 * (number // 2)
            trials.append(made(values, state, 10.0, begin_s, given, costs={"parameters": 100.0 * given["hidden_size"]}))
        return trials

    return make
