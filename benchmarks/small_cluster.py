"""Several real nodes of Ray on this machine, their processors mere numbers: what placing trials takes, where data lies.

The searches are `tuning.search.run_trials` with our searcher, scheduler and log; their trials wait instead of training
(tiny_trials.py), so that as many as a machine's memory holds can be alive at once.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
import tiny_trials
from ray import cloudpickle
from ray._private.internal_api import node_stats
from ray.cluster_utils import Cluster
from tiny_trials import EPOCH_S, EPOCHS, ReadingTrial, WaitingTrial, array_buffers

from gru4rec.data.reading import read_log
from gru4rec.data.sessions import sample_sessions
from gru4rec.data.synthetic import generate_log
from gru4rec.stopping import StoppingRule
from tuning.checkpoints import Checkpoints
from tuning.presets import PRESETS
from tuning.ray_runtime import ENVIRONMENT, Slots
from tuning.search import make_task, run_trials
from tuning.search_data import SearchData
from tuning.search_log import SearchLog
from tuning.spec import SearchSpec

cloudpickle.register_pickle_by_value(tiny_trials)  # workers do not find this folder
STORE_BYTES = 256 * 2**20  # of each node
TRIALS_PER_SLOT = 3
SESSIONS, ITEMS, VALIDATION_SESSIONS = 206_000, 50_000, 20_000  # a million events


@contextmanager
def nodes_here(nodes: int, slots: int) -> Iterator[None]:
    """Start a head without slots and so many nodes with slots, and join them; every process of them ends with it."""
    with tempfile.TemporaryDirectory(prefix="gs-", ignore_cleanup_errors=True) as folder:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        with mock.patch.dict(os.environ, {**ENVIRONMENT, "RAY_TMPDIR": folder}):
            head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
            cluster = Cluster(initialize_head=True, head_node_args=head)
            try:
                for _ in range(nodes):
                    cluster.add_node(num_cpus=slots, object_store_memory=STORE_BYTES)
                ray.init(cluster.address, **quiet)
                yield
            finally:
                ray.shutdown()
                cluster.shutdown()


@dataclasses.dataclass
class Arrivals:
    """The reports of a search as they came in.

    Parameters
    ----------
    results : list of dict
    at : list of float
        Seconds since the search began.
    cpu_s : list of float
        CPU seconds of this process since then.
    stored : list of dict of str to int
        Bytes in each node's object store: before the search, when each slot had reported, and at the last report.
    """

    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    at: list[float] = dataclasses.field(default_factory=list)
    cpu_s: list[float] = dataclasses.field(default_factory=list)
    stored: list[dict[str, int]] = dataclasses.field(default_factory=list)

    def firsts(self) -> list[int]:
        """Return the places of the first reports of all processes."""
        first: dict[int, int] = {}
        for place, result in enumerate(self.results):
            first.setdefault(result["pid"], place)
        return list(first.values())

    def gaps(self, turnover: bool) -> list[float]:
        """Return the seconds between two epochs of a process: of one trial and the next, or else of the same trial."""
        by_process = sorted(self.results, key=lambda result: (result["pid"], result["began"]))
        return [
            after["began"] - before["ended"]
            for before, after in itertools.pairwise(by_process)
            if before["pid"] == after["pid"] and before["done"] == turnover
        ]


def run_search(slots: int, trainable: Any, task: Any, cpus: int, watch_store: bool) -> Arrivals:
    """Run a search on the cluster of this process: three trials for each slot, every trial to its end."""
    spec = SearchSpec(
        dataclasses.replace(PRESETS["full"], points=()),
        trials=TRIALS_PER_SLOT * slots,
        max_epochs=EPOCHS,
        criterion=StoppingRule("recall@20", EPOCHS),
        grace_period=EPOCHS,
        cpus_per_trial=cpus,
    )
    arrivals = Arrivals(stored=[stored_bytes()])
    tell = SearchLog.on_trial_result

    def noted(log: SearchLog, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        tell(log, iteration, trials, trial, result)
        arrivals.results.append(result)
        arrivals.at.append(time.time() - began)
        arrivals.cpu_s.append(time.process_time() - began_cpu_s)
        all_there = len(arrivals.stored) == 1 and len(arrivals.firsts()) == slots
        if watch_store and (all_there or len(arrivals.results) == EPOCHS * spec.trials):
            arrivals.stored.append(stored_bytes())

    began, began_cpu_s = time.time(), time.process_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("tuning.search.GRU4RecTrainable", trainable),
        mock.patch.object(SearchLog, "on_trial_result", noted),
    ):
        run_trials(spec, task, Path(folder), Slots(spec), Checkpoints(folder))
    return arrivals


def stored_bytes() -> dict[str, int]:
    """Return the bytes in the object store of each node."""
    stats = {
        node["NodeID"]: node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False)
        for node in ray.nodes()
        if node["Alive"]
    }
    return {node: int(reply.store_stats.object_store_bytes_used) for node, reply in stats.items()}


def measure_placing(nodes: int, slots: int) -> dict[str, Any]:
    """Return how long a search needs to fill all slots of a cluster, and to put the next trial into one."""
    task = SimpleNamespace(train=SimpleNamespace(num_items=sys.maxsize))
    with nodes_here(nodes, slots):
        arrivals = run_search(nodes * slots, WaitingTrial, task, cpus=1, watch_store=False)
    first = arrivals.firsts()
    placed = max(first)
    turnovers, same = arrivals.gaps(turnover=True), arrivals.gaps(turnover=False)
    return {
        "nodes": len({result["ran_on"] for result in arrivals.results}),
        "slots": len(first),
        "trials": TRIALS_PER_SLOT * nodes * slots,
        "turnovers": len(turnovers),
        "first slot s": arrivals.at[0] - EPOCH_S,
        "half s": statistics.median(arrivals.at[place] for place in first) - EPOCH_S,
        "all s": arrivals.at[placed] - EPOCH_S,
        "driver CPU s until then": arrivals.cpu_s[placed],
        "turnover ms": 1000 * statistics.median(turnovers),
        "between epochs ms": 1000 * statistics.median(same),
        "then driver CPU ms/report": 1000
        * (arrivals.cpu_s[-1] - arrivals.cpu_s[placed])
        / (len(arrivals.results) - 1 - placed),
    }


def measure_store(nodes: int, slots: int, sessions: int = SESSIONS) -> dict[str, Any]:
    """Return what the task of a search takes in the object store of each node, two trials at a time on each."""
    log = read_log(generate_log(sessions, ITEMS))
    data = SearchData(log, sample_sessions(log, VALIDATION_SESSIONS, 0))
    with nodes_here(nodes, slots):
        task = make_task(SearchSpec(PRESETS["full"]), data)
        arrays = sum(array.nbytes for array in array_buffers(task))
        arrivals = run_search(2 * nodes, ReadingTrial, task, cpus=slots // 2, watch_store=True)
    before, placed, last = arrivals.stored
    workers = {result["ran_on"] for result in arrivals.results}
    grown = [placed[node] - before[node] for node in workers]
    return {
        "events": log.num_events,
        "nodes": len(workers),
        "trials": TRIALS_PER_SLOT * 2 * nodes,
        "processes": len(arrivals.firsts()),
        "arrays MB": arrays / 1e6,
        "least MB of a node": min(grown) / 1e6,
        "most MB": max(grown) / 1e6,
        "most at the end MB": max(last[node] - before[node] for node in workers) / 1e6,
        "of the arrays": max(grown) / arrays,
        "read in place": str(all(result["in_place"] for result in arrivals.results)),
    }
