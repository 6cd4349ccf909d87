"""Nodes of AWS, Google Cloud, Azure or your own machines over SSH, brought up by Ray's cluster launcher, `ray up`."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.backends import Say
from cluster.backends.ports import free_port
from cluster.backends.private_file import write_private
from cluster.backends.ray_up_settings import LOCAL, RayUpSettings, parse_settings
from cluster.backends.ray_up_yaml import DASHBOARD_PORT, render_cluster, stop_script
from cluster.backends.standing import check_not_up, check_up
from cluster.backends.tunnel import open_tunnel
from cluster.jobs import Submission
from cluster.paths import ClusterPaths
from cluster.processes import LINES_TOLD, run_command
from cluster.spec import HEAD, ClusterSpec, NodeGroup
from cluster.token import make_token, read_token
from gru4rec.errors import ClusterError, SpecificationError

if TYPE_CHECKING:
    from cluster.ray_jobs import RayJobs

__all__ = ["RayUpCluster", "make_backend", "parse_settings"]

CONFIG = "cluster.yaml"
READY = "gru4rec-tunnel-is-open"
STEP = re.compile(r"\[\d+/\d+\]|New status|[Ff]ailed|Error|!!!|Acquiring|Launched|Terminat")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
NOISE = re.compile(r"INFO node_provider|Shared connection|Permanently added|Full traceback|^ +File |^ {6,}|^ *(!!!)?$")
STYLE = ("--log-style=pretty", "--log-color=false")
VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}


def make_backend(spec: ClusterSpec) -> RayUpCluster:
    """Return the backend.

    Raises
    ------
    SpecificationError
        When the groups of nodes do not fit the provider.
    """
    settings: RayUpSettings = spec.settings
    if settings.provider == LOCAL:
        problems = _problems_of_machines(spec, settings)
    else:
        problems = [f"{_place(group)}.machine is missing" for group in spec.groups if not group.machine]
        problems += ["head.spot: no search survives the loss of its head"] if spec.head.spot else []
    if problems:
        raise SpecificationError("\n  ".join([f"cluster {spec.name}:", *problems]))
    return RayUpCluster(spec)


def _place(group: NodeGroup) -> str:
    return HEAD if group.name == HEAD else f"workers.{group.name}"


def _problems_of_machines(spec: ClusterSpec, settings: RayUpSettings) -> list[str]:
    """Return what Ray's launcher cannot do with machines that are there already."""
    problems = [
        f"{_place(group)}.{key} means nothing to machines of your own"
        for group in spec.groups
        for key in ("machine", "spot")
        if getattr(group, key)
    ]
    if len(spec.workers) > 1:
        problems.append(f"one group of workers at most with provider 'local', got {len(spec.workers)}")
    machines = len(settings.worker_ips)
    for group in spec.workers:
        if (group.min, group.max) != (machines, machines):
            problems.append(
                f"{_place(group)}: min and max must be the number of ray_up.worker_ips ({machines}), "
                f"got {group.min} and {group.max}"
            )
    if machines and not spec.workers:
        problems.append(f"ray_up.worker_ips has {machines} machines, but there is no [workers.NAME]")
    return problems


