"""Ray for the time of a search: started here or joined, checked for what trials need, and quiet."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from gru4rec.errors import ClusterError
from gru4rec.files import first_line
from tuning.spec import SearchSpec

# The automatic loggers cost 1 ms and more per report and write what epochs.ndjson has; trials need no working folder of
# their own. Our journal takes the place of Ray's snapshots, which cost the more the more trials there are.
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


SECONDS_TO_CONNECT = 10.0
SECONDS_BETWEEN_COUNTS = 2.0  # of the nodes


@dataclass(frozen=True)
class Place:
    """Where a search runs.

    Parameters
    ----------
    address : str, optional
        A running Ray cluster; None starts Ray on this machine for the time of the search.
    slots : int, optional
        Trials at once for which an autoscaler will bring nodes. None counts the nodes that are there, again and again.
    storage : str, optional
        A folder that all nodes have, or a URI, for the checkpoints of trials; None keeps them in the result folder,
        which all nodes must have then.
    """

    address: str | None = None
    slots: int | None = None
    storage: str | None = None


THIS_MACHINE = Place()


class Slots:
    """How many trials may run at once: fills the nodes that are there, and follows those that join and leave.

    Parameters
    ----------
    spec : SearchSpec
    fixed : int, optional
        What an autoscaler can bring; the search asks for that, and for no more than its trials can use.

    Raises
    ------
    ClusterError
        When no node can hold a single trial: Ray itself would wait for ever.
    """

    def __init__(self, spec: SearchSpec, fixed: int | None = None) -> None:
        limit = spec.trials if spec.max_concurrent_trials == "auto" else spec.max_concurrent_trials
        self._most = min(limit, spec.trials)
        self._spec = spec
        self._fixed = fixed
        self._counted = 0.0
        self._slots = fixed or slots_of_nodes(spec)

    def now(self) -> int:
        """Return the number of this moment, at least 1."""
        if self._fixed is None and time.monotonic() - self._counted > SECONDS_BETWEEN_COUNTS:
            self._slots = max(1, slots_of_nodes(self._spec, expect_one=False))
            self._counted = time.monotonic()
        return min(self._slots, self._most)


@contextmanager
def ray_for(spec: SearchSpec, place: Place = THIS_MACHINE) -> Iterator[Slots]:
    """Start Ray on this machine, or join a cluster; yield how many trials may run at once.

    A Ray that is running in this process already is used and left running.

    Raises
    ------
    ClusterError
        When Ray does not start, the cluster cannot be reached, or no node of it can hold a single trial.
    """
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    started_here = not ray.is_initialized()
    try:
        if started_here:
            if place.address is None:
                start()
            else:
                connect(place.address)
        yield Slots(spec, place.slots)
    finally:
        if started_here:
            ray.shutdown()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def start() -> None:
    """Start Ray on this machine.

    Raises
    ------
    ClusterError
        When it is not there in time.
    """
    try:
        # by default Ray would join whatever was started on this machine before
        ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises just that when its start takes more than half a minute
        ray.shutdown()
        raise ClusterError(
            f"Ray did not start: {first_line(error)}",
            "is the machine busy, is there room in RAY_TMPDIR (/tmp)? try again",
        ) from error


def connect(address: str) -> None:
    """Join a running Ray cluster.

    Raises
    ------
    ClusterError
        When it cannot be reached.
    """
    hint = "is it running, does RAY_AUTH_TOKEN_PATH name its token, does it run this version of Ray?"
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        # Ray itself takes minutes to give up.
        try:
            socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
        except OSError as error:
            raise ClusterError(f"no Ray cluster answers at {address}: {error}", hint) from error
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}", hint) from error


def trials_that_fit(cpus: float, gpus: float, cpus_per_trial: int, gpus_per_trial: float) -> int:
    """Return how many trials a node holds at once.

    >>> trials_that_fit(8, 1, cpus_per_trial=2, gpus_per_trial=0.5)
    2
    """
    by_cpu = int(cpus / cpus_per_trial)
    return min(by_cpu, int(gpus / gpus_per_trial)) if gpus_per_trial else by_cpu


def slots_of_nodes(spec: SearchSpec, expect_one: bool = True) -> int:
    """Return how many trials the living nodes hold at once.

    Raises
    ------
    ClusterError
        When that is none, unless `expect_one` is False.
    """
    nodes: list[dict[str, Any]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = sum(
        trials_that_fit(node.get("CPU", 0.0), node.get("GPU", 0.0), spec.cpus_per_trial, spec.gpus_per_trial)
        for node in nodes
    )
    if slots == 0 and expect_one:
        largest = {kind: max(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
        raise ClusterError(
            f"a trial needs {spec.cpus_per_trial} CPUs and {spec.gpus_per_trial:g} GPUs, the largest node has "
            f"{largest['CPU']:g} and {largest['GPU']:g}",
            "lower search.cpus_per_trial or search.gpus_per_trial",
        )
    return slots
