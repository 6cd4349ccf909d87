"""How many slots one search can keep busy: CPU time of the driving process, by simulation and on small real clusters.

    python benchmarks/controller_scale.py [--slots 8 64 ...] [--tpe 8 64 256] [--quick] [--json FILE]

Four measurements, in CPU seconds of the driver where not said otherwise:

- Whole searches on simulated slots, three trials for each slot: the recorded curves on virtual time of replay.py, but
  the searcher proposes for itself, and a trial replays a curve that its seed picks. All defaults of a search, with its
  journal and totals. Once with random suggestions up to the largest number of slots, once with TPE, which alone takes
  most of the time, up to where that is bearable. Each search runs in a process of its own.
- What TPE takes for one suggestion after so many trials, a quarter of them running. The mean over a search's trials
  stands in where the whole search with TPE was not run; where both were, they can be compared.
- What simulation leaves out: Ray's wait for one of so many calls, of a real actor.
- Real Ray: a head and several nodes on this machine whose processors are mere numbers (small_cluster.py), with trials
  that wait. How soon each slot has its first trial and its next one, in seconds; and what the task of a search over a
  million events takes in each node's object store.

The shortest epoch is slots x seconds per report: with shorter ones the driver cannot keep up.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import ray
import torch
from curves import Curve, median, read_curves
from replay import Replay, small_ray
from small_cluster import SESSIONS, measure_placing, measure_store
from tiny_trials import Holder

from gru4rec.cli.output import note, print_table
from tuning.presets import PRESETS
from tuning.schedule import make_scheduler
from tuning.search_log import SearchLog
from tuning.searcher import OptunaSearcher, make_searcher
from tuning.spec import SearchSpec
from tuning.terminal import captured_output

CURVES = Path(__file__).parent / "curves" / "yoochoose_24h.ndjson"
LOG = Path(tempfile.gettempdir()) / "controller_scale.log"
SPACE = dataclasses.replace(PRESETS["full"], points=())
SLOTS = (8, 64, 256, 800, 1600, 3200)
TRIALS_PER_SLOT = 3
REPEATED_BELOW = 100  # slots; smaller searches are repeated, since they are over soon
RUNS = 5
SUGGESTIONS = 12  # timed for each number of trials
WAITS = 60
NODES, SLOTS_OF_NODE = 5, 8
PARTS = {
    "suggest": (OptunaSearcher, "suggest"),
    "log": (SearchLog, "on_trial_result"),
}


class CurvesInTurn(dict[int, Curve]):
    """Gives every trial's seed a curve."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        super().__init__()
        self._curves = curves

    def __missing__(self, seed: int) -> Curve:
        return self._curves[seed % len(self._curves)]


