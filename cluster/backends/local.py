"""Several real Ray nodes on this machine, for rehearsal: each its own processes, all on 127.0.0.1, with a token."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from cluster.backends import Say
from cluster.backends.loopback_node import LOOPBACK
from cluster.backends.ports import free_port
from cluster.backends.standing import check_not_up, check_up
from cluster.jobs import Submission
from cluster.paths import ClusterPaths
from cluster.ray_jobs import RayJobs
from cluster.spec import ClusterSpec, NodeGroup
from cluster.token import make_token, read_token
from gru4rec.errors import ClusterError
from gru4rec.files import atomic_file
from gru4rec.hyperparameters import Integer
from tuning.sections import Section

SECONDS_TO_START = 120.0
SECONDS_TO_STOP = 20.0
OBJECT_STORE_BYTES = 1 << 30  # of all nodes together, or half of the free shared memory where that is less
SHARED_MEMORY = Path("/dev/shm")
LAST_LINES = 15
_STARTED: list[subprocess.Popen[bytes]] = []  # kept, since Python complains of a child that nobody waits for
MARK = "GRU4REC_CLUSTER_MARK"  # in the environment of all that a cluster starts


@dataclasses.dataclass(frozen=True)
class LocalSettings:
    """The table [local].

    Parameters
    ----------
    object_store_bytes : int, optional
        Of each node.
    """

    object_store_bytes: int | None = None


def parse_settings(section: Section, folder: Path) -> LocalSettings:
    """Read the table [local]."""
    size = section.number("object_store_bytes", None, Integer(80_000_000, words=(None,)))
    section.reject_unknown()
    return LocalSettings(size)


def make_backend(spec: ClusterSpec) -> LocalCluster:
    """Return the backend."""
    return LocalCluster(spec)


class LocalCluster:
    """The nodes of [head] and [workers.NAME] (`min` of each) as processes of this machine."""

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec
        self._paths = ClusterPaths(spec.name)

    def render(self, submission: Submission | None = None) -> dict[str, str]:
        lines = [" ".join(node_command(group, name, _PLACEHOLDERS)) for name, group in self._nodes()]
        variables = " ".join(f"{name}={value}" for name, value in node_variables(self._paths).items())
        return {"nodes.sh": "".join(f"{variables} {line}\n" for line in lines)}

    def up(self, say: Say) -> None:
        check_not_up(self._paths)
        make_token(self._paths.token)
        self._paths.logs.mkdir(parents=True, exist_ok=True)
        nodes = self._nodes()
        places = {
            "gcs_port": str(free_port()),
            "dashboard_port": str(free_port()),
            "client_port": str(free_port()),
            "temp_dir": tempfile.mkdtemp(prefix="gru4rec-"),
            "object_store_bytes": str(
                self._spec.settings.object_store_bytes or _object_store_bytes(len(self._nodes()))
            ),
        }
        state: dict[str, Any] = {**places, "mark": secrets.token_hex(8), "processes": []}
        try:
            for name, group in nodes:
                say(f"starting node {name} ({group.cpus} CPUs)")
                ports = {"agent_port": str(free_port())}
                state["processes"].append(
                    self._start(name, node_command(group, name, {**places, **ports}), state["mark"])
                )
                self._write(state)
                self._wait_for(name, state, len(state["processes"]))
        except BaseException:
            self._write(state)
            self.down(lambda _: None)
            raise
        say(f"cluster {self._spec.name}: {len(state['processes'])} nodes, dashboard {_url(state)}")

    def down(self, say: Say) -> None:
        state = self._state()
        for node in state["processes"][::-1]:  # the head, which the others report to, ends last
            _end([process for process in [_find(node)] if process])
        _end(_processes_of(state["mark"]))
        _STARTED[:] = [process for process in _STARTED if process.poll() is None]
        shutil.rmtree(state["temp_dir"], ignore_errors=True)
        self._paths.state.unlink()
        self._paths.token.unlink(missing_ok=True)
        say(f"cluster {self._spec.name} is down")

    def status(self) -> list[dict[str, Any]]:
        with self.jobs() as jobs:
            return jobs.nodes()

    @contextmanager
    def jobs(self) -> Iterator[RayJobs]:
        state = self._state()
        yield RayJobs(_url(state), read_token(self._paths.token))

    def _nodes(self) -> list[tuple[str, NodeGroup]]:
        head = [(self._spec.head.name, self._spec.head)]
        workers = [(f"{group.name}-{number}", group) for group in self._spec.workers for number in range(group.min)]
        return head + workers

    def _start(self, name: str, command: list[str], mark: str) -> dict[str, Any]:
        with (self._paths.logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=_environment(self._paths) | {MARK: mark},
                cwd=self._paths.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C here is not meant for the cluster
            )
        _STARTED.append(process)
        return {"name": name, "pid": process.pid, "started": psutil.Process(process.pid).create_time()}

    def _wait_for(self, name: str, state: Mapping[str, Any], count: int) -> None:
        ends = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < ends:
            if _find(state["processes"][-1]) is None:
                break
            with suppress(ClusterError):
                jobs = RayJobs(_url(state), read_token(self._paths.token))
                if sum(node["state"] == "alive" for node in jobs.nodes()) >= count:
                    return
            time.sleep(0.5)
        said = (self._paths.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        raise ClusterError(f"node {name} did not start: " + "\n  ".join(said[-LAST_LINES:]))

    def _state(self) -> dict[str, Any]:
        check_up(self._paths)
        content: dict[str, Any] = json.loads(self._paths.state.read_text(encoding="utf-8"))
        return content

    def _write(self, state: Mapping[str, Any]) -> None:
        with atomic_file(self._paths.state) as temporary:
            temporary.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


_PLACEHOLDERS = {
    name: "{" + name + "}"
    for name in ("gcs_port", "dashboard_port", "client_port", "agent_port", "temp_dir", "object_store_bytes")
}


def node_command(group: NodeGroup, name: str, places: Mapping[str, str]) -> list[str]:
    """Return the command that starts a node and stays with it."""
    if group.name == "head":
        role = [
            "--head",
            f"--port={places['gcs_port']}",
            f"--temp-dir={places['temp_dir']}",
            f"--dashboard-host={LOOPBACK}",
            f"--dashboard-port={places['dashboard_port']}",
            f"--ray-client-server-port={places['client_port']}",
        ]
    else:
        role = [f"--address={LOOPBACK}:{places['gcs_port']}"]
    return [
        sys.executable,
        "-m",
        "cluster.backends.loopback_node",
        "start",
        "--block",
        *role,
        f"--node-ip-address={LOOPBACK}",
        f"--node-name={name}",
        f"--labels=ray.io/node-group={group.name}",
        f"--num-cpus={group.cpus}",
        f"--num-gpus={group.gpus}",
        f"--dashboard-agent-listen-port={places['agent_port']}",
        f"--object-store-memory={places['object_store_bytes']}",
        "--disable-usage-stats",
    ]


def node_variables(paths: ClusterPaths) -> dict[str, str]:
    """Return the environment variables of a node; the token stays in its file."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(paths.token)}


def _environment(paths: ClusterPaths) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    here = Path(sys.executable).parent  # a submission calls `python`
    packages = Path(__file__).parents[2]
    return {
        **kept,
        **node_variables(paths),
        "PATH": os.pathsep.join([str(here), kept.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join([str(packages), *filter(None, [kept.get("PYTHONPATH")])]),
    }


def _url(state: Mapping[str, Any]) -> str:
    return f"http://{LOOPBACK}:{state['dashboard_port']}"


def _object_store_bytes(nodes: int) -> int:
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 2 * OBJECT_STORE_BYTES
    return min(OBJECT_STORE_BYTES, free // 2) // nodes


def _find(node: Mapping[str, Any]) -> psutil.Process | None:
    """Return the process of a node; not a later one that has got its id."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(node["pid"])
        if process.create_time() == node["started"] and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def _processes_of(mark: str) -> list[psutil.Process]:
    """Return the processes, of whatever parent, that were started by nodes of this mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def _end(processes: list[psutil.Process]) -> None:
    """Have processes end, and kill those that do not."""
    for signalled in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                signalled(process)
        _, processes = psutil.wait_procs(processes, SECONDS_TO_STOP)
