"""A search on a cluster: handed over, watched from any machine, its best model fetched."""

from __future__ import annotations

import json
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.artifacts import fetch_folder
from cluster.backends import make_backend
from cluster.checks import Check
from cluster.doctor import examine_ray
from cluster.driver import ACCOUNT
from cluster.events import DONE, PROBLEM, PROGRESS, STAGE, parse_event, unpack_progress
from cluster.jobs import Jobs
from cluster.package import folder_bytes, make_folder, pack_search
from cluster.paths import submission_record
from cluster.ray_jobs import RayJobs
from cluster.spec import ClusterSpec, read_cluster
from gru4rec.errors import ClusterError, SpecificationError
from gru4rec.files import atomic_file
from tuning.progress import Progress
from tuning.result import BEST
from tuning.spec import SearchSpec, read_spec
from tuning.storage import Storage

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")

Say = Callable[[str], None]


def _silent(text: str) -> None:
    pass


@dataclass(frozen=True)
class Job:
    """A submission.

    Parameters
    ----------
    id : str
    cluster : ClusterSpec
    """

    id: str
    cluster: ClusterSpec

    def state(self) -> str:
        """Return one of 'queued', 'running', 'succeeded', 'failed', 'stopped'.

        Raises
        ------
        ClusterError
            When the cluster cannot be reached, or does not know it.
        """
        with self._jobs() as jobs:
            return jobs.state(self.id)

    def logs(self) -> str:
        """Return all that it printed so far."""
        with self._jobs() as jobs:
            return jobs.logs(self.id)

    def progress(self) -> Progress | None:
        """Return how far it is; None before the first trial."""
        events = [event for event in map(parse_event, self.logs().splitlines()) if event is not None]
        found = [content for kind, content in events if kind == PROGRESS]
        return unpack_progress(found[-1]) if found else None

    def stop(self) -> None:
        """Ask it to end; it exports the best model so far."""
        with self._jobs() as jobs:
            jobs.stop(self.id)

    def wait(self, on_progress: Callable[[Progress], None] | None = None, on_stage: Say = _silent) -> str:
        """Follow it until it has ended, and return its state; it goes on whether it is followed or not."""
        with self._jobs() as jobs:
            for line in jobs.follow(self.id):
                event = parse_event(line)
                if event is None:
                    continue
                kind, content = event
                if kind == PROGRESS and on_progress is not None:
                    on_progress(unpack_progress(content))
                elif kind in (STAGE, PROBLEM):
                    on_stage(content)
            return jobs.state(self.id)

    def fetch_model(self, out: str | Path) -> Path:
        """Bring the best model home, every file verified, and return its folder.

        Raises
        ------
        ClusterError
            When it has not ended with a model, or what arrives is not what was stored.
        """
        events = dict(event for line in self.logs().splitlines() if (event := parse_event(line)) is not None)
        if DONE not in events:
            reason = events.get(PROBLEM) or f"it is {self.state()}"
            raise ClusterError(f"submission {self.id} has no model: {reason}")
        storage = Storage(self.cluster.storage_path)
        return fetch_folder(storage, f"{self.id}/{BEST}", Path(out), events[DONE]["best"])

    def account(self) -> dict[str, Any]:
        """Return the cost account of a search that has ended, see `cluster.account.Account`."""
        with tempfile.TemporaryDirectory(prefix="gru4rec-") as folder:
            target = Path(folder) / ACCOUNT
            Storage(self.cluster.storage_path).download(f"{self.id}/{ACCOUNT}", target)
            content: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
            return content

    @contextmanager
    def _jobs(self) -> Iterator[Jobs]:
        with make_backend(self.cluster).jobs() as jobs:
            yield jobs


def submit(
    cluster: str | Path,
    search: str | Path | SearchSpec,
    submission_id: str | None = None,
    *,
    resume: bool = False,
    changed: bool = False,
    on_stage: Say = _silent,
    on_checks: Callable[[list[Check]], None] | None = None,
) -> Job:
    """Check a cluster, and hand a search over to it.

    Parameters
    ----------
    cluster : path
        A cluster.toml.
    search : path or SearchSpec
        A search.toml, or its content.
    submission_id : str, optional
        Letters, digits, - and _; by default made of the cluster's name and the time.
    resume : bool
        Go on with the search of that id, whose process or head was lost or which was stopped; the results stay where
        they are, also when the cluster is a new one. One that has ended makes its winner once more.
    changed : bool
        Go on although code, data or settings are not those that the search began with.
    on_stage, on_checks : callable, optional
        Told what is done, and what the checks found.

    Raises
    ------
    SpecificationError
        When one of the two says what cannot be.
    ClusterError
        When the cluster cannot be reached, fails a check, or refuses.
    """
    cluster_spec = read_cluster(cluster)
    search_spec = search if isinstance(search, SearchSpec) else read_spec(search)
    if search_spec.data is None:
        raise SpecificationError("search.toml has no [data]: name train and validation logs")
    if changed and not resume:
        raise SpecificationError("changed is for a search that goes on: resume it")
    if resume and submission_id is None:
        raise SpecificationError("to go on with a search its id is needed")
    submission_id = submission_id or f"{cluster_spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    if not ID.fullmatch(submission_id):
        raise SpecificationError(f"a submission's id is of letters, digits, - and _, 63 at most, got {submission_id!r}")
    record = submission_record(submission_id)
    if record.exists() and not resume:
        raise ClusterError(f"submission {submission_id} exists already", "choose another id, or resume it")
    with make_backend(cluster_spec).jobs() as jobs, tempfile.TemporaryDirectory(prefix="gru4rec-") as temporary:
        if resume:
            jobs.check_ended(submission_id)  # now, and not after the checks
        folder = Path(temporary)
        make_folder(folder)
        if isinstance(jobs, RayJobs):
            on_stage("checking the cluster")
            _refuse_failed(examine_ray(jobs, cluster_spec, search_spec, folder), on_checks)
        submission = pack_search(folder, cluster_spec, search_spec, submission_id, on_stage, changed)
        if resume:
            jobs.forget(submission_id)
        on_stage(f"submitting {submission_id}: {folder_bytes(folder) / 1e6:.1f} MB of code and data")
        jobs.submit(submission)
    with atomic_file(record) as file:
        file.write_text(json.dumps({"id": submission_id, "cluster": str(Path(cluster).resolve())}, indent=2) + "\n")
    return Job(submission_id, cluster_spec)


def find_job(submission_id: str, cluster: str | Path | None = None) -> Job:
    """Return a submission by its id; `cluster` is the cluster.toml for one that another machine made.

    Raises
    ------
    ClusterError
        When this machine knows nothing of it and no cluster is named.
    """
    if cluster is None:
        try:
            content = json.loads(submission_record(submission_id).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ClusterError(
                f"this machine knows no submission {submission_id!r}", "name its cluster.toml with --cluster"
            ) from None
        cluster = content["cluster"]
    return Job(submission_id, read_cluster(str(cluster)))


def _refuse_failed(checks: list[Check], on_checks: Callable[[list[Check]], None] | None) -> None:
    if on_checks is not None:
        on_checks(checks)
    failed = [check for check in checks if not check.passed]
    if failed:
        first = failed[0]
        raise ClusterError(f"{len(failed)} checks failed, the first: {first.name}: {first.detail}", first.remedy)