@contextmanager
def timed_parts() -> Iterator[dict[str, float]]:
    """Add up the CPU seconds of the controller's parts."""
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return method(*arguments, **named)
            finally:
                spent[name] += time.process_time() - began

        return call

    with ExitStack() as stack:
        for name, (owner, method) in PARTS.items():
            stack.enter_context(mock.patch.object(owner, method, timed(name, getattr(owner, method))))
        yield spent


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work` returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_quietly, work, *arguments).result()


def simulate(slots: int, tpe: bool) -> dict[str, Any]:
    """Run whole searches on so many slots; return the medians."""
    with small_ray():
        runs = [_simulate(slots, tpe, seed) for seed in range(RUNS if slots < REPEATED_BELOW else 1)]
    whole = ("slots", "trials", "reports")
    row = {key: median([run[key] for run in runs]) for key in runs[0]}
    return row | {key: int(row[key]) for key in whole}


def _simulate(slots: int, tpe: bool, seed: int) -> dict[str, Any]:
    spec = SearchSpec(SPACE, trials=TRIALS_PER_SLOT * slots, seed=seed)
    searcher = make_searcher(spec, "scale")
    if not tpe:
        searcher.study.sampler = optuna.samplers.RandomSampler(seed=seed)
    replay = Replay(slots)
    replay.curves = CurvesInTurn(read_curves(CURVES).random)
    with timed_parts() as spent:
        replayed = replay.run(spec, searcher, make_scheduler(spec), totals=True)
    trials, reports = len(replayed.starts), len(replayed.reports)
    rest = replayed.controller_s - sum(spent.values())
    return {
        "slots": slots,
        "trials": trials,
        "reports": reports,
        "suggest ms/trial": 1000 * spent["suggest"] / trials,
        "log ms/report": 1000 * spent["log"] / reports,
        "Ray": 1000 * rest / reports,
        "ms/report": 1000 * replayed.controller_s / reports,
        "ms/trial": 1000 * replayed.controller_s / trials,
        "all placed s": replayed.starts[slots - 1],
    }


def time_suggestions(histories: Sequence[int]) -> list[dict[str, Any]]:
    """Return what TPE takes for one suggestion after so many trials."""
    rows = []
    for trials in histories:
        searcher = make_searcher(SearchSpec(SPACE, trials=2 * trials), "scale")
        tpe, searcher.study.sampler = searcher.study.sampler, optuna.samplers.RandomSampler(seed=0)
        curves = read_curves(CURVES).random
        for number in range(trials):
            searcher.suggest(str(number))
            if number < 0.75 * trials:
                _tell(searcher, str(number), curves[number % len(curves)].values, random.Random(number))
        searcher.study.sampler = tpe
        began = time.process_time()
        for number in range(SUGGESTIONS):
            searcher.suggest(f"timed {number}")
        rows.append({"trials so far": trials, "suggest ms": 1000 * (time.process_time() - began) / SUGGESTIONS})
    return rows


def _tell(searcher: OptunaSearcher, trial_id: str, values: Sequence[float], chance: random.Random) -> None:
    """End a trial where ASHA would: two of three at the first rung, two of three of the others at the second."""
    epochs = min(len(values), 2 if chance.random() < 2 / 3 else 6 if chance.random() < 2 / 3 else 10)
    for epoch, value in enumerate(values[:epochs], start=1):
        result = {"recall@20": value, "best": max(values[:epoch]), "epoch": epoch, "stopped_early": False}
        if epoch < epochs:
            searcher.on_trial_result(trial_id, result)
        else:
            searcher.on_trial_complete(trial_id, result)


def time_waits(slots: Sequence[int]) -> list[float]:
    """Return the CPU milliseconds that Ray takes to find the one of so many calls that is ready, and its result."""
    with small_ray():
        return [_time_waits(count) for count in slots]


def _time_waits(count: int) -> float:
    actor = ray.remote(num_cpus=0, max_concurrency=count + 1)(Holder).remote()
    held = [actor.hold.remote() for _ in range(count - 1)]
    ray.get(actor.answer.remote())
    spent = 0.0
    for _ in range(WAITS):
        answer = actor.answer.remote()
        time.sleep(0.01)  # it is there by then
        began = time.process_time()
        calls = [*held, answer]
        random.shuffle(calls)  # as Ray's manager of actors does
        ready, _rest = ray.wait(calls, num_returns=1)
        ray.get(ready[0])
        spent += time.process_time() - began
    ray.kill(actor)
    return 1000 * spent / WAITS


def limits(
    simulated: Sequence[dict[str, Any]], waits: Sequence[float], suggestions: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return for each number of slots what a report costs, how many fit into a second, and the shortest epoch."""
    known = [(0, 0.0), *((row["trials so far"], row["suggest ms"]) for row in suggestions)]
    trials, cost = np.array(known).T
    rows = []
    for run, wait in zip(simulated, waits, strict=True):
        numbers = np.arange(run["trials"])
        suggest = float(np.interp(numbers, trials, cost).mean()) if run["trials"] <= trials[-1] else float("nan")
        plain = run["ms/report"] + wait
        with_tpe = plain + (suggest - run["suggest ms/trial"]) * run["trials"] / run["reports"]
        rows.append(
            {
                "slots": run["slots"],
                "trials": run["trials"],
                "Ray's wait ms": wait,
                "random: ms/report": plain,
                "reports/s": 1000 / plain,
                "shortest epoch s": run["slots"] * plain / 1000,
                "TPE: ms/trial": suggest,
                "TPE: ms/report": with_tpe,
                "TPE: reports/s": 1000 / with_tpe,
                "TPE: shortest epoch s": run["slots"] * with_tpe / 1000,
            }
        )
    return rows


def _quietly(work: Callable[..., Any], *arguments: Any) -> Any:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with (
        tempfile.TemporaryDirectory(prefix="gs-", ignore_cleanup_errors=True) as folder,
        mock.patch.dict(os.environ, {"RAY_TMPDIR": folder}),
        captured_output(LOG),
    ):
        return work(*arguments)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, nargs="*", default=SLOTS, help="simulated, with random suggestions")
    parser.add_argument("--tpe", type=int, nargs="*", default=(8, 64, 256), help="simulated, with TPE")
    parser.add_argument("--quick", action="store_true", help="8 slots, random; a small log on two nodes, no placing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    slots, tpe = ((8,), ()) if options.quick else (sorted(options.slots), sorted(options.tpe))
    nodes, slots_of_node, sessions = (2, 4, 20_000) if options.quick else (NODES, SLOTS_OF_NODE, SESSIONS)
    found: dict[str, list[dict[str, Any]]] = {"random": [], "TPE": []}
    for name, counts in (("random", slots), ("TPE", tpe)):
        for count in counts:
            note(f"{count} simulated slots, {name}")
            found[name].append(apart(simulate, count, name == "TPE"))
        if found[name]:
            print(f"\nwhole searches on simulated slots, suggestions: {name}; CPU ms of the driver")
            print_table(found[name], list(found[name][0]))
    note("suggestions, waits")
    histories = [TRIALS_PER_SLOT * count for count in slots]
    found["suggestions"] = apart(time_suggestions, histories)
    print("\none suggestion of TPE; CPU ms")
    print_table(found["suggestions"], list(found["suggestions"][0]))
    found["limits"] = limits(found["random"], apart(time_waits, slots), found["suggestions"])
    print("\nwhat one driver can take")
    print_table(found["limits"], list(found["limits"][0]))
    if not options.quick:
        note(f"{nodes} real nodes of {slots_of_node} slots")
        found["placing"] = [apart(measure_placing, nodes, slots_of_node)]
        print("\nreal Ray, trials that wait")
        print_table(found["placing"], list(found["placing"][0]))
    note("object store")
    found["store"] = [apart(measure_store, nodes, slots_of_node, sessions)]
    print("\nthe task of a search in the object stores")
    print_table(found["store"], list(found["store"][0]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
