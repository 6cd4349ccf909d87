"""Searches on a head and three workers that are hosts of their own, submitted from outside through the job API.

Checkpoints and models go to a shared folder, and to an S3 server. And a model that all hosts serve.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
from pyarrow import fs

from cluster.checks import Check
from cluster.job import submit
from cluster.jobs import STOPPED, SUCCEEDED
from cluster.ray_jobs import RayJobs
from gru4rec.errors import ClusterError, SearchError
from gru4rec.model_folder import load_model, save_model
from tuning.storage import Storage

HEAD, WORKERS, JOINING = 0, (1, 2, 3), 4
SERVE = Path(sys.executable).with_name("gru4rec"), "serve"


@pytest.fixture(scope="module", autouse=True)
def filled(hosts):
    """The head and the workers are there; a lost one is missed in a third of the usual time."""
    hosts.environment["RAY_health_check_period_ms"] = "1000"
    hosts.fill(HEAD, *WORKERS)


def test_a_token_is_asked_for(hosts):
    with pytest.raises(ClusterError, match=r"needs a token \(HTTP 401\)"):
        RayJobs(hosts.url, None).nodes()
    with pytest.raises(ClusterError, match=r"refuses the token \(HTTP 403\)"):
        RayJobs(hosts.url, "0" * 64).nodes()


def test_a_host_is_lost_and_one_joins(hosts, folder, tmp_path, until, write_cluster, write_search, read_epochs):
    """As many trials as hosts, without an end: the trial of the lost host goes on at the one that joins."""
    cluster = write_cluster("shared", "runs")
    search = write_search(folder / "endless.toml", trials=4, max_epochs=10_000, batch_size=64)
    first = hosts.alive()
    assert set(first) == {"host-0", "host-1", "host-2", "host-3"}
    job = submit(cluster, search, "hosts-1")
    runs = folder / "runs/hosts-1"
    until(lambda: {line["node"] for line in read_epochs(runs)} == set(first.values()), job.logs)
    until(lambda: sum(line["node"] == first["host-2"] for line in read_epochs(runs)) >= 3, job.logs)
    hosts.lose(2)
    hosts.add(JOINING)

    def elsewhere() -> list[int]:
        return [line["trial"] for line in read_epochs(runs) if line["node"] not in first.values()]

    until(elsewhere, job.logs)
    job.stop()
    assert job.wait() == STOPPED, job.logs()[-3000:]
    assert {line["node"] for line in read_epochs(runs)} == set(first.values()) | {hosts.alive()["host-4"]}
    (trial,) = set(elsewhere())
    its = [line for line in read_epochs(runs) if line["trial"] == trial]
    assert {line["node"] for line in its} == {first["host-2"], hosts.alive()["host-4"]}
    epochs = [line["epoch"] for line in its]
    assert set(epochs) == set(range(1, max(epochs) + 1))
    assert len(epochs) <= max(epochs) + 1  # an epoch at most is trained again
    assert load_model(job.fetch_model(tmp_path / "model")).metrics["epoch"] > 0


def test_a_model_is_served_by_all_hosts(hosts, folder, make_model, until):
    if not hasattr(hosts, "inside"):
        pytest.skip("needs root and Linux namespaces: run as root, with the programs ip, nsenter and unshare")
    models = [save_model(make_model(range(items)), folder / f"model-{items}") for items in (5, 6)]
    (token := folder / "serve-token").write_text("a-token-of-this-test")
    numbers = [int(name.removeprefix("host-")) for name in hosts.alive()]
    command = [*map(str, SERVE), str(models[0]), "--address", f"{hosts.address(HEAD)}:6379"]
    command += ["--replicas", str(len(numbers)), "--host", "0.0.0.0", "--port", "8123", "--token-file", str(token)]

    def ask(number, path, content=None):
        url, data = f"http://{hosts.address(number)}:8123{path}", content and json.dumps(content).encode()
        request = urllib.request.Request(url, data, {"Authorization": f"Bearer {token.read_text()}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    log = folder / "serve.log"
    with log.open("wb") as said:
        server = psutil.Popen(
            hosts.inside(HEAD, *command), env=hosts.environment, stdout=said, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: "serving " in log.read_text(), log.read_text)
        answers = [ask(number, "/recommend", {"items": [1, 2], "k": 3}) for number in numbers]
        assert answers == [answers[0]] * len(numbers)
        assert len(answers[0]["items"]) == 3
        swapped = ask(numbers[-1], "/swap", {"model": str(models[1])})
        assert swapped["replicas"] == len(numbers)
        assert {ask(number, "/metadata")["model"]["num_items"] for number in numbers} == {6}
    finally:
        for child in server.children():
            child.terminate()
        code = server.wait(60)
    assert code == 143, log.read_text()
    for number in numbers:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((hosts.address(number), 8123), 10)


def test_a_search_with_its_storage_on_s3(hosts, bucket, folder, tmp_path, write_cluster, write_search, read_epochs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        with pytest.raises(SearchError, match="ACCESS_DENIED"):
            Storage(bucket).exists("hosts-2")
    cluster = write_cluster("s3", bucket)
    search = write_search(folder / "short.toml", trials=2, max_epochs=3, batch_size=64)
    search.write_text(search.read_text().replace("[search]", "[search]\nrefit = false"))  # keeps the best checkpoints
    checks: list[Check] = []
    job = submit(cluster, search, "hosts-2", on_checks=checks.extend)
    assert {f"node {name}: storage" for name in hosts.alive()} <= {check.name for check in checks}
    assert job.wait() == SUCCEEDED, job.logs()[-3000:]
    assert load_model(job.fetch_model(tmp_path / "model")).metrics["epoch"] > 0
    Storage(bucket).download("hosts-2/epochs.ndjson", tmp_path / "epochs.ndjson")
    epochs = [(line["trial"], line["epoch"]) for line in read_epochs(tmp_path)]
    assert sorted(epochs) == [(trial, epoch) for trial in range(2) for epoch in range(1, 4)]
    files, root = fs.FileSystem.from_uri(bucket)
    stored = {
        info.path.removeprefix("searches/") for info in files.get_file_info(fs.FileSelector(root, recursive=True))
    }
    assert {path.partition("/")[0] for path in stored} == {"hosts-2"}  # checks leave nothing behind
    kept = sorted(path.split("/")[2] for path in stored if path.endswith(".pt"))
    assert kept == ["trial-00000", "trial-00001"]
