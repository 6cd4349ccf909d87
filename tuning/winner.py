"""The model of a trial, as it is exported: trained anew, or taken from its checkpoint; and its figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import ray

from gru4rec.baselines import BASELINES
from gru4rec.device import cpu_threads, resolve_device
from gru4rec.errors import SearchError
from gru4rec.fitting import fit_trainer
from gru4rec.hyperparameters import HyperParameters
from gru4rec.metrics import compute_metrics
from gru4rec.model import Model
from gru4rec.model_folder import save_model
from gru4rec.training import Trainer
from tuning.checkpoints import Checkpoints
from tuning.confirm import RETRIES
from tuning.logging_spec import LoggingSpec
from tuning.progress import TrialRecord
from tuning.result import CHECKPOINTS, SearchResult
from tuning.search_data import SearchData
from tuning.spec import render_spec
from tuning.trainable import identity


def export_trial(
    result: SearchResult,
    trial: TrialRecord,
    out: Path,
    data: SearchData,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a trial's configuration as `train_trial` does, and write its model folder."""
    checkpoints = Checkpoints(str(result.path / CHECKPOINTS))
    return save_trial(train_trial(result, trial, data, say, checkpoints), out, result, trial)


def save_trial(model: Model, out: Path, result: SearchResult, trial: TrialRecord, *, overwrite: bool = False) -> Path:
    """Write the model folder of a trial, with what is to be told of its search.

    Raises
    ------
    ModelFolderError
        When `out` exists and `overwrite` is false.
    """
    write = partial(_write_search, result, trial)
    return save_model(model, out, overwrite=overwrite, parts={"search": write})


def train_trial(
    result: SearchResult,
    trial: TrialRecord,
    data: SearchData,
    say: Callable[[str], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> Model:
    """Train a trial's configuration for the epochs at which it was best.

    With `refit` it learns from all the training data, and its validation figures are those of the trial. Without, it
    is the trial's own model: from the checkpoint of its best epoch where that is there, otherwise made once more from
    the same seed and data.

    Raises
    ------
    SearchError
        When the trial has no epoch that counts.
    """
    spec = result.spec
    if trial.best_epoch == 0:
        raise SearchError(f"trial {trial.number} has no epoch to export: it {trial.state}")
    train = data.for_winner if spec.refit else data.train
    train = train.with_own_items()
    with cpu_threads(spec.cpus_per_trial):
        device = resolve_device("auto" if spec.gpus_per_trial else "cpu")
        trainer = Trainer(HyperParameters.from_dict(trial.hyperparameters), train, seed=trial.seed, device=device)
        kept = None if spec.refit or checkpoints is None else checkpoints.of(trial.number).load(trial.best_epoch)[0]
        if kept is not None and kept["identity"] == identity(trial.hyperparameters, trial.seed):
            say(f"taking trial {trial.number} from the checkpoint of epoch {trial.best_epoch}")
            trainer.load_state_dict(kept["trainer"])
        else:
            say(f"training trial {trial.number} for {trial.best_epoch} epochs on {train.num_events:,} events")
            fit_trainer(trainer, trial.best_epoch)
        model = Model.of_log(trainer.network, train, spec.data.licence if spec.data else None)
        return dataclasses.replace(model, metrics=_figures(result, trial, model, data))


def train_on_ray(
    result: SearchResult,
    trial: TrialRecord,
    data: SearchData,
    say: Callable[[str], None],
    checkpoints: Checkpoints,
) -> Model:
    """Train a trial as `train_trial` does, where there is room for one: the head may have none."""
    say(f"training trial {trial.number} for {trial.best_epoch} epochs")
    spec = result.spec
    remote = ray.remote(num_cpus=spec.cpus_per_trial, num_gpus=spec.gpus_per_trial, max_retries=RETRIES)(train_trial)
    model: Model = ray.get(remote.remote(result, trial, data, checkpoints=checkpoints))
    return model


def _write_search(result: SearchResult, trial: TrialRecord, folder: Path) -> None:
    """Write a search's settings, without places of the user's, its leaderboard, and the curve of a trial."""
    spec = dataclasses.replace(result.spec, data=None, logging=LoggingSpec())
    (folder / "search.toml").write_text(render_spec(spec), encoding="utf-8")
    rows = [
        {
            "rank": rank,
            "trial": record.number,
            "state": record.state,
            "epochs": record.epochs,
            "best_epoch": record.best_epoch,
            **record.metrics,
            "validated_on": record.validated_on,
            **record.costs,
            "seconds": record.seconds,
            "seed": record.seed,
            **record.hyperparameters,
        }
        for rank, record in enumerate(result.leaderboard(), start=1)
    ]
    pd.DataFrame(rows).to_csv(folder / "leaderboard.csv", index=False)
    curves = result.epochs()
    if len(curves):
        curve = curves[curves["trial"] == trial.number].drop(columns="node", errors="ignore")  # a machine's name
        curve.to_csv(folder / "curve.csv", index=False)


def _figures(result: SearchResult, trial: TrialRecord, model: Model, data: SearchData) -> dict[str, Any]:
    """Return the content of metrics.json; the test log is looked at here, once."""
    figures: dict[str, Any] = {
        "trial": trial.number,
        "seed": trial.seed,
        "epoch": trial.best_epoch,
        "trained_on": "train_full" if result.spec.refit else "train",
        "search": {"trials": len(result.trials), "epochs": sum(record.epochs for record in result.trials)},
        "validation": trial.metrics,
        "validated_on": trial.validated_on,
    }
    if confirmed := [found.metrics for found in result.confirmed if found.trial == trial.number]:
        figures["confirmed"] = confirmed[0]
    if data.test is not None:
        evaluation = model.evaluate(data.test)
        history, _ = (data.for_winner if result.spec.refit else data.train).with_items_of(model.items)
        known, _ = data.test.with_items_of(model.items)
        figures["test"] = dataclasses.asdict(evaluation)
        figures["baselines"] = {
            name: compute_metrics(rank(history, known), evaluation.metrics) for name, rank in BASELINES.items()
        }
    return figures
