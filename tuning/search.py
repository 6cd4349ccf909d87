"""`tune`: run a search, write its result folder, train and export the winner."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from ray.tune import TuneError
from ray.tune.search import Searcher

from gru4rec.data.sessions import sample_sessions
from gru4rec.errors import DataError, SearchError, StorageError
from gru4rec.fitting import align_validation
from gru4rec.metrics import metric_keys
from tuning.budget import ALL_TRIALS, INTERRUPTED, TERMINATED, Budget
from tuning.checkpoints import Checkpoints
from tuning.confirm import confirm_trials
from tuning.fingerprint import compare_fingerprint, make_fingerprint, write_fingerprint
from tuning.journal import Journal, PastTrial, read_journal, repair_journal
from tuning.logging_spec import check_packages
from tuning.progress import Progress
from tuning.ray_runtime import THIS_MACHINE, Place, Slots, ray_for
from tuning.result import (
    BEST,
    CHECKPOINTS,
    SearchResult,
    held,
    is_complete,
    load_spec,
    result_folder,
    write_result,
    write_spec,
)
from tuning.schedule import make_scheduler
from tuning.search_data import SearchData, read_data
from tuning.search_log import SearchLog
from tuning.searcher import SlotLimiter, make_searcher
from tuning.shared_storage import check_shared
from tuning.signals import Terminated, ended_by_sigterm
from tuning.spec import COSTS, SearchSpec
from tuning.sweeper import Sweeper
from tuning.tracking import Tracking
from tuning.trainable import GRU4RecTrainable, TrialTask
from tuning.winner import save_trial, train_on_ray, train_trial


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
def taken_up(
    path: Path, spec: SearchSpec, data: SearchData, changed: bool = False, ended: bool = False
) -> Iterator[list[PastTrial]]:
    """Hold the folder of a search that is to go on, and yield what its journal knows; see `resume`.

    With `ended` one that has ended is taken up, too: its winner is made once more.
    """
    with held(path):
        fingerprint = make_fingerprint(spec, data)
        if not changed:
            compare_fingerprint(path, fingerprint)
        if not ended and is_complete(path, spec.trials):
            raise SearchError(f"the search in {path} has ended: it has {spec.trials} trials", "--trials gives it more")
        repair_journal(path)
        past = read_journal(path, measured=(spec.criterion.metric, *spec.objectives))
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
    check_packages(spec.logging)
    say("starting Ray" if place.address is None else f"joining the cluster at {place.address}")
    with ray_for(spec, place) as slots, ended_by_sigterm():
        checkpoints = Checkpoints(
            place.storage or str(path / CHECKPOINTS), spec.checkpoint_every, keep_best=not spec.refit
        )
        if place.address is not None:
            check_shared(checkpoints.location)
        ended = sum(not trial.running for trial in past)
        say(f"searching: {spec.trials} trials{f', {ended} of them done' if ended else ''}, {slots.now()} at a time")
        with Tracking(path, spec, task.train.num_items, say) as tracking:
            result = run_trials(spec, task, path, slots, checkpoints, past, on_progress, say)
            tracking.ended = result.ended
            if result.ended != INTERRUPTED and spec.confirmed is not None:
                count, seeds = spec.confirmed
                best = [trial for trial in result.leaderboard()[:count] if trial.best_epoch > 0]
                result = dataclasses.replace(result, confirmed=confirm_trials(spec, task, best, seeds, say))
                write_result(result)
            train = train_trial if place.address is None else train_on_ray
            try:
                model = train(result, result.best, data, say, checkpoints)
                tracking.model = save_trial(model, path / BEST, result, result.best, overwrite=True)
            finally:
                from tuning.report import write_report  # imports scikit-learn, which takes a second

                write_report(result)
    result = dataclasses.replace(result, notes=tracking.notes, exported=True)
    write_result(result)
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
        progress_reporter=ray_tune.CLIReporter(),  # the one for notebooks clears what the cell has shown
        verbose=0,
    )


def _trial_name(trial: Any) -> str:
    return f"trial-{trial.config.get('trial', 0):05d}"