class RayUpCluster:
    """A cluster that `ray up` makes from one YAML file."""

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec
        self._settings: RayUpSettings = spec.settings
        self._paths = ClusterPaths(spec.name)
        self._config = self._paths.rendered / CONFIG

    def render(self, submission: Submission | None = None) -> dict[str, str]:
        return {CONFIG: render_cluster(self._spec)}

    def up(self, say: Say) -> None:
        check_not_up(self._paths)
        make_token(self._paths.token)
        for name, text in self.render().items():
            write_private(self._paths.rendered / name, text)
        write_private(self._paths.state, json.dumps({"backend": "ray_up", "provider": self._settings.provider}) + "\n")
        say(f"ray up {self._config}")
        try:
            self._run("up", ["-y", "--no-config-cache", "--disable-usage-stats", *STYLE], say)
        except BaseException as error:
            say("that failed: taking down what was started")
            self._take_down(say, error)
            raise
        say(f"cluster {self._spec.name} is up; more workers join as they boot")

    def down(self, say: Say) -> None:
        check_up(self._paths)
        say(f"ray down {self._config}")
        self._take_down(say, None)
        say(f"cluster {self._spec.name} is down")

    def status(self) -> list[dict[str, Any]]:
        with self.jobs() as jobs:
            return jobs.nodes()

    @contextmanager
    def jobs(self) -> Iterator[RayJobs]:
        from cluster.ray_jobs import RayJobs

        check_up(self._paths)
        token = read_token(self._paths.token)
        remedy = "is the head still there, and may this machine reach its port 22?"
        port = free_port()
        with open_tunnel(self._ssh(self._head_address(), port), f"^{READY}", remedy):
            yield RayJobs(f"http://127.0.0.1:{port}", token)

    def _take_down(self, say: Say, cause: BaseException | None) -> None:
        if self._settings.provider == LOCAL and not self._settings.docker_image:
            self._stop_machines(say)
        try:
            self._run("down", ["-y", *STYLE], say)
        except ClusterError as error:
            raise ClusterError(
                f"cluster {self._spec.name} may have nodes that still run and cost: {error}",
                f"try again: gru4rec cluster down, and look at the console of {self._settings.provider}",
            ) from cause
        for path in (self._paths.state, self._paths.token, self._known_hosts):
            path.unlink(missing_ok=True)

    def _stop_machines(self, say: Say) -> None:
        """Stop Ray on machines of one's own, and remove what was copied there: `ray down` forgets their workers."""
        try:
            run_command([*self._ssh_to_head(self._head_address()), stop_script(self._spec)])
        except ClusterError as error:
            say(f"Ray and the token may be left on the machines: {error}")

    def _run(self, verb: str, options: Sequence[str], say: Say) -> None:
        """Run `ray up` or `ray down`; all it says goes to a file, its steps to `say` as they come."""
        log = self._paths.logs / f"ray-{verb}.log"
        write_private(log, "")
        command = [_ray(), verb, *options, str(self._config)]
        said: list[str] = []
        try:
            process = subprocess.Popen(
                command,
                env={**os.environ, **VARIABLES, **self._autoscaler()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except FileNotFoundError:
            raise ClusterError("ray is not installed on this machine", "pip install 'gru4rec-tune[cluster]'") from None
        with process, log.open("a", encoding="utf-8") as file:
            for line in process.stdout or ():
                file.write(line)
                file.flush()
                said.append(COLOUR.sub("", line).rstrip())
                if STEP.search(said[-1]):
                    say(said[-1].strip())
        if process.returncode:
            last = "\n  ".join([line for line in said if not NOISE.search(line)][-LINES_TOLD:])
            raise ClusterError(f"ray {verb} ended with {process.returncode}: {last}", f"all of it is in {log}")

    def _autoscaler(self) -> dict[str, str]:
        # The newer autoscaler knows nodes by their type, which machines of one's own do not have.
        return {"RAY_UP_enable_autoscaler_v2": "0" if self._settings.provider == LOCAL else "1"}

    def _head_address(self) -> str:
        if self._settings.provider == LOCAL:
            return str(self._settings.external_head_ip or self._settings.head_ip)
        said = run_command([_ray(), "get-head-ip", str(self._config)], environment=VARIABLES)
        address = said.strip().splitlines()[-1].strip() if said.strip() else ""
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:
            raise ClusterError(f"ray get-head-ip gave no address: {said.strip()!r}") from None

    @property
    def _known_hosts(self) -> Path:
        return self._paths.folder / "known_hosts"

    def _ssh(self, address: str, port: int) -> list[str]:
        """Return the command of the tunnel; it ends on the head, too, when its standard input does."""
        forward = ["-L", f"127.0.0.1:{port}:127.0.0.1:{DASHBOARD_PORT}"]
        return [*self._ssh_to_head(address, *forward), f"echo {READY} && exec cat"]

    def _ssh_to_head(self, address: str, *more: str) -> list[str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "20",
            "ControlMaster": "no",
            "ControlPath": "none",
            "ExitOnForwardFailure": "yes",
            "IdentitiesOnly": "yes" if self._settings.ssh_private_key else "no",
            "ServerAliveCountMax": "4",
            "ServerAliveInterval": "15",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(self._known_hosts),
        }
        if self._settings.ssh_proxy_command:
            options["ProxyCommand"] = self._settings.ssh_proxy_command
        key = ["-i", self._settings.ssh_private_key] if self._settings.ssh_private_key else []
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-T", *key, *words, *more, f"{self._settings.ssh_user}@{address}"]


def _ray() -> str:
    """Return the `ray` in PATH, or the one beside this Python when its environment is not activated."""
    return shutil.which("ray") or str(Path(sys.executable).with_name("ray"))
