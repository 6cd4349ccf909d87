"""Replays (benchmarks/replay.py, virtual_actors.py): time passes as with workers, worked out by hand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def replay(monkeypatch):
    """The module, imported the way a benchmark imports its neighbours."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield importlib.import_module("replay")
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == BENCHMARKS:
            del sys.modules[name]


class Machine:
    """The CPU clock of the controller, which computes only when told to."""

    def __init__(self):
        self.cpu_s = 0.0

    def __call__(self):
        return self.cpu_s


def train_all(replay, trials, workers, reuse, cpu_per_report=0.0, count_cpu=True):
    """Drive the manager as the controller does: each trial trains its epochs, then its actor stops or is reused.

    `trials` has the seconds of each epoch of each trial. Return what was replayed and the order of the reports.
    """
    machine = Machine()
    clock = replay.VirtualClock(count_cpu, machine)
    spent = []

    def train(seconds):
        spent.append(seconds)
        machine.cpu_s += 1000.0  # simulating a worker costs the controller nothing
        return seconds

    def start_worker(cls, kwargs):
        trainable = SimpleNamespace(train=train, stop=lambda: None)
        return replay.Worker(trainable, lambda: spent.pop() if spent else 0.0)

    manager = replay.ReplayActorManager(clock, workers, start_worker)
    replayed = replay.Replayed(workers)
    waiting = list(enumerate(trials))
    reports = []

    def begin(actor):
        replayed.starts.append(clock.now)
        number, epochs = waiting.pop(0)
        go_on(actor, number, list(epochs))

    def go_on(actor, number, left):
        def on_result(actor, seconds):
            machine.cpu_s += cpu_per_report
            reports.append((number, clock.now))
            if left:
                go_on(actor, number, left)
            elif reuse and waiting:
                begin(actor)
            else:
                manager.remove_actor(actor)

        manager.schedule_actor_task(actor, "train", (left.pop(0),), on_result=on_result)

    for _ in range(workers if reuse else len(trials)):
        manager.add_actor(None, {}, None, on_start=begin, on_stop=None, on_error=None)
    assert manager.num_live_actors == 0
    while manager.next():
        assert manager.num_live_actors <= workers
    replayed.elapsed_s, replayed.busy, replayed.controller_s = clock.now, manager.busy, clock.controller_s
    return replayed, reports


@pytest.mark.parametrize("reuse", [False, True])
def test_three_workers_finish_when_a_schedule_by_hand_does(replay, reuse):
    # 3 workers: A 4+4, B 3, C 5+2; at 3 the second is free for D 6+1; at 7 the third for E 2; A ends at 8.
    replayed, reports = train_all(replay, [[4, 4], [3], [5, 2], [6, 1], [2]], 3, reuse)
    assert reports == [(1, 3), (0, 4), (2, 5), (2, 7), (0, 8), (3, 9), (4, 9), (3, 10)]
    assert replayed.starts == [0, 0, 0, 3, 7]
    assert replayed.elapsed_s == 10
    assert replayed.idle_share == 0.0  # all three trained from 0 to 7, when the last trial began
    assert replayed.cpu_s_until(7) == 21
    assert replayed.cpu_s_until(float("inf")) == 27


def test_a_slow_controller_holds_the_workers_up(replay):
    # One worker, 1 s an epoch, and the controller computes 0.5 s after each: the worker waits a third of the time.
    replayed, reports = train_all(replay, [[1], [1], [1]], 1, True, cpu_per_report=0.5)
    assert reports == [(0, 1.5), (1, 3.0), (2, 4.5)]
    assert replayed.controller_s == 1.5
    assert replayed.idle_share == pytest.approx(1 / 3)


def test_results_that_wait_for_the_controller_cost_no_further_waiting(replay):
    # Two workers report at 1; the controller needs 3 s for each of them, so that the second is dealt with at 7.
    replayed, reports = train_all(replay, [[1], [1]], 2, True, cpu_per_report=3.0)
    assert reports == [(0, 4.0), (1, 7.0)]
    assert replayed.elapsed_s == 7.0


def test_cpu_time_may_be_measured_without_counting(replay):
    replayed, reports = train_all(replay, [[1], [1]], 1, True, cpu_per_report=0.5, count_cpu=False)
    assert reports == [(0, 1), (1, 2)]
    assert replayed.controller_s == 1.0


def test_a_trial_that_is_forgotten_reports_nothing(replay):
    clock = replay.VirtualClock(cpu=lambda: 0.0)
    manager = replay.ReplayActorManager(
        clock, 1, lambda *_: replay.Worker(SimpleNamespace(train=lambda: "result"), lambda: 2.0)
    )
    told = []
    actor = manager.add_actor(None, {}, None, on_start=lambda _: told.append("started"))
    assert not manager.is_actor_started(actor)
    assert manager.next()
    manager.schedule_actor_task(actor, "train", on_result=lambda *_: told.append("trained"))
    assert manager.num_actor_tasks == 1
    manager.clear_actor_task_futures(actor)
    assert manager.num_actor_tasks == 0
    assert not manager.next()
    assert told == ["started"]


def test_an_actor_that_is_removed_while_it_starts_is_never_heard_of(replay):
    # The controller does so when another actor has become free for the trial; Ray forgets the start and the stop.
    told = []
    clock = replay.VirtualClock(cpu=lambda: 0.0)
    manager = replay.ReplayActorManager(clock, 1, lambda *_: replay.Worker(SimpleNamespace(), lambda: 0.0))
    first = manager.add_actor(
        None, {}, None, on_start=lambda _: told.append("first"), on_stop=lambda _: told.append("-")
    )
    second = manager.add_actor(None, {}, None, on_start=lambda _: told.append("second"))
    manager._start_actors()
    assert manager.is_actor_started(first)
    assert not manager.is_actor_started(second)
    assert manager.remove_actor(first)
    while manager.next():
        pass
    assert told == ["second"]
    assert manager.num_total_actors == 1
