"""`tune`: run a search, write its result folder, train and export the winner."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune
from ray.tune import TuneError
from ray.tune.search import Searcher

from gru4rec.baselines import BASELINES
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions, concatenate_sessions, sample_sessions
from gru4rec.device import cpu_threads, resolve_device
from gru4rec.errors import DataError, SearchError, SpecificationError, StorageError
from gru4rec.fitting import align_validation, fit_trainer
from gru4rec.hyperparameters import HyperParameters
from gru4rec.metrics import compute_metrics, metric_keys
from gru4rec.model import Model
from gru4rec.model_folder import save_model
from gru4rec.training import Trainer
from tuning.budget import ALL_TRIALS, INTERRUPTED, TERMINATED, Budget
from tuning.checkpoints import Checkpoints
from tuning.confirm import RETRIES, confirm_trials
from tuning.fingerprint import compare_fingerprint, make_fingerprint, write_fingerprint
from tuning.journal import Journal, PastTrial, read_journal, repair_journal
from tuning.progress import Progress, SearchLog, TrialRecord
from tuning.ray_runtime import THIS_MACHINE, Place, Slots, ray_for
from tuning.report import write_report
from tuning.result import BEST, CHECKPOINTS, SearchResult, held, load_spec, result_folder, write_result, write_spec
from tuning.schedule import make_scheduler
from tuning.searcher import SlotLimiter, make_searcher
from tuning.shared_storage import check_shared
from tuning.signals import Terminated, ended_by_sigterm
from tuning.spec import COSTS, SearchSpec
from tuning.storage import local_copy
from tuning.sweeper import Sweeper
from tuning.trainable import GRU4RecTrainable, TrialTask, identity


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
    logs = {}
    for name, location in spec.data.logs().items():
        with local_copy(location) as path:
            logs[name] = read_log(path, spec.data.log_format)
    return SearchData(**logs)


def tune(
    spec: SearchSpec,
    out: str | Path,
    data: SearchData | None = None,
    *,
    address: str | None = None,
    storage: str | None = None,
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
    storage : str, optional
        A folder that all nodes have, or a URI, for the checkpoints of trials; None keeps them in `out`.
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
        write_fingerprint(path, make_fingerprint(spec, data))
        place = Place(address, storage=storage)
        return search_into(path, spec, data, task, place, on_progress=on_progress, on_stage=on_stage)


def resume(
    out: str | Path,
    data: SearchData | None = None,
    *,
    spec: SearchSpec | None = None,
    address: str | None = None,
    storage: str | None = None,
    changed: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> SearchResult:
    """Go on with a search that was interrupted, or give one that has ended more trials.

    Trials that ended stay as they are, those that were running go on from their checkpoints, and the sampler knows all
    that it knew.

    Parameters
    ----------
    out : path
        The result folder.
    data : SearchData, optional
        The logs; None reads those that the specification names.
    spec : SearchSpec, optional
        None takes the folder's own. It may differ in what `fingerprint.MAY_CHANGE` names: more trials, other budgets.
    address, storage, on_progress, on_stage
        As in `tune`.
    changed : bool
        Go on although code, data or settings are not those that the search began with.

    Raises
    ------
    SearchError
        When the folder holds no search, another process works on it, the search has ended, its record is damaged, or
        code, data or settings have changed.
    """
    path = Path(out).resolve()
    spec = spec or load_spec(path)
    data = data or read_data(spec)
    with taken_up(path, spec, data, changed) as past:
        task = make_task(spec, data)
        place = Place(address, storage=storage)
        return search_into(path, spec, data, task, place, past, on_progress=on_progress, on_stage=on_stage)


@contextmanager
def taken_up(path: Path, spec: SearchSpec, data: SearchData, changed: bool = False) -> Iterator[list[PastTrial]]:
    """Hold the folder of a search that is to go on, and yield what its journal knows; see `resume`."""
    with held(path):
        fingerprint = make_fingerprint(spec, data)
        if not changed:
            compare_fingerprint(path, fingerprint)
        repair_journal(path)
        past = read_journal(path, measured=(spec.criterion.metric, *spec.objectives))
        if sum(not trial.running for trial in past) >= spec.trials and (path / BEST).exists():
            raise SearchError(f"the search in {path} has ended: it has {spec.trials} trials", "--trials gives it more")
        write_fingerprint(path, fingerprint)
        write_spec(path, spec)
        yield past


def search_into(
    path: Path,
    spec: SearchSpec,
    data: SearchData,
    task: TrialTask,
    place: Place = THIS_MACHINE,
    past: Sequence[PastTrial] = (),
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> SearchResult:
    """Run a search in the result folder `path`, which is made and held; as `tune` does, or `resume` with a `past`."""
    say = on_stage or (lambda _: None)
    say("starting Ray" if place.address is None else f"joining the cluster at {place.address}")
    with ray_for(spec, place) as slots, ended_by_sigterm():
        checkpoints = Checkpoints(
            place.storage or str(path / CHECKPOINTS), spec.checkpoint_every, keep_best=not spec.refit
        )
        if place.address is not None:
            check_shared(checkpoints.location)
        ended = sum(not trial.running for trial in past)
        say(f"searching: {spec.trials} trials{f', {ended} of them done' if ended else ''}, {slots.now()} at a time")
        result = run_trials(spec, task, path, slots, checkpoints, past, on_progress, say)
        if result.ended != INTERRUPTED and spec.confirmed is not None:
            count, seeds = spec.confirmed
            best = [trial for trial in result.leaderboard()[:count] if trial.best_epoch > 0]
            result = dataclasses.replace(result, confirmed=confirm_trials(spec, task, best, seeds, say))
            write_result(result)
        write_report(result)
        train = train_trial if place.address is None else train_on_ray
        save_model(train(result, result.best, data, say, checkpoints), path / BEST, overwrite=True)
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
    checkpoints: Checkpoints,
    past: Sequence[PastTrial] = (),
    on_progress: Callable[[Progress], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> SearchResult:
    """Run the trials on the Ray of this process; what they found is written however it ends.

    Raises
    ------
    StorageError
        When the result folder or the storage of checkpoints can no longer be written.
    """
    journal, budget = Journal(path), Budget(spec, past)
    spec_of_trials = dataclasses.replace(spec, space=spec.space.for_catalogue(task.train.num_items))
    searcher = make_searcher(spec_of_trials, str(path), journal, past)
    log = SearchLog(spec, path, journal, past, searcher.settle, on_progress, on_stage)
    ended = INTERRUPTED
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="gru4rec-") as temporary, ended_by_sigterm():
            warnings.simplefilter("ignore")
            if not (log.complete or budget.stop_all()):
                run_config = _run_config(temporary, [log], budget)
                with Sweeper(checkpoints, log):
                    _make_tuner(spec, task, checkpoints, SlotLimiter(searcher, slots), run_config, past).fit()
        ended = budget.reason or (ALL_TRIALS if log.complete else INTERRUPTED)
    except Terminated:
        ended = TERMINATED
        raise
    except TuneError as error:  # Ray's, around what a callback of ours raised
        if journal.problem is None:
            raise
        raise _storage_error(path, journal.problem) from error
    finally:
        log.close()
        result = SearchResult(path, spec, [log.records[number] for number in sorted(log.records)], ended, log.elapsed_s)
        try:
            write_result(result)
        except OSError as error:
            raise _storage_error(path, f"{path} cannot be written: {error.strerror}") from error
    if budget.problem is not None:
        raise _storage_error(path, budget.problem)
    return result


def _storage_error(path: Path, problem: str) -> StorageError:
    return StorageError(problem, f"all that was found is kept; see to it, then: gru4rec tune resume {path}")


def _make_tuner(
    spec: SearchSpec,
    task: TrialTask,
    checkpoints: Checkpoints,
    searcher: Searcher,
    run_config: ray_tune.RunConfig,
    past: Sequence[PastTrial],
) -> ray_tune.Tuner:
    trainable = ray_tune.with_resources(
        ray_tune.with_parameters(GRU4RecTrainable, task=task, checkpoints=checkpoints),
        {"cpu": spec.cpus_per_trial, "gpu": spec.gpus_per_trial},
    )
    return ray_tune.Tuner(
        trainable,
        tune_config=ray_tune.TuneConfig(
            search_alg=searcher,
            scheduler=make_scheduler(spec, past),
            num_samples=-1,  # the searcher knows when there are enough
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=run_config,
    )


def _run_config(folder: str, callbacks: list[ray_tune.Callback], stop: ray_tune.Stopper) -> ray_tune.RunConfig:
    """Return settings with which Ray keeps nothing and retries nothing.

    A search goes on from its journal and our own checkpoints; and of the trials that fail, Ray would retry only those
    whose process had started, after all others.
    """
    return ray_tune.RunConfig(
        name="search",
        storage_path=folder,
        callbacks=callbacks,
        stop=stop,
        checkpoint_config=ray_tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        failure_config=ray_tune.FailureConfig(max_failures=0),
        verbose=0,
    )


def export_trial(
    result: SearchResult,
    trial: TrialRecord,
    out: Path,
    data: SearchData,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a trial's configuration as `train_trial` does, and write its model folder."""
    checkpoints = Checkpoints(str(result.path / CHECKPOINTS))
    return save_model(train_trial(result, trial, data, say, checkpoints), out)


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
    train = _refit_data(data) if spec.refit else data.train
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
        model = Model(trainer.network, train.items)
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
