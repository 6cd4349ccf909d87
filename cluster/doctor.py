"""Is this machine, or a running Ray cluster, fit for a search? Asked before a launch, not found out after it."""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuning.ray_runtime import connect

PACKAGES = ("gru4rec-tune", "ray", "optuna", "torch", "numpy", "pandas", "pyarrow")
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_MEMORY_BYTES = 1 << 30
SECONDS_TO_ANSWER = 60


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
    passed : bool
    detail : str
        What was found.
    """

    name: str
    passed: bool
    detail: str


def check_this_machine(storage: Path) -> list[Check]:
    """Check versions, shared memory and whether `storage`, the folder for results, can be written."""
    checks = [Check(name, found is not None, found or "not installed") for name, found in installed_versions().items()]
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        checks.append(Check("shared memory", free >= LEAST_SHARED_MEMORY_BYTES, f"{free / 1e9:.1f} GB free"))
    checks.append(_check_storage(storage))
    return checks


def check_cluster(address: str) -> list[Check]:
    """Compare each node of the cluster at `address` with this machine: versions and resources.

    Raises
    ------
    ClusterError
        When the cluster cannot be reached.
    """
    connect(address)
    try:
        return [_check_node(node) for node in ray.nodes()]
    finally:
        ray.shutdown()


def installed_versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that must agree between nodes; None where one is missing."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def _check_node(node: dict[str, Any]) -> Check:
    name = f"node {node['NodeManagerAddress']}"
    if not node["Alive"]:
        return Check(name, False, "dead")
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    ask = ray.remote(num_cpus=0, scheduling_strategy=strategy)(installed_versions)
    try:
        there = ray.get(ask.remote(), timeout=SECONDS_TO_ANSWER)
    except ray.exceptions.RayError as error:
        return Check(name, False, f"runs no task: {str(error).splitlines()[0]}")
    differing = [
        f"{package} {there[package]} there, {here} here"
        for package, here in installed_versions().items()
        if there[package] != here
    ]
    resources = node["Resources"]
    size = f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    return Check(name, not differing, f"{size}; {', '.join(differing) or 'versions agree'}")


def _check_storage(storage: Path) -> Check:
    nearest = next(folder for folder in (storage.resolve(), *storage.resolve().parents) if folder.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=nearest):
            free = shutil.disk_usage(nearest).free
    except OSError as error:
        return Check("storage", False, f"{nearest} cannot be written: {error.strerror}")
    return Check("storage", True, f"{nearest} can be written, {free / 1e9:.1f} GB free")
