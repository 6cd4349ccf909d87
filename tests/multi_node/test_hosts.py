"""Searches on a head and three workers that are hosts of their own, submitted from outside through the job API.

A host has its network, address, processes and memory in Linux namespaces. Without root, or where namespaces are not
permitted, hosts are loopback addresses of this machine. Checkpoints and models go to a shared folder, and to an S3
server that checks signatures.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pyarrow import fs

from cluster.checks import Check
from cluster.job import submit
from cluster.jobs import STOPPED, SUCCEEDED
from cluster.ray_jobs import RayJobs
from cluster.token import make_token, read_token
from gru4rec.errors import ClusterError, SearchError
from gru4rec.model_folder import load_model
from tuning.storage import Storage

HEAD, WORKERS, JOINING = 0, (1, 2, 3), 4
BRIDGE = "g4rbr"
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")  # all of it ends with it
PROGRAMS = Path(sys.executable).parent
RAY_PORT, S3_PORT = 6379, 8333
S3_SOCKETS = ("master-grpc-19333", "volume-grpc-18080", "filer-grpc-18888", "s3-grpc-18333")  # in /tmp, always
S3_KEYS = {"AWS_ACCESS_KEY_ID": "searcher", "AWS_SECRET_ACCESS_KEY": "of-this-test"}
CLUSTER = """
name = "hosts"
backend = "address"
storage_path = "{storage}"
[environment.variables]
OMP_NUM_THREADS = "1"
AWS_EC2_METADATA_DISABLED = "true"
[address]
dashboard = "{url}"
token_path = "secret/token"
"""


class Hosts:
    """Hosts of Ray, number 0 the head; here they are loopback addresses."""

    net, outside = "127.0.0", "127.0.0.9"

    def __init__(self, folder: Path) -> None:
        self.token = make_token(folder / "secret" / "token")
        self.url = f"http://{self.address(HEAD)}:8265"
        self._folder = folder
        self._ray = Path(tempfile.mkdtemp(prefix="g4r-"))  # short, for the sockets in it
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._s3: subprocess.Popen[bytes] | None = None

    def address(self, number: int) -> str:
        return f"{self.net}.{10 + number}"

    def alive(self) -> dict[str, str]:
        """Return the nodes that are there: ids by name."""
        nodes = RayJobs(self.url, read_token(self.token)).nodes()
        return {node["node"]: node["id"] for node in nodes if node["state"] == "alive"}

    def add(self, number: int) -> None:
        """Start a host; it does not wait until it is there."""
        role = [f"--address={self.address(HEAD)}:{RAY_PORT}"]
        if number == HEAD:
            role = ["--head", f"--port={RAY_PORT}", f"--dashboard-host={self.address(HEAD)}"]
        start = [str(PROGRAMS / "ray"), "start", "--block", *role, f"--node-ip-address={self.address(number)}"]
        start += [f"--node-name=host-{number}", f"--temp-dir={self._ray}/{number}", "--num-cpus=1"]
        start += ["--object-store-memory=100000000", "--disable-usage-stats"]
        with (self._folder / f"host-{number}.log").open("wb") as log:
            self._running[number] = subprocess.Popen(
                self._command(number, start),
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
                    **S3_KEYS,
                    "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
                    "RAY_AUTH_MODE": "token",
                    "RAY_AUTH_TOKEN_PATH": str(self.token),
                    "RAY_health_check_period_ms": "1000",  # a lost host is missed in a third of the usual time
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def lose(self, number: int) -> None:
        """Have a host die at once, with all that runs on it."""
        process = self._running.pop(number)
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()

    def add_s3(self) -> None:
        """Start an S3 server beside the hosts."""
        data = self._folder / "s3"
        data.mkdir()
        options = [f"-dir={data}", f"-ip={self.outside}", "-s3", f"-s3.port={S3_PORT}", "-s3.port.iceberg=0"]
        options += ["-s3.port.lance=0", "-s3.iam=false", "-master.telemetry=false", "-volume.max=20"]
        options += [f"-{part}.localSocket={data}/{part}.sock" for part in ("s3", "filer")]
        with (self._folder / "s3.log").open("wb") as log:
            self._s3 = subprocess.Popen([PROGRAMS / "weed", "server", *options], stdout=log, stderr=log)

    def close(self) -> None:
        for number in list(self._running):
            self.lose(number)
        if self._s3 is not None:
            self._s3.kill()
            self._s3.wait()
            for name in S3_SOCKETS:
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)
        shutil.rmtree(self._ray)

    def _command(self, number: int, start: list[str]) -> list[str]:
        return start


class HostsInNamespaces(Hosts):
    """Hosts on a bridge of this machine."""

    net, outside = "10.77.0", "10.77.0.1"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._spaces: set[int] = set()
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{self.outside}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")

    @staticmethod
    def possible() -> bool:
        """Whether this machine has what they need, and permits it."""
        if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
            return False
        return subprocess.run([*ALONE, "--net", "true"], capture_output=True, check=False).returncode == 0

    def lose(self, number: int) -> None:
        super().lose(number)
        self._remove(number)

    def close(self) -> None:
        super().close()
        for number in list(self._spaces):
            self._remove(number)
        ip("link", "del", BRIDGE)

    def _remove(self, number: int) -> None:
        """Remove the network of a host; its link by name, as it would outlast the name space for a while."""
        self._spaces.remove(number)
        subprocess.run(["ip", "link", "del", f"g4rv{number}"], capture_output=True, check=False)
        ip("netns", "del", f"g4r{number}")

    def _command(self, number: int, start: list[str]) -> list[str]:
        space, link = f"g4r{number}", f"g4rv{number}"
        ip("netns", "add", space)
        self._spaces.add(number)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", link, "master", BRIDGE, "up")
        ip("-n", space, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", space, "link", "set", "eth0", "up")
        ip("-n", space, "route", "add", "default", "via", self.outside)
        mounts = f"mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs {self._ray} && exec "
        return ["ip", "netns", "exec", space, *ALONE, "sh", "-c", mounts + " ".join(start)]


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def hosts(folder, until) -> Iterator[Hosts]:
    """A head and three workers, all there, and an S3 server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRU4REC_STATE", str(folder / "state"))
        for name, value in S3_KEYS.items():
            patch.setenv(name, value)
        made = HostsInNamespaces(folder) if HostsInNamespaces.possible() else Hosts(folder)
        try:
            made.add(HEAD)
            until(lambda: answers(made.address(HEAD), RAY_PORT))
            for number in WORKERS:
                made.add(number)
            made.add_s3()
            until(lambda: len(made.alive()) == 1 + len(WORKERS))
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def bucket(hosts, until) -> str:
    """The URI of an empty bucket."""
    address = {"endpoint_override": f"{hosts.outside}:{S3_PORT}", "scheme": "http", "region": "us-east-1"}
    files = fs.S3FileSystem(**address, allow_bucket_creation=True)

    def made() -> bool:
        with suppress(OSError):  # it is not up yet
            files.create_dir("searches")
            return True
        return False

    until(made)
    return "s3://searches?" + "&".join(f"{name}={value}" for name, value in address.items())


def answers(address: str, port: int) -> bool:
    with suppress(OSError):
        socket.create_connection((address, port), 1).close()
        return True
    return False


def write_cluster(folder: Path, hosts: Hosts, name: str, storage: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(CLUSTER.format(storage=storage, url=hosts.url))
    return path


def test_a_token_is_asked_for(hosts):
    with pytest.raises(ClusterError, match=r"needs a token \(HTTP 401\)"):
        RayJobs(hosts.url, None).nodes()
    with pytest.raises(ClusterError, match=r"refuses the token \(HTTP 403\)"):
        RayJobs(hosts.url, "0" * 64).nodes()


def test_a_host_is_lost_and_one_joins(hosts, folder, tmp_path, until, write_search, read_epochs):
    """As many trials as hosts, without an end: the trial of the lost host goes on at the one that joins."""
    cluster = write_cluster(folder, hosts, "shared", "runs")
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


def test_a_search_with_its_storage_on_s3(hosts, bucket, folder, tmp_path, write_search, read_epochs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        with pytest.raises(SearchError, match="ACCESS_DENIED"):
            Storage(bucket).exists("hosts-2")
    cluster = write_cluster(folder, hosts, "s3", bucket)
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
