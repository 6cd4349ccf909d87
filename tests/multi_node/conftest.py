"""What the searches on several nodes share: hosts, logs, a search, its records, and patience.

A host has its network, address, processes and memory in Linux namespaces. Without root, or where namespaces are not
permitted, hosts are loopback addresses of this machine. Beside them runs an S3 server that checks signatures.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyarrow import fs

from cluster.ray_jobs import RayJobs
from cluster.token import make_token, read_token
from gru4rec.data.reading import read_log
from gru4rec.data.splitting import split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.data.writing import write_log
from gru4rec.errors import GRU4RecError

SEARCH = """
[data]
train = "train.parquet"
validation = "validation.parquet"
[search]
trials = {trials}
max_epochs = {max_epochs}
[stopping]
grace_period = {max_epochs}
max_iter_no_change = {max_epochs}
[fixed]
loss_fn = "cross-entropy"
num_negatives = 64
batch_size = {batch_size}
[space.learning_rate]
type = "float"
low = 0.01
high = 0.1
"""
SECONDS_TO_WAIT = 300
HEAD = 0
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


@pytest.fixture(scope="session")
def write_search() -> Callable[..., Path]:
    """Write a search.toml, and its logs where they are missing: every trial trains for all of its epochs."""

    def write(path: Path, trials: int, max_epochs: int, batch_size: int) -> Path:
        if not (path.parent / "train.parquet").exists():
            train, validation = split_time_share(read_log(generate_log(4_000, 200, seed=3)), 0.1)
            write_log(train.to_frame(), path.parent / "train.parquet")
            write_log(validation.to_frame(), path.parent / "validation.parquet")
        path.write_text(SEARCH.format(trials=trials, max_epochs=max_epochs, batch_size=batch_size))
        return path

    return write


@pytest.fixture(scope="session")
def read_epochs() -> Callable[[Path], list[dict[str, Any]]]:
    """Return the records of all epochs in a result folder so far."""

    def read(folder: Path) -> list[dict[str, Any]]:
        path = folder / "epochs.ndjson"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    return read


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait until something is true; a cluster that does not answer yet is asked again.

    `say` is what to show when it does not come true.
    """

    def wait(what: Callable[[], object], say: Callable[[], str] = str, seconds: float = SECONDS_TO_WAIT) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            try:
                if what():
                    return
            except GRU4RecError:
                pass
            time.sleep(0.3)
        raise AssertionError(f"waited in vain; {say()[-3000:]}")

    return wait


