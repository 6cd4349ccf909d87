"""Ray for the time of a search: started here or joined, checked for what trials need, and quiet."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from gru4rec.errors import ClusterError
from tuning.spec import SearchSpec

# The automatic loggers cost 1 ms and more per report and write what epochs.ndjson has; trials need no working folder of
# their own; metrics and snapshots are small, so Ray's warnings about them are noise.
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


SECONDS_TO_CONNECT = 10.0


@contextmanager
def ray_for(spec: SearchSpec, address: str | None = None) -> Iterator[int]:
    """Start Ray on this machine, or join the cluster at `address`; yield how many trials run at once.

    A Ray that is running in this process already is used and left running.

    Raises
    ------
    ClusterError
        When the cluster cannot be reached, or no node of it can hold a single trial: Ray itself would wait for ever.
    """
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    started_here = not ray.is_initialized()
    try:
        if started_here:
            if address is None:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            else:
                connect(address)
        yield _slots(spec)
    finally:
        if started_here:
            ray.shutdown()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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


def _slots(spec: SearchSpec) -> int:
    wanted = {"CPU": float(spec.cpus_per_trial), "GPU": spec.gpus_per_trial}
    per_node = [
        min(int(node["Resources"].get(kind, 0.0) / amount) for kind, amount in wanted.items() if amount)
        for node in ray.nodes()
        if node["Alive"]
    ]
    slots = sum(per_node)
    if slots == 0:
        largest = {kind: max(node["Resources"].get(kind, 0.0) for node in ray.nodes()) for kind in wanted}
        raise ClusterError(
            f"a trial needs {spec.cpus_per_trial} CPUs and {spec.gpus_per_trial:g} GPUs, the largest node has "
            f"{largest['CPU']:g} and {largest['GPU']:g}",
            "lower search.cpus_per_trial or search.gpus_per_trial",
        )
    if spec.max_concurrent_trials == "auto":
        return min(slots, spec.trials)
    return min(slots, spec.max_concurrent_trials, spec.trials)
