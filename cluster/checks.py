"""Is this machine, and is each node of a cluster, fit for a search? Asked before a launch, not found out after it."""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gru4rec.errors import GRU4RecError
from tuning.ray_runtime import trials_that_fit
from tuning.storage import Storage

PACKAGES = ("gru4rec-tune", "ray", "optuna", "torch", "numpy", "pandas", "pyarrow")
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_MEMORY_BYTES = 1 << 30
SECONDS_TO_ANSWER = 60
SECONDS_APART = 5.0  # that clocks may be: tokens of clouds expire, and times in records would not compare
STORE_SHARE = 0.5  # of the object store that the logs may take: trials need the rest
BYTES_PER_LOG_BYTE = 3  # arrays beside the bytes of a compressed log, at most


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
    passed : bool
    detail : str
        What was found.
    remedy : str
        What to do when it has not passed.
    """

    name: str
    passed: bool
    detail: str
    remedy: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return the check as a dictionary."""
        return asdict(self)


def check_this_machine(storage: str) -> list[Check]:
    """Check versions, shared memory and whether `storage`, a path or URI for results, can be written."""
    checks = [
        Check(name, found is not None, found or "not installed", f"pip install {name}")
        for name, found in installed_versions().items()
    ]
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        remedy = "enlarge /dev/shm (docker run --shm-size)"
        checks.append(Check("shared memory", free >= LEAST_SHARED_MEMORY_BYTES, f"{free / 1e9:.1f} GB free", remedy))
    problem = write_problem(storage)
    checks.append(Check("storage", not problem, problem or f"{storage} can be written", "choose another storage_path"))
    return checks


def check_nodes(order: dict[str, Any]) -> list[Check]:
    """Check each node of the Ray of this process; `order` is the content of submission.json.

    Versions must be those of this process, which is on the head; the storage must be one and the same place for all.
    """
    storage = Storage(order["storage_path"])
    name = f".check-{uuid.uuid4().hex}"
    try:
        with tempfile.NamedTemporaryFile() as marker:
            storage.upload(Path(marker.name), name)
    except GRU4RecError as error:
        return [Check("storage", False, str(error), "give every node access to storage_path")]
    try:
        alive = [node for node in ray.nodes() if node["Alive"]]
        with ThreadPoolExecutor(len(alive)) as pool:  # nodes take seconds each to start a worker
            found = pool.map(lambda node: _check_node(node, order, name), alive)
            checks = [check for of_node in found for check in of_node]
    finally:
        storage.remove(name)
    return [*checks, _check_slots(alive, order)]


def installed_versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that must agree between nodes; None where one is missing."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def write_problem(storage: str) -> str:
    """Return why a path or URI cannot be written; nothing when it can. A folder that is yet to be made is not made."""
    name = f".check-{uuid.uuid4().hex}"
    try:
        place = Storage(storage)
        if place.folder is not None:
            resolved = place.folder.resolve()
            nearest = next(folder for folder in (resolved, *resolved.parents) if folder.exists())
            with tempfile.NamedTemporaryFile(dir=nearest):
                return ""
        with tempfile.NamedTemporaryFile() as marker:
            place.upload(Path(marker.name), name)
        place.remove(name)
    except (OSError, GRU4RecError) as error:
        return f"{storage} cannot be written: {getattr(error, 'strerror', None) or error}"
    return ""


def _look(storage_path: str, marker: str) -> dict[str, Any]:
    """Return what is to be known of a node; runs there."""
    try:
        problem = "" if Storage(storage_path).exists(marker) else "is another place there than on the head"
    except GRU4RecError as error:
        problem = str(error)
    return {
        "versions": installed_versions(),
        "storage": problem or write_problem(storage_path),
        "time": time.time(),
    }


def _check_node(node: dict[str, Any], order: dict[str, Any], marker: str) -> list[Check]:
    name = f"node {node.get('NodeName') or node['NodeManagerAddress']}"
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    ask = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(_look)
    began = time.time()
    try:
        found = ray.get(ask.remote(order["storage_path"], marker), timeout=SECONDS_TO_ANSWER)
    except ray.exceptions.RayError as error:
        return [Check(name, False, f"runs no task: {str(error).splitlines()[0]}", "look at its logs, or take it out")]
    differing = [
        f"{package} {found['versions'][package]} there, {here} on the head"
        for package, here in installed_versions().items()
        if found["versions"][package] != here
    ]
    apart = max(0.0, began - found["time"], found["time"] - time.time())
    resources = node["Resources"]
    size = f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    store, needed = resources.get("object_store_memory", 0.0), BYTES_PER_LOG_BYTE * order["log_bytes"]
    return [
        Check(
            f"{name}: versions",
            not differing,
            f"{size}; {', '.join(differing) or 'versions agree'}",
            "install the same versions on all nodes, or set environment.install = true",
        ),
        Check(
            f"{name}: storage",
            not found["storage"],
            found["storage"] or f"{order['storage_path']} can be written",
            "choose a storage_path that every node has: a shared folder, or a URI such as s3://bucket/runs",
        ),
        Check(f"{name}: clock", apart <= SECONDS_APART, f"{apart:.1f} s from the head's", "run ntpd or chrony there"),
        Check(
            f"{name}: object store",
            needed <= STORE_SHARE * store,
            f"{store / 1e9:.2f} GB, the logs take up to {needed / 1e9:.2f} GB",
            "give nodes more memory, or start Ray with a larger --object-store-memory",
        ),
    ]


def _check_slots(alive: list[dict[str, Any]], order: dict[str, Any]) -> Check:
    cpus, gpus = order["cpus_per_trial"], order["gpus_per_trial"]
    found = [(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in alive]
    slots = sum(trials_that_fit(*node, cpus, gpus) for node in found)
    detail = f"{slots} trials of {cpus} CPUs and {gpus:g} GPUs at a time"
    return Check(
        "room for trials",
        slots > 0 or order["elastic"],
        f"{detail}, more nodes can come" if order["elastic"] else detail,
        "lower search.cpus_per_trial or search.gpus_per_trial, or add nodes",
    )
