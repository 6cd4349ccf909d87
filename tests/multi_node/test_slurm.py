"""Submissions on a real Slurm of two virtual nodes: a real Ray across them; a search, and programs that stand for one.

Slurm is a system package and its nodes need namespaces: skipped where it is not installed, or we are not root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cluster.backends import make_backend
from cluster.backends.slurm import SlurmSettings
from cluster.backends.slurm_script import SubmissionFolder
from cluster.job import submit
from cluster.jobs import FAILED, QUEUED, RUNNING, STOPPED, SUCCEEDED, Jobs, Submission
from cluster.spec import ClusterSpec, NodeGroup
from gru4rec.errors import ClusterError
from gru4rec.model_folder import load_model

PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged", "unshare", "nsenter", "setpriv", "ip")
MISSING = [program for program in PROGRAMS if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING) or os.geteuid() != 0,
    reason=f"needs Slurm and root (apt-get install slurmctld slurmd slurm-client munge); missing: {MISSING or 'root'}",
)
SECONDS_TO_START = 60
MINI_SLURM = Path(__file__).with_name("mini_slurm.sh")
PROGRAM = """\
import os, sys, time
import ray
from cluster.place import node

ray.init("auto")
print("nodes", *sorted(set(ray.get([node.remote() for _ in range(4)]))), os.environ["GREETING"], flush=True)
try:
    time.sleep(float(sys.argv[1]))
except KeyboardInterrupt:
    time.sleep(1)
    print("exported", flush=True)
    sys.exit(130)
sys.exit(int(sys.argv[2]))
"""
PLACE = """\
import time
import ray

@ray.remote(num_cpus=1)
def node():
    time.sleep(1)
    return ray.util.get_node_ip_address()
"""


CLUSTER = """
name = "mini"
backend = "slurm"
storage_path = "{storage}"
[head]
memory_gib = 2
[workers.nodes]
min = 1
memory_gib = 2
[environment.variables]
OMP_NUM_THREADS = "1"
[slurm]
setup = ["export PATH={programs}:$PATH"]
time_limit = "00:10:00"
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory, until: Callable[..., None]) -> Iterator[Path]:
    """Start the virtual nodes, and put their commands on PATH; of no job anything runs on in the end."""
    folder = tmp_path_factory.mktemp("slurm")
    kept = (folder, sys.prefix, tmp_path_factory.getbasetemp())
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    command = ["bash", str(MINI_SLURM), str(folder / "mini"), "2", *map(str, kept)]
    mini = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": path}
    )
    assert mini.stdin is not None and mini.stdout is not None
    try:
        assert mini.stdout.readline() == "ready\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{folder / 'mini' / 'bin'}:{path}")
            yield folder
        until(lambda: not rays_of(mini.pid), lambda: "\n".join(rays_of(mini.pid)))
    finally:
        mini.stdin.close()
        mini.wait(SECONDS_TO_START)
        mini.stdout.close()


