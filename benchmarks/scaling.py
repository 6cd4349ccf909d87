"""How the cost of training grows: with events, with items, with threads, with trials side by side; and its peak memory.

    python benchmarks/scaling.py [--rounds 5] [--json FILE]

An epoch (at most so many mini-batches of it) of GRU4Rec with tied embeddings, hidden 100, batch 64 and 2,048 shared
negatives, cross-entropy, on generated logs. Events and items: CPU time for a target, one thread, each log in turn.
Threads: wall-clock time of one process. Side by side: processes of one thread each that start together, against one
alone; on a busy machine they share what is left. Memory: the peak of a fresh process that trains and validates with
`fit`, the sessions' arrays included and what is loaded once left out, beside three times the parameters + twice the
sessions' arrays + 100 MB.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from memory import peak_growth
from train_step import make_log, make_step, ratio

from gru4rec.cli.output import note, print_table
from gru4rec.data.sessions import Sessions
from gru4rec.fitting import fit_trainer
from gru4rec.hyperparameters import HyperParameters
from gru4rec.training import Trainer

SIZE = {"hidden": 100, "batch": 64, "negatives": 2048}
EVENTS = (100_000, 1_000_000, 10_000_000)
ITEMS = (5_000, 50_000, 500_000)
MINI_BATCHES = 300

Row = dict[str, Any]


def timed(step: Callable[[], None], clock: Callable[[], float]) -> float:
    """Return the microseconds of a target."""
    began = clock()
    with torch.inference_mode():
        for _ in range(MINI_BATCHES):
            step()
    return 1e6 * (clock() - began) / MINI_BATCHES / SIZE["batch"]


def compare_logs(logs: list[tuple[Row, Sessions]], rounds: int) -> list[Row]:
    """Return for each log the CPU time of a target, and its ratio to that of the first."""
    steps = [make_step("cross-entropy", SIZE, log) for _, log in logs]
    for step in steps:
        timed(step, time.process_time)
    times = [[timed(step, time.process_time) for step in steps] for _ in range(rounds)]
    columns = [list(column) for column in zip(*times, strict=True)]
    return [
        {**label, "CPU us/target": statistics.median(column), "of the first": ratio(column, columns[0])}
        for (label, _), column in zip(logs, columns, strict=True)
    ]


def compare_threads(log: Sessions, rounds: int) -> list[Row]:
    """Return the wall-clock time of a target for one thread and more."""
    rows = []
    for hidden in (100, 512):
        step = make_step("cross-entropy", {**SIZE, "hidden": hidden}, log)
        times: dict[int, list[float]] = {threads: [] for threads in range(1, multiprocessing.cpu_count() + 1)}
        for _, threads in itertools.product(range(rounds), times):
            torch.set_num_threads(threads)
            times[threads].append(timed(step, time.perf_counter))
        torch.set_num_threads(1)
        rows += [
            {"hidden": hidden, "threads": threads, "wall us/target": statistics.median(column),
             "times faster": ratio(times[1], column)}
            for threads, column in times.items()
        ]  # fmt: skip
    return rows


def compare_side_by_side(rounds: int) -> list[Row]:
    """Return the throughput of as many processes as there are cores, over that of one alone."""
    processes = multiprocessing.cpu_count()
    alone, together = [], []
    for _ in range(rounds):
        alone.append(_throughput(1))
        together.append(_throughput(processes))
    return [
        {"processes": 1, "targets/s": round(statistics.median(alone)), "times one": 1.0},
        {
            "processes": processes,
            "targets/s": round(statistics.median(together)),
            "times one": ratio(together, alone),
        },
    ]


def _throughput(processes: int) -> float:
    """Return the targets per second of wall-clock time of processes that start together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    workers = [context.Process(target=_train_alone, args=(barrier, end)) for _, end in pipes]
    for worker in workers:
        worker.start()
    rates = [begin.recv() for begin, _ in pipes]
    for worker in workers:
        worker.join()
    return float(sum(rates))


def _train_alone(barrier: Any, result: Connection) -> None:
    torch.set_num_threads(1)
    step = make_step("cross-entropy", SIZE, make_log(5_000))
    timed(step, time.perf_counter)
    barrier.wait()
    result.send(1e6 / statistics.mean(timed(step, time.perf_counter) for _ in range(5)))


def measure_memory(num_events: int, num_items: int) -> Row:
    """Return the peak memory of a training in a process of its own."""
    context = multiprocessing.get_context("spawn")
    begin, end = context.Pipe(duplex=False)
    worker = context.Process(target=_train_and_watch, args=(num_events, num_items, end))
    worker.start()
    row: Row = begin.recv()
    worker.join()
    return row


def _train_and_watch(num_events: int, num_items: int, result: Connection) -> None:
    torch.set_num_threads(1)
    log = make_log(num_items, num_events)
    validation = log.select_sessions(log.session_ids < 1000)
    small = make_log(1_000, 20_000)
    hyperparameters = HyperParameters(
        loss_fn="cross-entropy", embedding="tied", batch_size=512, num_negatives=512, learning_rate=0.05
    )
    fit_trainer(Trainer(hyperparameters, small, seed=0), 1, small)  # what is loaded and made once

    def train() -> Trainer:
        trainer = Trainer(hyperparameters, log, seed=0)
        fit_trainer(trainer, 2, validation)
        return trainer

    trainer, growth = peak_growth(train)
    parameters = sum(weight.nbytes for weight in trainer.network.weights.values())
    arrays = sum(array.nbytes for array in (log.item_index, log.offsets, log.times, log.session_ids))
    bound = 3 * parameters + 2 * arrays + 100e6
    result.send(
        {
            "events": num_events,
            "items": num_items,
            "parameters MB": parameters / 1e6,
            "arrays MB": arrays / 1e6,
            "peak MB": (growth + arrays) / 1e6,
            "of the bound": (growth + arrays) / bound,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables: dict[str, list[Row]] = {}
    note("events")
    tables["events"] = compare_logs([({"events": n}, make_log(5_000, n)) for n in EVENTS], options.rounds)
    note("items")
    tables["items"] = compare_logs([({"items": n}, make_log(n, 1_000_000)) for n in ITEMS], options.rounds)
    note("threads")
    tables["threads"] = compare_threads(make_log(5_000), options.rounds)
    note("side by side")
    tables["side by side"] = compare_side_by_side(options.rounds)
    note("memory")
    tables["memory"] = [
        measure_memory(*size) for size in ((1_000_000, 5_000), (5_000_000, 50_000), (1_000_000, 500_000))
    ]
    for name, rows in tables.items():
        print(f"\n{name}")
        print_table(rows, list(rows[0]))
    if options.json:
        options.json.write_text(json.dumps(tables, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
