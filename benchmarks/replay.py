"""A search on virtual time: Ray Tune's own controller, our searcher, scheduler and trainable, and replayed trainings.

What is replaced is what would take machines: Ray's manager of actors, by a queue of events in this process
(`ReplayActorManager`), and the training and validation of an epoch, by what a curve has recorded of it. Everything else
is the real thing: `tuning.search.run_trials`, the Tuner, the TuneController with its trials and callbacks, the
searcher, the scheduler, the trainable with its patience.

Actors start at once when a worker is free. An epoch takes its recorded CPU seconds on the virtual clock, and the
controller sees results in the order of virtual time (Ray takes those that are ready in random order). What the
controller itself computes is measured (CPU time of this process, without what simulating the workers takes) and added
to the clock, so that it holds the workers up when it is too slow for them.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
from curves import METRIC, Curve
from virtual_actors import ReplayActorManager, VirtualClock, Worker

from gru4rec.errors import DivergedError
from tuning import search, search_log
from tuning.checkpoints import Checkpoints
from tuning.ray_runtime import ENVIRONMENT
from tuning.spec import SearchSpec
from tuning.trainable import TrialTask

CONTROLLER = "ray.tune.execution.tune_controller"


@dataclass(frozen=True)
class FixedSlots:
    """As many workers as ever."""

    count: int

    def now(self) -> int:
        return self.count


@dataclass(frozen=True)
class Report:
    """An epoch as the controller got to know it.

    Parameters
    ----------
    seed : int
        Of the trial.
    epoch : int
    value : float
    at : float
        Virtual seconds when the controller had dealt with it.
    """

    seed: int
    epoch: int
    value: float
    at: float


@dataclass
class Replayed:
    """What a search did.

    Parameters
    ----------
    reports : list of Report
    busy : list of (float, float)
        From when to when a worker was training, in the order of the starts.
    starts : list of float
        When each trial began.
    elapsed_s : float
        Virtual seconds of the whole search.
    controller_s : float
        CPU seconds of the controller.
    workers : int
    """

    workers: int
    reports: list[Report] = field(default_factory=list)
    busy: list[tuple[float, float]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    controller_s: float = 0.0

    def time_to(self, value: float) -> float:
        """Return the virtual seconds until an epoch had this value; infinite when none had."""
        return next((report.at for report in self.reports if report.value >= value), float("inf"))

    def cpu_s_until(self, moment: float) -> float:
        """Return the seconds that workers had trained by then."""
        return sum(min(end, moment) - begin for begin, end in self.busy if begin < moment)

    def cpu_s_to(self, value: float) -> float:
        """Return the seconds that workers had trained when an epoch had this value; infinite when none had."""
        moment = self.time_to(value)
        return self.cpu_s_until(moment) if moment < float("inf") else moment

    @property
    def idle_share(self) -> float:
        """Share of the workers' time, until the last trial began, in which they did not train."""
        handed_out = max(self.starts)
        return 1 - self.cpu_s_until(handed_out) / (self.workers * handed_out) if handed_out else 0.0


