"""`tune`: run a search, write its result folder, train and export the winner."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune

from gru4rec.baselines import BASELINES
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions, concatenate_sessions, sample_sessions
from gru4rec.device import cpu_threads, resolve_device
from gru4rec.errors import DataError, SearchError, SpecificationError
from gru4rec.fitting import align_validation, fit_trainer
from gru4rec.hyperparameters import HyperParameters
from gru4rec.metrics import compute_metrics, metric_keys
from gru4rec.model import Model
from gru4rec.model_folder import save_model
from gru4rec.training import Trainer
from tuning.budget import ALL_TRIALS, INTERRUPTED, Budget
from tuning.confirm import RETRIES, confirm_trials
from tuning.progress import Progress, SearchLog, TrialRecord
from tuning.ray_runtime import THIS_MACHINE, Place, Slots, ray_for
from tuning.report import write_report
from tuning.result import BEST, EPOCHS, SearchResult, result_folder, write_result
from tuning.schedule import make_scheduler
from tuning.searcher import SlotLimiter, make_searcher
from tuning.spec import COSTS, SearchSpec
from tuning.trainable import GRU4RecTrainable, TrialTask


@dataclasses.dataclass(frozen=True, eq=False)
class SearchData:
    """The logs of a search, read.

    Parameters
    ----------
    train, validation : Sessions
    train_full : Sessions, optional
        What the winner is trained on anew; None means train and validation together.
    test : Sessions, optional
        Looked at once, by the winner.
    """

    train: Sessions
    validation: Sessions
    train_full: Sessions | None = None
    test: Sessions | None = None


def read_data(spec: SearchSpec) -> SearchData:
    """Read the logs that a specification names.

    Raises
    ------
    SpecificationError
        When it names none.
    DataError
        When one cannot be read.
    """
    if spec.data is None:
        raise SpecificationError("search.toml has no [data]: name train and validation logs")
    paths = {name: getattr(spec.data, name) for name in ("train", "validation", "train_full", "test")}
    return SearchData(
        **{name: read_log(path, spec.data.log_format) for name, path in paths.items() if path is not None}
    )


def tune(
    spec: SearchSpec,
    out: str | Path,
    data: SearchData | None = None,
    *,
    address: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> SearchResult:
    """Search, write the result folder `out`, train the winner and export it to `out`/best.

    Parameters
    ----------
    spec : SearchSpec
    out : path
        Must not exist, or be empty.
    data : SearchData, optional
        The logs; None reads those that the specification names.
    address : str, optional
        A running Ray cluster; None starts Ray on this machine for the time of the search.
    on_progress : callable, optional
        Called in this process after each report of a trial.
    on_stage : callable, optional
        Called with a few words when something other than trials begins.

    Raises
    ------
    DataError
        When the logs hold nothing to learn from or to validate on.
    ClusterError
        When Ray cannot be reached, or cannot hold one trial.
    SearchError
        When `out` holds anything, or no trial reported a metric.
    """
    data = data or read_data(spec)
    task = make_task(spec, data)
    with result_folder(out, spec) as path:
        return search_into(path, spec, data, task, Place(address), on_progress=on_progress, on_stage=on_stage)


def search_into(
    path: Path,
    spec: SearchSpec,
    data: SearchData,
    task: TrialTask,
    place: Place = THIS_MACHINE,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> SearchResult:
    """Run a search whose result folder has been made by `result_folder`; otherwise as `tune`."""
    say = on_stage or (lambda _: None)
    say("starting Ray" if place.address is None else f"joining the cluster at {place.address}")
    with ray_for(spec, place) as slots:
        say(f"searching: {spec.trials} trials, {slots.now()} at a time")
        result = run_trials(spec, task, path, slots, place, on_progress)
        if result.ended != INTERRUPTED and spec.confirmed is not None:
            count, seeds = spec.confirmed
            best = [trial for trial in result.leaderboard()[:count] if trial.best_epoch > 0]
            result = dataclasses.replace(result, confirmed=confirm_trials(spec, task, best, seeds, say))
            write_result(result)
        write_report(result)
        model = train_on_ray(result, data, say) if place.address is not None else None
    save_model(model or train_trial(result, result.best, data, say), path / BEST)
    return result


def make_task(spec: SearchSpec, data: SearchData) -> TrialTask:
    """Prepare what all trials share.

    Raises
    ------
    DataError
        When nothing is left to learn from or to validate on.
    """
    train = data.train.with_own_items()
    if train.num_targets == 0:
        raise DataError(f"no session of the training log has two events or more ({train.num_sessions:,} sessions)")
    validation = align_validation(data.validation, train)
    asked = [name for name in (spec.criterion.metric, *spec.objectives) if name not in COSTS]
    if spec.target is not None:
        asked.append(spec.target[0])
    fully_from = spec.rungs[-1] if spec.rungs else 1
    sample = None
    if spec.validation_sample_size is not None and fully_from > 1:
        sample = sample_sessions(validation, spec.validation_sample_size, spec.seed).without_ids()
    return TrialTask(
        train=train.without_ids(),
        validation=validation.without_ids(),
        sample=sample,
        validated_fully_from=fully_from if sample is not None else 1,
        metrics=tuple(dict.fromkeys([*asked, *metric_keys([20])])),
        costs=tuple(name for name in spec.objectives if name in COSTS),
        criterion=spec.criterion,
        max_epochs=spec.max_epochs,
        threads=spec.cpus_per_trial,
        device="auto" if spec.gpus_per_trial else "cpu",
    )


def run_trials(
    spec: SearchSpec,
    task: TrialTask,
    path: Path,
    slots: Slots,
    place: Place = THIS_MACHINE,
    on_progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Run the trials on the Ray of this process; what they found is written however it ends."""
    log = SearchLog(spec, path / EPOCHS, on_progress)
    budget = Budget(spec)
    spec_of_trials = dataclasses.replace(spec, space=spec.space.for_catalogue(task.train.num_items))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _make_tuner(spec_of_trials, task, path, slots, place, log, budget).fit()
    finally:
        ended = budget.reason or (ALL_TRIALS if log.complete else INTERRUPTED)
        log.close()
        result = SearchResult(path, spec, [log.records[number] for number in sorted(log.records)], ended, log.elapsed_s)
        write_result(result)
    return result