class Hosts:
    """Hosts of Ray, number 0 the head; here they are loopback addresses."""

    net, outside = "127.0.0", "127.0.0.9"

    def __init__(self, folder: Path, until: Callable[..., None]) -> None:
        self._until = until
        self.token = make_token(folder / "secret" / "token")
        self.url = f"http://{self.address(HEAD)}:8265"
        self._folder = folder
        self._ray = Path(tempfile.mkdtemp(prefix="g4r-"))  # short, for the sockets in it
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._s3: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **S3_KEYS,
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
        }

    def address(self, number: int) -> str:
        return f"{self.net}.{10 + number}"

    def alive(self) -> dict[str, str]:
        """Return the nodes that are there: ids by name."""
        nodes = RayJobs(self.url, read_token(self.token)).nodes()
        return {node["node"]: node["id"] for node in nodes if node["state"] == "alive"}

    def fill(self, *numbers: int) -> None:
        """Start those of the hosts that are not there, and wait until they are; no other stays."""
        for number in {*self._running} - {*numbers}:
            self.lose(number)
        for number in sorted({*numbers} - {*self._running}):
            self.add(number)
            if number == HEAD:
                self._until(lambda: answers(self.address(HEAD), RAY_PORT))
        if numbers:
            self._until(lambda: set(self.alive()) == {f"host-{number}" for number in numbers})

    def add(self, number: int, **variables: str) -> None:
        """Start a host, with these variables in its environment; it does not wait until it is there."""
        role = [f"--address={self.address(HEAD)}:{RAY_PORT}"]
        if number == HEAD:
            role = ["--head", f"--port={RAY_PORT}", f"--dashboard-host={self.address(HEAD)}"]
        start = [str(PROGRAMS / "ray"), "start", "--block", *role, f"--node-ip-address={self.address(number)}"]
        start += [f"--node-name=host-{number}", f"--temp-dir={self._ray}/{number}", "--num-cpus=1"]
        start += ["--object-store-memory=100000000", "--disable-usage-stats"]
        with (self._folder / f"host-{number}.log").open("wb") as log:
            self._running[number] = subprocess.Popen(
                self._command(number, start),
                env=self.environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def lose(self, number: int) -> None:
        """Kill all that runs on a host; its connections are closed, unless its link is down."""
        process = self._running.pop(number)
        children = psutil.Process(process.pid).children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()
        psutil.wait_procs(children, timeout=10)

    def processes(self, number: int) -> list[psutil.Process]:
        """Return what runs on a host, beside what keeps its namespaces."""
        found = psutil.Process(self._running[number].pid).children(recursive=True)
        return [process for process in found if _runs(process)]

    def add_s3(self) -> None:
        """Start an S3 server beside the hosts, or start it again."""
        data = self._folder / "s3"
        data.mkdir(exist_ok=True)
        options = [f"-dir={data}", f"-ip={self.outside}", "-s3", f"-s3.port={S3_PORT}", "-s3.port.iceberg=0"]
        options += ["-s3.port.lance=0", "-s3.iam=false", "-master.telemetry=false", "-volume.max=20"]
        options += [f"-{part}.localSocket={data}/{part}.sock" for part in ("s3", "filer")]
        with (self._folder / "s3.log").open("ab") as log:
            self._s3 = subprocess.Popen([PROGRAMS / "weed", "server", *options], stdout=log, stderr=log)

    def signal_s3(self, number: int) -> None:
        assert self._s3 is not None
        self._s3.send_signal(number)

    def lose_s3(self) -> None:
        """Have the S3 server die; its data stays."""
        if self._s3 is not None:
            self._s3.kill()
            self._s3.wait()
            self._s3 = None
            for name in S3_SOCKETS:
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)

    def close(self) -> None:
        for number in list(self._running):
            self.lose(number)
        self.lose_s3()
        shutil.rmtree(self._ray)

    def _command(self, number: int, start: list[str]) -> list[str]:
        return start


class HostsInNamespaces(Hosts):
    """Hosts on a bridge of this machine."""

    net, outside = "10.77.0", "10.77.0.1"

    def __init__(self, folder: Path, until: Callable[..., None]) -> None:
        super().__init__(folder, until)
        self.own = folder / "own"  # a folder that each host has for itself
        self.own.mkdir()
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

    def link(self, number: int, state: str) -> None:
        """Have the link of a host go down, or come up."""
        ip("link", "set", f"g4rv{number}", state)

    def run(self, number: int, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, to its end."""
        return subprocess.run(
            self.inside(number, *command),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def inside(self, number: int, *command: str) -> list[str]:
        """Return the command line of one that runs a command on a host, as its only child."""
        (first,) = psutil.Process(self._running[number].pid).children()
        return ["nsenter", f"--target={first.pid}", "--mount", "--pid", "--net", *command]

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
        mounts = " && ".join(f"mount -t tmpfs tmpfs {folder}" for folder in ("/dev/shm", self._ray, self.own))
        stays = "; exec sleep infinity"  # as a host does when its Ray has ended
        return ["ip", "netns", "exec", space, *ALONE, "sh", "-c", f"{mounts} && {' '.join(start)}{stays}"]


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)


def answers(address: str, port: int) -> bool:
    with suppress(OSError):
        socket.create_connection((address, port), 1).close()
        return True
    return False


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE and process.name() not in ("unshare", "sh", "sleep")
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def hosts(folder: Path, until: Callable[..., None]) -> Iterator[Hosts]:
    """Hosts, none of them there yet, and an S3 server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRU4REC_STATE", str(folder / "state"))
        for name, value in S3_KEYS.items():
            patch.setenv(name, value)
        made = HostsInNamespaces(folder, until) if HostsInNamespaces.possible() else Hosts(folder, until)
        try:
            made.add_s3()
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def bucket(hosts: Hosts, until: Callable[..., None]) -> str:
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


@pytest.fixture(scope="module")
def write_cluster(folder: Path, hosts: Hosts) -> Callable[[str, str], Path]:
    """Write the cluster.toml of the hosts under a name, with a storage."""

    def write(name: str, storage: str) -> Path:
        path = folder / f"{name}.toml"
        path.write_text(CLUSTER.format(storage=storage, url=hosts.url))
        return path

    return write
