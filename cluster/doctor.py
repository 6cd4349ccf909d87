"""Checks of a cluster from outside: does it answer, does it ask for a token, what do its nodes find of themselves?"""

from __future__ import annotations

import importlib.metadata
import secrets
import tempfile
from pathlib import Path

from cluster.backends import make_backend
from cluster.checks import Check, check_this_machine
from cluster.events import CHECKS, PROBLEM, parse_event
from cluster.jobs import Jobs
from cluster.package import PROBE, make_folder, make_submission, write_order
from cluster.ray_jobs import RayJobs
from cluster.spec import ClusterSpec
from gru4rec.errors import ClusterError
from tuning.space import Space
from tuning.spec import SearchSpec


def examine(cluster: ClusterSpec, search: SearchSpec | None = None) -> list[Check]:
    """Check this machine, the way to the cluster, and each of its nodes.

    Parameters
    ----------
    cluster : ClusterSpec
    search : SearchSpec, optional
        Says what a trial needs and how large the logs are.

    Raises
    ------
    ClusterError
        When the cluster cannot be reached.
    """
    checks = check_this_machine(cluster.storage_path)
    with make_backend(cluster).jobs() as jobs:
        if not isinstance(jobs, RayJobs):
            return checks  # Slurm: nothing stands before the search is submitted; its driver checks the nodes first
        with tempfile.TemporaryDirectory(prefix="gru4rec-") as folder:
            make_folder(Path(folder))
            return checks + examine_ray(jobs, cluster, search or SearchSpec(Space(())), Path(folder))


def examine_ray(jobs: RayJobs, cluster: ClusterSpec, search: SearchSpec, folder: Path) -> list[Check]:
    """Check a cluster with a job API; `folder` is a working folder that holds our packages."""
    there, here = jobs.ray_version, importlib.metadata.version("ray")
    checks = [
        Check("Ray", there == here, f"{there} there, {here} here", f"pip install 'ray[default]=={there}'"),
        Check(
            "authentication",
            jobs.authenticated,
            "a token is asked for" if jobs.authenticated else "anybody who reaches the dashboard can run code",
            "start Ray with RAY_AUTH_MODE=token, see docs/security.md",
        ),
    ]
    if not checks[0].passed:
        return checks
    probe = f"check-{secrets.token_hex(6)}"
    write_order(folder, cluster, search, probe)
    jobs.submit(make_submission(folder, cluster, probe, PROBE))
    return checks + _found(jobs, probe)


def _found(jobs: Jobs, probe: str) -> list[Check]:
    lines = list(jobs.follow(probe))
    for event in map(parse_event, lines):
        if event is not None and event[0] == CHECKS:
            return [Check(**row) for row in event[1]]
        if event is not None and event[0] == PROBLEM:
            return [Check("nodes", False, event[1])]
    raise ClusterError("the cluster could not run our checks: " + "\n  ".join(lines[-10:]))