def _make_tuner(
    spec: SearchSpec, task: TrialTask, path: Path, slots: Slots, place: Place, log: SearchLog, budget: Budget
) -> ray_tune.Tuner:
    trainable = ray_tune.with_resources(
        ray_tune.with_parameters(GRU4RecTrainable, task=task), {"cpu": spec.cpus_per_trial, "gpu": spec.gpus_per_trial}
    )
    nodes_may_leave = place.address is not None
    return ray_tune.Tuner(
        trainable,
        tune_config=ray_tune.TuneConfig(
            search_alg=SlotLimiter(make_searcher(spec, study_name=str(path)), slots),
            scheduler=make_scheduler(spec),
            num_samples=spec.trials,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=ray_tune.RunConfig(
            name="search",
            storage_path=place.storage or str(path / "ray"),
            callbacks=[log],
            stop=budget,
            checkpoint_config=ray_tune.CheckpointConfig(
                checkpoint_frequency=int(nodes_may_leave),
                num_to_keep=1 if nodes_may_leave else None,
                checkpoint_at_end=False,
            ),
            failure_config=ray_tune.FailureConfig(max_failures=RETRIES if nodes_may_leave else 0),
            verbose=0,
        ),
    )


def export_trial(
    result: SearchResult,
    trial: TrialRecord,
    out: Path,
    data: SearchData,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a trial's configuration as `train_trial` does, and write its model folder."""
    return save_model(train_trial(result, trial, data, say), out)


def train_trial(
    result: SearchResult, trial: TrialRecord, data: SearchData, say: Callable[[str], None] = lambda _: None
) -> Model:
    """Train a trial's configuration for the epochs at which it was best.

    With `refit` it learns from all the training data, and its validation figures are those of the trial; without, it
    is the trial's own model once more: same seed, same data, same numbers.

    Raises
    ------
    SearchError
        When the trial has no epoch that counts.
    """
    spec = result.spec
    if trial.best_epoch == 0:
        raise SearchError(f"trial {trial.number} has no epoch to export: it {trial.state}")
    train = _refit_data(data) if spec.refit else data.train
    train = train.with_own_items()
    say(f"training trial {trial.number} for {trial.best_epoch} epochs on {train.num_events:,} events")
    with cpu_threads(spec.cpus_per_trial):
        device = resolve_device("auto" if spec.gpus_per_trial else "cpu")
        trainer = Trainer(HyperParameters.from_dict(trial.hyperparameters), train, seed=trial.seed, device=device)
        fit_trainer(trainer, trial.best_epoch)
        model = Model(trainer.network, train.items)
        return dataclasses.replace(model, metrics=_figures(result, trial, model, data))


def train_on_ray(result: SearchResult, data: SearchData, say: Callable[[str], None]) -> Model:
    """Train the best trial as `train_trial` does, where there is room for a trial: the head may have none."""
    say(f"training trial {result.best.number}, the best, for {result.best.best_epoch} epochs")
    remote = ray.remote(num_cpus=result.spec.cpus_per_trial, num_gpus=result.spec.gpus_per_trial, max_retries=RETRIES)(
        train_trial
    )
    model: Model = ray.get(remote.remote(result, result.best, data))
    return model


def _refit_data(data: SearchData) -> Sessions:
    return data.train_full if data.train_full is not None else concatenate_sessions(data.train, data.validation)


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
        history, _ = (_refit_data(data) if result.spec.refit else data.train).with_items_of(model.items)
        known, _ = data.test.with_items_of(model.items)
        figures["test"] = dataclasses.asdict(evaluation)
        figures["baselines"] = {
            name: compute_metrics(rank(history, known), evaluation.metrics) for name, rank in BASELINES.items()
        }
    return figures


def _trial_name(trial: Any) -> str:
    return f"trial-{trial.config.get('trial', 0):05d}"