def rays_of(pid: int) -> list[str]:
    """Return the command lines of Ray's processes below a process."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return [line for line in found if "/tmp/gru4rec-" in line or line.startswith("ray::")]


@pytest.fixture
def make_jobs(slurm: Path) -> Callable[..., Jobs]:
    """Return the jobs of a cluster of two nodes, whose `ray` may be another."""

    def make(ray_folder: str = "", **settings: object) -> Jobs:
        path = f"export PATH={ray_folder}:{sys.prefix}/bin:$PATH"
        spec = ClusterSpec(
            "mini",
            "slurm",
            str(slurm / "shared"),
            NodeGroup("head", memory_gib=2),
            (NodeGroup("nodes", memory_gib=2),),
            SlurmSettings(setup=(path,), time_limit="00:10:00", folder=slurm, **settings),  # type: ignore[arg-type]
        )
        backend = make_backend(spec)
        backend.up(lambda line: None)
        with backend.jobs() as jobs:
            return jobs

    return make


@pytest.fixture
def submission(tmp_path: Path) -> Callable[..., Submission]:
    def make(name: str, *arguments: str) -> Submission:
        (package := tmp_path / name / "cluster").mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "driver.py").write_text(PROGRAM)
        (package / "place.py").write_text(PLACE)
        return Submission(name, tmp_path / name, ("-m", "cluster.driver", *arguments), {"GREETING": "it's $HOME"})

    return make


def wait_for(jobs: Jobs, name: str, text: str) -> None:
    give_up = time.monotonic() + SECONDS_TO_START
    while text not in jobs.logs(name):
        assert time.monotonic() < give_up, jobs.logs(name)
        time.sleep(0.5)


def test_a_search_on_two_nodes(slurm, monkeypatch, tmp_path, write_search, read_epochs):
    monkeypatch.setenv("GRU4REC_STATE", str(tmp_path / "state"))
    (slurm / "cluster.toml").write_text(CLUSTER.format(storage=slurm / "shared", programs=Path(sys.prefix) / "bin"))
    search = write_search(slurm / "search.toml", trials=4, max_epochs=4, batch_size=8)
    job = submit(slurm / "cluster.toml", search, "search-1")
    assert job.wait() == SUCCEEDED, job.logs()[-3000:]
    epochs = read_epochs(slurm / "shared" / "search-1")
    assert {(line["trial"], line["epoch"]) for line in epochs} == {(t, e) for t in range(4) for e in range(1, 5)}
    assert len({line["node"] for line in epochs}) == 2
    assert load_model(job.fetch_model(tmp_path / "model")).metrics["epoch"] > 0


def test_a_program_on_two_nodes(slurm, make_jobs, submission):
    jobs = make_jobs()
    jobs.submit(submission("good", "0", "0"))
    files = SubmissionFolder(str(slurm / "shared"), "good")
    assert files.token.stat().st_mode & 0o777 == 0o600
    token = files.token.read_text()
    lines = list(jobs.follow("good"))
    assert "nodes 10.78.0.11 10.78.0.12 it's $HOME" in lines
    assert jobs.state("good") == SUCCEEDED
    assert not files.token.exists()
    texts = [path.read_text() for path in (files.script, files.search_script, files.log, files.ray_log)]
    assert not any(token in text for text in texts)
    with pytest.raises(ClusterError, match="submission 'good' was there before, in "):
        jobs.submit(Submission("good", files.work, ()))


def test_the_exit_status_of_a_search_that_failed(slurm, make_jobs, submission):
    jobs = make_jobs()
    jobs.submit(submission("bad", "0", "7"))
    list(jobs.follow("bad"))
    assert jobs.state("bad") == FAILED
    assert SubmissionFolder(str(slurm / "shared"), "bad").exit_status.read_text() == "7\n"


def test_a_stop_lets_the_search_export_and_takes_others_out_of_the_queue(slurm, make_jobs, submission):
    jobs = make_jobs()
    jobs.submit(submission("first", "300", "0"))
    wait_for(jobs, "first", "nodes 10.78.0.11 10.78.0.12")
    jobs.submit(submission("second", "300", "0"))
    assert (jobs.state("first"), jobs.state("second")) == (RUNNING, QUEUED)
    jobs.stop("second")
    assert jobs.state("second") == STOPPED
    jobs.stop("first")
    assert "exported" in list(jobs.follow("first"))
    assert jobs.state("first") == STOPPED


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_ray_that_does_not_start_on_a_node_is_a_failure(slurm, make_jobs, submission, node):
    (folder := slurm / f"broken-{node}").mkdir()
    broken = folder / "ray"
    broken.write_text(
        f'#!/bin/bash\n[[ $1 != start || $(hostname) != {node} ]] || {{ echo "no luck" >&2; exit 1; }}\n'
        f'exec {sys.prefix}/bin/ray "$@"\n'
    )
    broken.chmod(0o755)
    jobs = make_jobs(str(folder))
    jobs.submit(submission(f"broken-{node}", "0", "0"))
    log = "\n".join(jobs.follow(f"broken-{node}"))
    assert "no luck" in log
    assert "gru4rec: the search did not run to its end: Ray did not start" in log
    assert jobs.state(f"broken-{node}") == FAILED


def test_a_job_that_slurm_would_not_take(make_jobs):
    with pytest.raises(ClusterError, match="Invalid feature specification; hint: see `sinfo`"):
        make_jobs(constraint="no-such-feature")