class _Trainer:
    """Stands in for `gru4rec.training.Trainer`: replays the curve that its seed stands for."""

    network = None

    def __init__(self, replay: Replay, seed: int) -> None:
        self._replay = replay
        self._curve = replay.curves[seed]
        self.epoch = 0

    def run_epoch(self) -> dict[str, Any]:
        """Return the record of the next epoch, as `gru4rec.fitting.run_epoch` does."""
        self.epoch += 1
        seconds = self._curve.seconds[self.epoch - 1]
        self._replay.spent_s += seconds
        if self.epoch > len(self._curve.epochs):
            raise DivergedError(self._curve.diverged)
        measured = self._curve.epochs[self.epoch - 1]
        metrics = {key: value for key, value in measured.items() if "@" in key and " " not in key}
        return {"epoch": self.epoch, "loss": 0.0, "seconds": seconds, "events_per_second": 0.0, **metrics}

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` goes on from."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier epoch."""
        self.epoch = state["epoch"]


class Replay:
    """One search on virtual time.

    Parameters
    ----------
    workers : int
    count_cpu : bool
        See `VirtualClock`.
    """

    def __init__(self, workers: int, count_cpu: bool = True) -> None:
        self.curves: dict[int, Curve] = {}
        self.spent_s = 0.0
        self.clock = VirtualClock(count_cpu)
        self._workers = workers
        self._managers: list[ReplayActorManager] = []

    def assign(self, seed: int, curve: Curve) -> None:
        """Say which curve a trial with this seed replays."""
        self.curves[seed] = curve

    def run(self, spec: SearchSpec, searcher: Any, scheduler: Any, totals: bool = False) -> Replayed:
        """Run `tuning.search.run_trials` with this searcher and scheduler.

        Parameters
        ----------
        spec : SearchSpec
        searcher, scheduler : object
            As Ray takes them.
        totals : bool
            Compute the totals that the command line shows, after every report.
        """
        logs: Any = SimpleNamespace(num_items=sys.maxsize)
        task = TrialTask(logs, logs, None, 1, (METRIC,), (), spec.criterion, spec.max_epochs, 1, "cpu")
        replayed = Replayed(self._workers)
        with self._patched(searcher, scheduler), tempfile.TemporaryDirectory() as folder:
            noted = _Notes(replayed, self.clock)
            with mock.patch("tuning.search.SearchLog", noted.log_class()):
                slots: Any = FixedSlots(self._workers)
                search.run_trials(
                    spec,
                    task,
                    Path(folder),
                    slots,
                    Checkpoints(folder, every=sys.maxsize),  # what is replayed has no state
                    on_progress=(lambda _: None) if totals else None,
                )
        replayed.elapsed_s, replayed.controller_s = self.clock.now, self.clock.controller_s
        replayed.busy = self._managers[-1].busy
        return replayed

    @contextmanager
    def _patched(self, searcher: Any, scheduler: Any) -> Iterator[None]:
        replaced: dict[str, Any] = {
            f"{CONTROLLER}.RayActorManager": self._make_manager,
            "tuning.search.make_searcher": lambda *_, **__: searcher,
            "tuning.search.make_scheduler": lambda *_, **__: scheduler,
            "tuning.trainable.Trainer": lambda *_, seed, **__: _Trainer(self, seed),
            "tuning.trainable.run_epoch": lambda trainer, *_: trainer.run_epoch(),
        }
        with ExitStack() as stack:
            for name, value in replaced.items():
                stack.enter_context(mock.patch(name, value))
            yield

    def _make_manager(self, resource_manager: Any) -> ReplayActorManager:
        manager = ReplayActorManager(self.clock, self._workers, self._start_worker)
        self._managers.append(manager)
        return manager

    def _start_worker(self, cls: Any, kwargs: dict[str, Any]) -> Worker:
        return Worker(cls.__ray_metadata__.modified_class(**kwargs), self._take_seconds)

    def _take_seconds(self) -> float:
        seconds, self.spent_s = self.spent_s, 0.0
        return seconds


class _Notes:
    """Writes down what the search's own log is told, after it has been told."""

    def __init__(self, replayed: Replayed, clock: VirtualClock) -> None:
        self._replayed = replayed
        self._clock = clock

    def log_class(self) -> Any:
        """Return a `search_log.SearchLog` that also takes these notes."""
        notes = self

        class NotingLog(search_log.SearchLog):
            def __reduce__(self) -> tuple[Any, ...]:
                return search_log.SearchLog, (self._spec, self._folder, self._journal)

            def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                super().on_trial_start(iteration, trials, trial, **info)
                notes._replayed.starts.append(notes._clock.now)

            def on_trial_result(
                self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
            ) -> None:
                super().on_trial_result(iteration, trials, trial, result, **info)
                report = Report(trial.config["seed"], result["epoch"], result[METRIC], notes._clock.now)
                notes._replayed.reports.append(report)

        return NotingLog


@contextmanager
def small_ray() -> Iterator[None]:
    """Start the Ray that the Tuner asks for; none of its workers is used."""
    with mock.patch.dict(os.environ, ENVIRONMENT):
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()
