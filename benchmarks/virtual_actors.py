"""Workers on virtual time: a clock that skips waiting, and a queue of events in place of Ray's manager of actors.

`ReplayActorManager` does for Ray Tune's controller what Ray's own manager does, in this process: actors start at once
when a worker is free, a call takes the seconds that its `Worker` says, and results come in the order of virtual time.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ray.air.execution._internal.tracked_actor import TrackedActor

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
