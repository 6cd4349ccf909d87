"""A search on three real Ray nodes: submitted with the token, a node killed on the way, its model fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.backends import make_backend
from cluster.backends.local import MARK
from cluster.job import find_job, submit
from cluster.jobs import FAILED, STOPPED, SUCCEEDED
from cluster.paths import ClusterPaths
from cluster.ray_jobs import RayJobs
from cluster.spec import ClusterSpec, read_cluster
from gru4rec.data.reading import read_log
from gru4rec.errors import ClusterError
from gru4rec.model_folder import load_model

CLUSTER = """
name = "test"
backend = "local"
storage_path = "runs"
[head]
cpus = 1
[workers.small]
cpus = 1
min = 2
price_per_hour = 1.0
[local]
object_store_bytes = 100_000_000
[environment.variables]
OMP_NUM_THREADS = "1"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_search) -> Path:
    path = tmp_path_factory.mktemp("cluster")
    (path / "cluster.toml").write_text(CLUSTER)
    write_search(path / "search.toml", trials=6, max_epochs=4, batch_size=8)
    write_search(path / "long.toml", trials=500, max_epochs=4, batch_size=16)
    return path


@pytest.fixture(scope="module")
def running(folder) -> Iterator[ClusterSpec]:
    """The cluster, up; all that it started is gone afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRU4REC_STATE", str(folder / "state"))
        spec = read_cluster(folder / "cluster.toml")
        backend = make_backend(spec)
        backend.up(lambda text: None)
        mark = json.loads(ClusterPaths(spec.name).state.read_text())["mark"]
        try:
            yield spec
        finally:
            backend.down(lambda text: None)
        assert processes(mark) == []
        assert not ClusterPaths(spec.name).token.exists()


def processes(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def state_of(spec: ClusterSpec) -> dict[str, object]:
    return json.loads(ClusterPaths(spec.name).state.read_text())


def test_a_token_is_asked_for(running):
    url = f"http://127.0.0.1:{state_of(running)['dashboard_port']}"
    with pytest.raises(ClusterError, match=r"needs a token \(HTTP 401\)"):
        RayJobs(url, None).nodes()
    with pytest.raises(ClusterError, match=r"refuses the token \(HTTP 403\)"):
        RayJobs(url, "0" * 64).nodes()
    assert ClusterPaths(running.name).token.stat().st_mode & 0o777 == 0o600


def test_nothing_listens_beyond_this_machine(running):
    ours = {process.pid for process in processes(str(state_of(running)["mark"]))}
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.pid in ours and connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert listening


def test_the_token_is_on_no_command_line(running):
    token = ClusterPaths(running.name).token.read_text()
    for process in processes(str(state_of(running)["mark"])):
        assert token not in " ".join(process.cmdline())


def test_a_search_survives_a_node_and_its_model_is_fetched(running, folder, tmp_path, until, read_epochs):
    seen: list[str] = []
    job = submit(folder / "cluster.toml", folder / "search.toml", "test-1", on_stage=seen.append)
    until(lambda: len({line["node"] for line in read_epochs(folder / "runs" / "test-1")}) >= 2, job.logs)
    (node,) = [node for node in state_of(running)["processes"] if node["name"] == "small-1"]
    for process in [*psutil.Process(node["pid"]).children(recursive=True), psutil.Process(node["pid"])]:
        process.kill()
    again = find_job("test-1")  # as another process of this machine finds it
    assert again.wait(on_stage=seen.append) == SUCCEEDED, again.logs()[-3000:]
    assert any(text.startswith("training trial") for text in seen)
    assert again.progress().states == {"finished": 6}
    lines = read_epochs(folder / "runs" / "test-1")
    assert len({line["node"] for line in lines}) >= 2
    assert sorted((line["trial"], line["epoch"]) for line in lines) == [(t, e) for t in range(6) for e in range(1, 5)]
    model = load_model(again.fetch_model(tmp_path / "model"))
    assert model.recommend(read_log(folder / "validation.parquet"), k=5).table.shape[0] > 0
    account = again.account()
    assert account["cost"] > 0
    assert {row["trial"] for row in account["trials"]} == set(range(6))
    with pytest.raises(ClusterError, match="submission test-1 exists already"):
        submit(folder / "cluster.toml", folder / "search.toml", "test-1")


def test_a_search_whose_driver_is_killed_is_resumed(running, folder, tmp_path, until, read_epochs):
    """And then stopped: it exports its best."""
    runs = folder / "runs" / "test-2"
    job = submit(folder / "cluster.toml", folder / "long.toml", "test-2")
    until(lambda: len(read_epochs(runs)) >= 6, job.logs)
    with pytest.raises(ClusterError, match="submission test-2 has not ended"):
        submit(folder / "cluster.toml", folder / "long.toml", "test-2", resume=True)
    (driver,) = [
        process
        for process in processes(str(state_of(running)["mark"]))
        if process.name().startswith("python") and process.cmdline()[-2:] == ["-m", "cluster.driver"]
    ]
    driver.kill()
    assert job.wait() == FAILED
    content = (runs / "epochs.ndjson").read_bytes()
    before = content[: content.rfind(b"\n") + 1]
    again = submit(folder / "cluster.toml", folder / "long.toml", "test-2", resume=True)
    until(lambda: len(read_epochs(runs)) >= before.count(b"\n") + 6, again.logs)
    again.stop()
    assert again.wait() == STOPPED
    assert (runs / "epochs.ndjson").read_bytes().startswith(before)
    lines = read_epochs(runs)
    for trial in {line["trial"] for line in lines}:  # nothing is lost, and nothing is there twice
        epochs = sorted(line["epoch"] for line in lines if line["trial"] == trial)
        assert epochs == list(range(1, len(epochs) + 1))
    assert load_model(again.fetch_model(tmp_path / "model")).metrics["epoch"] > 0


def test_an_unknown_submission(running, folder):
    with pytest.raises(ClusterError, match="knows no submission 'nobody'"):
        find_job("nobody", folder / "cluster.toml").state()
    with pytest.raises(ClusterError, match="this machine knows no submission 'nobody'"):
        find_job("nobody")
