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

import copy
import heapq
import itertools
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
from curves import METRIC, Curve
from ray.air.execution._internal.tracked_actor import TrackedActor

from gru4rec.errors import DivergedError
from tuning import progress, search
from tuning.ray_runtime import ENVIRONMENT
from tuning.spec import SearchSpec
from tuning.trainable import TrialTask

CONTROLLER = "ray.tune.execution.tune_controller"
NO_SNAPSHOTS = "1e12"
STALLED = 1000  # calls in a row without any event after which nothing can happen any more


class VirtualClock:
    """Seconds since the start: the waiting that is skipped, and the CPU time of this process that counts.

    Parameters
    ----------
    count_cpu : bool
        Whether CPU time of this process moves the clock; it is measured in any case.
    cpu : callable
        Returns the CPU seconds of this process.
    """

    def __init__(self, count_cpu: bool = True, cpu: Callable[[], float] = time.process_time) -> None:
        self._count_cpu = count_cpu
        self._cpu = cpu
        self._left_out = cpu()
        self._skipped = 0.0

    @property
    def controller_s(self) -> float:
        """CPU seconds so far that were not excluded."""
        return self._cpu() - self._left_out

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self._skipped + (self.controller_s if self._count_cpu else 0.0)

    def wait_until(self, moment: float) -> None:
        """Skip to a moment; one that has passed already is no reason to wait."""
        self._skipped += max(0.0, moment - self.now)

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Leave out what this block computes."""
        began = self._cpu()
        try:
            yield
        finally:
            self._left_out += self._cpu() - began


class Worker:
    """Where one actor lives: runs its methods at once, and says how long each would have taken.

    Parameters
    ----------
    trainable : object
        Its methods are called as the controller asks.
    take_seconds : callable
        Returns the seconds that the last call would have taken, once.
    """

    def __init__(self, trainable: Any, take_seconds: Callable[[], float]) -> None:
        self._trainable = trainable
        self._take_seconds = take_seconds
        self.free_at = 0.0
        # Ray asks every new actor for this and reads the answer later.
        self.get_auto_filled_metrics = SimpleNamespace(remote=lambda **_: {})

    def call(self, method: str, arguments: Sequence[Any], named: dict[str, Any]) -> tuple[Any, float]:
        """Return the result of a method, copied as if it had crossed the network, and its seconds."""
        result = getattr(self._trainable, method)(*arguments, **named)
        return copy.copy(result), self._take_seconds()


@dataclass(order=True)
class _Event:
    at: float
    number: int
    actor: TrackedActor = field(compare=False)
    happen: Callable[[], None] = field(compare=False)
    is_task: bool = field(compare=False)
    dropped: bool = field(default=False, compare=False)


class ReplayActorManager:
    """What the controller needs of Ray's RayActorManager, on a virtual clock.

    Parameters
    ----------
    clock : VirtualClock
    workers : int
        Actors that are alive at once at most.
    start_worker : callable
        (actor class, arguments of its constructor) -> Worker.
    """

    def __init__(
        self, clock: VirtualClock, workers: int, start_worker: Callable[[Any, dict[str, Any]], Worker]
    ) -> None:
        self._clock = clock
        self._workers = workers
        self._start_worker = start_worker
        self._numbers = itertools.count(1)
        self._events: list[_Event] = []
        self._tasks: dict[TrackedActor, list[_Event]] = {}
        self._pending: dict[TrackedActor, tuple[Any, dict[str, Any]]] = {}
        self._starting: set[TrackedActor] = set()
        self._stalled = 0
        # The controller reads this one by name.
        self._live_actors_to_ray_actors_resources: dict[TrackedActor, tuple[Worker, None]] = {}
        self.busy: list[tuple[float, float]] = []

    def next(self, timeout: float | None = None) -> bool:
        """Let the next event happen; False when there is none."""
        self._start_actors()
        event = self._pop()
        if event is None:
            self._stalled += 1
            if self._stalled > STALLED:
                raise RuntimeError("the replay stands still: no event is left, but the controller waits for one")
            return False
        self._stalled = 0
        self._clock.wait_until(event.at)
        event.happen()
        self._start_actors()
        return True

    def add_actor(self, cls: Any, kwargs: dict[str, Any], resource_request: Any, **callbacks: Any) -> TrackedActor:
        """Ask for an actor."""
        actor = TrackedActor(next(self._numbers), **callbacks)
        self._pending[actor] = (cls, kwargs)
        return actor

    def remove_actor(self, actor: TrackedActor, kill: bool = False, stop_future: Any = None) -> bool:
        """Stop an actor when it has done what it was asked to; True when there will be a stop."""
        if self._pending.pop(actor, None) is not None or not self.is_actor_started(actor):
            return False
        if actor in self._starting:  # the controller has never known it, and wants to hear nothing of it
            actor.set_on_start(None)
            actor.set_on_stop(None)
        self._at(self._worker(actor).free_at, actor, lambda: self._stop(actor), is_task=False)
        return True

    def schedule_actor_task(
        self,
        tracked_actor: TrackedActor,
        method_name: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        on_result: Callable[[TrackedActor, Any], None] | None = None,
        on_error: Any = None,
        _return_future: bool = False,
    ) -> None:
        """Run a method of an actor after what it was asked before; an actor that is not alive yet does nothing."""
        if not self.is_actor_started(tracked_actor):
            return
        worker = self._worker(tracked_actor)
        began = max(self._clock.now, worker.free_at)
        with self._clock.excluded():
            result, seconds = worker.call(method_name, args, kwargs or {})
        worker.free_at = began + seconds
        if seconds:
            self.busy.append((began, worker.free_at))
        if on_result is not None:
            self._at(worker.free_at, tracked_actor, lambda: on_result(tracked_actor, result), is_task=True)

    def clear_actor_task_futures(self, tracked_actor: TrackedActor) -> None:
        """Forget what an actor was asked."""
        for event in self._tasks.pop(tracked_actor, []):
            event.dropped = True

    def is_actor_started(self, tracked_actor: TrackedActor) -> bool:
        """Whether an actor is alive."""
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: TrackedActor) -> bool:
        """Whether an actor has failed: none does."""
        return False

    def get_live_actors_resources(self) -> dict[str, int]:
        """Return the resources in use."""
        return {"CPU": self.num_live_actors}

    @property
    def num_live_actors(self) -> int:
        """Actors that are alive."""
        return len(self._live_actors_to_ray_actors_resources)

    @property
    def num_pending_actors(self) -> int:
        """Actors that wait for a worker."""
        return len(self._pending)

    @property
    def num_total_actors(self) -> int:
        """Actors that are alive or wait for a worker."""
        return self.num_live_actors + self.num_pending_actors

    @property
    def num_actor_tasks(self) -> int:
        """Results that are to come."""
        return sum(event.is_task and not event.dropped for event in self._events)

    def cleanup(self) -> None:
        """Drop everything."""
        self._events.clear()
        self._tasks.clear()
        self._pending.clear()
        self._live_actors_to_ray_actors_resources.clear()

    def _worker(self, actor: TrackedActor) -> Worker:
        return self._live_actors_to_ray_actors_resources[actor][0]

    def _at(self, moment: float, actor: TrackedActor, happen: Callable[[], None], is_task: bool) -> None:
        event = _Event(moment, next(self._numbers), actor, happen, is_task)
        heapq.heappush(self._events, event)
        if is_task:
            self._tasks.setdefault(actor, []).append(event)

    def _pop(self) -> _Event | None:
        while self._events:
            event = heapq.heappop(self._events)
            if not event.dropped:
                if event.is_task:
                    self._tasks[event.actor].remove(event)
                return event
        return None

    def _start_actors(self) -> None:
        while self._pending and self.num_live_actors < self._workers:
            actor = next(iter(self._pending))
            cls, kwargs = self._pending.pop(actor)
            with self._clock.excluded():
                worker = self._start_worker(cls, kwargs)
            worker.free_at = self._clock.now
            self._live_actors_to_ray_actors_resources[actor] = (worker, None)
            self._starting.add(actor)
            self._at(worker.free_at, actor, lambda actor=actor: self._started(actor), is_task=False)  # type: ignore[misc]

    def _started(self, actor: TrackedActor) -> None:
        self._starting.discard(actor)
        if actor._on_start is not None and self.is_actor_started(actor):
            actor._on_start(actor)

    def _stop(self, actor: TrackedActor) -> None:
        self.clear_actor_task_futures(actor)
        if self._live_actors_to_ray_actors_resources.pop(actor, None) is not None and actor._on_stop is not None:
            actor._on_stop(actor)


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

    def run(
        self, spec: SearchSpec, searcher: Any, scheduler: Any, snapshots: bool = False, totals: bool = False
    ) -> Replayed:
        """Run `tuning.search.run_trials` with this searcher and scheduler.

        Parameters
        ----------
        spec : SearchSpec
        searcher, scheduler : object
            As Ray takes them.
        snapshots : bool
            Let Ray write its snapshots, as often as it would in virtual time.
        totals : bool
            Compute the totals that the command line shows, after every report.
        """
        logs: Any = SimpleNamespace(num_items=sys.maxsize)
        task = TrialTask(logs, logs, None, 1, (METRIC,), (), spec.criterion, spec.max_epochs, 1, "cpu")
        replayed = Replayed(self._workers)
        with self._patched(searcher, scheduler, snapshots), tempfile.TemporaryDirectory() as folder:
            noted = _Notes(replayed, self.clock)
            with mock.patch("tuning.search.SearchLog", noted.log_class()):
                search.run_trials(spec, task, Path(folder), self._workers, (lambda _: None) if totals else None)
        replayed.elapsed_s, replayed.controller_s = self.clock.now, self.clock.controller_s
        replayed.busy = self._managers[-1].busy
        return replayed

    @contextmanager
    def _patched(self, searcher: Any, scheduler: Any, snapshots: bool) -> Iterator[None]:
        replaced: dict[str, Any] = {
            f"{CONTROLLER}.RayActorManager": self._make_manager,
            "tuning.search.make_searcher": lambda *_, **__: searcher,
            "tuning.search.make_scheduler": lambda *_, **__: scheduler,
            "tuning.trainable.Trainer": lambda *_, seed, **__: _Trainer(self, seed),
            "tuning.trainable.run_epoch": lambda trainer, *_: trainer.run_epoch(),
            "ray.tune.execution.experiment_state.time": SimpleNamespace(monotonic=lambda: self.clock.now),
        }
        with ExitStack() as stack:
            for name, value in replaced.items():
                stack.enter_context(mock.patch(name, value))
            environment = {} if snapshots else {"TUNE_GLOBAL_CHECKPOINT_S": NO_SNAPSHOTS}
            stack.enter_context(mock.patch.dict(os.environ, environment))
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
        """Return a `progress.SearchLog` that also takes these notes."""
        notes = self

        class NotingLog(progress.SearchLog):
            def __reduce__(self) -> tuple[Any, ...]:
                return progress.SearchLog, (self._spec, self._epochs_file)

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
