"""A search on hosts of their own: head and workers in network namespaces, each with its address, processes, memory.

Submitted from outside through the job API; one host is lost on the way, another joins. Needs root and iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.doctor import examine
from cluster.job import submit
from cluster.jobs import SUCCEEDED
from cluster.ray_jobs import RayJobs
from cluster.spec import read_cluster
from cluster.token import make_token, read_token
from gru4rec.data.reading import read_log
from gru4rec.data.splitting import split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.data.writing import write_log
from gru4rec.errors import ClusterError
from gru4rec.model_folder import load_model
from tuning.spec import read_spec

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2 for network namespaces"
)
BRIDGE, NET = "g4rbr", "10.77.0"
HEAD = f"{NET}.10"
RAY_FOLDER = Path("/tmp/g4r-ray")  # each host has its own there; short, for the sockets in it
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")  # all of it ends with it
SEARCH = """
[data]
train = "train.parquet"
validation = "validation.parquet"
[search]
trials = 20
max_epochs = 4
[stopping]
grace_period = 4
max_iter_no_change = 4
[fixed]
loss_fn = "cross-entropy"
num_negatives = 64
batch_size = 8
[space.learning_rate]
type = "float"
low = 0.01
high = 0.1
"""


class Hosts:
    """Hosts on a bridge of this machine."""

    def __init__(self, folder: Path) -> None:
        self.token = make_token(folder / "secret" / "token")
        self._folder = folder
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        RAY_FOLDER.mkdir(exist_ok=True)
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")

    def add(self, number: int) -> None:
        """Start host `number`; 0 is the head."""
        space, link, address = f"g4r{number}", f"g4rv{number}", f"{NET}.{10 + number}"
        ip("netns", "add", space)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", link, "master", BRIDGE, "up")
        ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", space, "link", "set", "eth0", "up")
        ip("-n", space, "route", "add", "default", "via", f"{NET}.1")
        role = [f"--address={HEAD}:6379"]
        if number == 0:
            role = ["--head", "--port=6379", f"--temp-dir={RAY_FOLDER}", f"--dashboard-host={HEAD}"]
        start = ["ray", "start", "--block", *role, f"--node-ip-address={address}", f"--node-name=host-{number}"]
        start += ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
        mounts = f"mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs {RAY_FOLDER} && exec "
        with (self._folder / f"host-{number}.log").open("wb") as log:
            self._running[number] = subprocess.Popen(
                ["ip", "netns", "exec", space, *ALONE, "sh", "-c", mounts + " ".join(start)],
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                    "RAY_AUTH_MODE": "token",
                    "RAY_AUTH_TOKEN_PATH": str(self.token),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def lose(self, number: int) -> None:
        """Have a host die at once, with all that runs on it."""
        process = self._running.pop(number)
        process.kill()
        process.wait()
        ip("netns", "del", f"g4r{number}")

    def close(self) -> None:
        for number in list(self._running):
            self.lose(number)
        ip("link", "del", BRIDGE)
        RAY_FOLDER.rmdir()


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)


def until(what: Callable[[], bool], seconds: float = 120.0) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            if what():
                return
        except ClusterError:
            pass
        time.sleep(0.5)
    raise AssertionError("waited in vain")


@pytest.fixture
def folder(tmp_path) -> Path:
    train, validation = split_time_share(read_log(generate_log(4_000, 200, seed=3)), 0.1)
    write_log(train.to_frame(), tmp_path / "train.parquet")
    write_log(validation.to_frame(), tmp_path / "validation.parquet")
    (tmp_path / "search.toml").write_text(SEARCH)
    (tmp_path / "cluster.toml").write_text(
        f'name = "hosts"\nbackend = "address"\nstorage_path = "runs"\n[environment.variables]\nOMP_NUM_THREADS = "1"\n'
        f'[address]\ndashboard = "http://{HEAD}:8265"\ntoken_path = "secret/token"\n'
    )
    return tmp_path


@pytest.fixture
def hosts(folder, monkeypatch) -> Iterator[Hosts]:
    monkeypatch.setenv("GRU4REC_STATE", str(folder / "state"))
    made = Hosts(folder)
    try:
        made.add(0)
        until(lambda: len(alive(made)) == 1)
        for number in (1, 2):
            made.add(number)
        until(lambda: len(alive(made)) == 3)
        yield made
    finally:
        made.close()


def alive(hosts: Hosts) -> set[str]:
    nodes = RayJobs(f"http://{HEAD}:8265", read_token(hosts.token)).nodes()
    return {node["id"] for node in nodes if node["state"] == "alive"}


def test_a_search_on_hosts_of_their_own(hosts, folder, tmp_path):
    with pytest.raises(ClusterError, match=r"needs a token \(HTTP 401\)"):
        RayJobs(f"http://{HEAD}:8265", None).nodes()
    checks = examine(read_cluster(folder / "cluster.toml"), read_spec(folder / "search.toml"))
    assert [check for check in checks if not check.passed] == []
    first = alive(hosts)
    job = submit(folder / "cluster.toml", folder / "search.toml", "hosts-1")
    epochs = folder / "runs/hosts-1/epochs.ndjson"
    until(lambda: epochs.exists() and epochs.read_text().count("\n") >= 3)
    hosts.lose(2)
    hosts.add(3)
    assert job.wait() == SUCCEEDED, job.logs()[-3000:]
    lines = [json.loads(line) for line in epochs.read_text().splitlines()]
    assert {(line["trial"], line["epoch"]) for line in lines} == {(t, e) for t in range(20) for e in range(1, 5)}
    used = {line["node"] for line in lines}
    assert len(used & first) >= 2
    assert len(used - first) == 1  # the host that joined
    assert load_model(job.fetch_model(tmp_path / "model")).metrics["epoch"] > 0
