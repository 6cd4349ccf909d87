"""Pods of a Kubernetes that runs the KubeRay operator, 1.5.1 or later; spoken to through kubectl."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.backends import Say
from cluster.backends.kuberay_manifests import DASHBOARD_PORT, cluster_manifests, search_manifests, to_yaml
from cluster.backends.kuberay_settings import KubeRaySettings, parse_settings
from cluster.backends.private_file import write_private
from cluster.backends.standing import check_not_up, check_up
from cluster.backends.tunnel import open_tunnel
from cluster.jobs import Submission
from cluster.package import PACKAGES
from cluster.paths import ClusterPaths
from cluster.processes import run_command
from cluster.spec import ClusterSpec
from gru4rec.errors import ClusterError, SpecificationError

if TYPE_CHECKING:
    from cluster.ray_jobs import RayJobs

__all__ = ["KubeRayCluster", "make_backend", "parse_settings"]

CLUSTER, SEARCH = "cluster.yaml", "search.yaml"
SECONDS_BETWEEN_LOOKS = 5.0
NAME_LENGTH = 47  # KubeRay's limit for the name of a RayJob
CONFIG_MAP_BYTES = 900_000  # Kubernetes' limit is 1 MiB for the whole ConfigMap
KUBECTL_REMEDY = "kubectl config current-context, and kubectl auth can-i create rayclusters.ray.io"


def make_backend(spec: ClusterSpec) -> KubeRayCluster:
    """Return the backend.

    Raises
    ------
    SpecificationError
        When Kubernetes could not place the pods, or the storage is not theirs.
    """
    settings: KubeRaySettings = spec.settings
    places = [("head", spec.head), *((f"workers.{group.name}", group) for group in spec.workers)]
    problems = [f"{place}.memory_gib is missing: pods ask for it" for place, group in places if not group.memory_gib]
    if not spec.name[0].isalpha():
        problems.append(f"name must begin with a letter, as services of Kubernetes do, got {spec.name!r}")
    if spec.head.spot:
        problems.append("head.spot: no search survives the loss of its head")
    if any(group.spot for group in spec.workers) and not settings.spot_node_selector:
        problems.append("kuberay.spot_node_selector is missing: which nodes are spot?")
    if "://" in spec.storage_path and settings.pvc:
        problems.append(f"kuberay.pvc has no use with storage_path {spec.storage_path!r}: it mounts a path")
    if "://" not in spec.storage_path and not settings.pvc:
        problems.append(f"storage_path {spec.storage_path!r} is no URI: name the claim to mount there, kuberay.pvc")
    if problems:
        raise SpecificationError("\n  ".join([f"cluster {spec.name}:", *problems]))
    return KubeRayCluster(spec)


class KubeRayCluster:
    """A RayCluster, and the NetworkPolicy around it."""

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec
        self._settings: KubeRaySettings = spec.settings
        self._paths = ClusterPaths(spec.name)

    def render(self, submission: Submission | None = None) -> dict[str, str]:
        files = {CLUSTER: to_yaml(*cluster_manifests(self._spec))}
        if submission:
            content, paths = config_map(submission.folder)
            manifests = search_manifests(
                self._spec,
                kubernetes_name(submission.id),
                submission.id,
                submission.command,
                submission.variables,
                submission.packages,
                content,
                paths,
            )
            files[SEARCH] = to_yaml(*manifests)
        return files

    def up(self, say: Say) -> None:
        check_not_up(self._paths)
        for kind in ("rayclusters.ray.io", "networkpolicies.networking.k8s.io"):
            if self._kubectl("get", kind, self._spec.name, "--ignore-not-found", "-o", "name").strip():
                raise ClusterError(
                    f"namespace {self._settings.namespace} has {kind}/{self._spec.name}, and not from this machine",
                    "choose another name in cluster.toml",
                )
        manifest = self.render()[CLUSTER]
        write_private(self._paths.rendered / CLUSTER, manifest)
        write_private(self._paths.state, json.dumps({"backend": "kuberay"}) + "\n")
        try:
            say(f"kubectl apply, namespace {self._settings.namespace}")
            self._kubectl("apply", "--validate=strict", "-f", "-", stdin=manifest)
            self._wait_for_head(say)
            self._token()
        except BaseException as error:
            say("that failed: taking down what was started")
            self._delete(error)
            raise
        say(f"cluster {self._spec.name} is up; more workers join as their pods start")

    def down(self, say: Say) -> None:
        check_up(self._paths)
        self._delete(None)
        say(f"cluster {self._spec.name} is down")

    def status(self) -> list[dict[str, Any]]:
        with self.jobs() as jobs:
            return jobs.nodes()

    @contextmanager
    def jobs(self) -> Iterator[RayJobs]:
        from cluster.ray_jobs import RayJobs

        check_up(self._paths)
        token = self._token()
        service = f"svc/{self._spec.name}-head-svc"
        command = [*self._base(), "port-forward", "--address", "127.0.0.1", service, f":{DASHBOARD_PORT}"]
        with open_tunnel(command, r"^Forwarding from 127\.0\.0\.1:(\d+) ", KUBECTL_REMEDY) as found:
            yield RayJobs(f"http://127.0.0.1:{found[1]}", token)

    def _base(self) -> list[str]:
        context = ["--context", self._settings.context] if self._settings.context else []
        return ["kubectl", *context, "--namespace", self._settings.namespace]

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return run_command([*self._base(), *arguments], stdin=stdin, remedy=KUBECTL_REMEDY)

    def _delete(self, cause: BaseException | None) -> None:
        """Delete exactly what was applied, and wait until it is gone."""
        manifest = (self._paths.rendered / CLUSTER).read_text(encoding="utf-8")
        try:
            self._kubectl("delete", "--ignore-not-found", "--wait=true", "--timeout=300s", "-f", "-", stdin=manifest)
        except ClusterError as error:
            raise ClusterError(
                f"cluster {self._spec.name} may have pods that still run and cost: {error}",
                "try again: gru4rec cluster down",
            ) from cause
        self._paths.state.unlink()

    def _wait_for_head(self, say: Say) -> None:
        ends = time.monotonic() + self._settings.ready_timeout_s
        told = ""
        while True:
            status = json.loads(self._kubectl("get", "rayclusters.ray.io", self._spec.name, "-o", "json"))
            if _head_is_ready(status):
                return
            pods = self._kubectl("get", "pods", "-l", f"ray.io/cluster={self._spec.name}", "-o", "json")
            now = describe_pods(json.loads(pods)) or "no pods yet: is the KubeRay operator running?"
            if now != told:
                say(now)
                told = now
            if time.monotonic() > ends:
                raise ClusterError(
                    f"the head of {self._spec.name} is not ready after {self._settings.ready_timeout_s} s: {now}",
                    "kubectl describe pods, or a longer kuberay.ready_timeout_s",
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _token(self) -> str:
        """Return the token that the operator made; it stays in memory."""
        try:
            told = self._kubectl("get", "secret", self._spec.name, "-o", "jsonpath={.data.auth_token}")
            token = base64.b64decode(told, validate=True).decode("ascii").strip()
        except (ClusterError, ValueError) as error:
            token, cause = "", f": {error}" if isinstance(error, ClusterError) else ""
        else:
            cause = ""
        if not token:
            raise ClusterError(
                f"KubeRay made no token for cluster {self._spec.name}{cause}", "KubeRay 1.5.1 or later is needed"
            )
        return token


def _head_is_ready(cluster: Mapping[str, Any]) -> bool:
    conditions = cluster.get("status", {}).get("conditions", [])
    return any(it["type"] == "HeadPodReady" and it["status"] == "True" for it in conditions)


def describe_pods(answer: Mapping[str, Any]) -> str:
    """Return a line on what pods wait for, from `kubectl get pods -o json`.

    >>> describe_pods({"items": [{"metadata": {"name": "shop-head"}, "status": {"phase": "Running"}}]})
    'shop-head Running'
    """
    return ", ".join(_describe_pod(pod) for pod in answer["items"])


def _describe_pod(pod: Mapping[str, Any]) -> str:
    status = pod.get("status", {})
    waiting = [it["state"]["waiting"] for it in status.get("containerStatuses", []) if "waiting" in it.get("state", {})]
    reasons = [it["reason"] for it in waiting if "reason" in it]
    reasons += [
        it.get("message", it["reason"])
        for it in status.get("conditions", [])
        if it.get("status") == "False" and it.get("reason") == "Unschedulable"
    ]
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return f"{pod['metadata']['name']} {status.get('phase', 'Pending')}{why}"


def kubernetes_name(submission_id: str) -> str:
    """Return a submission's id as a name of Kubernetes; one that had to be changed ends in its own hash.

    >>> kubernetes_name("shop-2026"), kubernetes_name("Shop_2026.1")
    ('s-shop-2026', 's-shop-2026-1-c8a13c')
    """
    wanted = f"s-{submission_id}"
    name = re.sub(r"[^a-z0-9-]+", "-", wanted.lower()).rstrip("-")
    if name == wanted and len(name) <= NAME_LENGTH:
        return name
    digest = hashlib.sha256(submission_id.encode()).hexdigest()[:6]
    return f"{name[: NAME_LENGTH - len(digest) - 1].rstrip('-')}-{digest}"


def config_map(folder: Path) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return a submission's files as the content of a ConfigMap, and key -> path; the packages are in the image.

    Raises
    ------
    ClusterError
        When they do not fit.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in paths if path.relative_to(folder).parts[0] not in PACKAGES]
    size = sum(path.stat().st_size for path in kept)
    if size * 4 // 3 > CONFIG_MAP_BYTES:
        raise ClusterError(
            f"the files of the submission ({size} bytes) do not fit into a ConfigMap ({CONFIG_MAP_BYTES} bytes)",
            "put the log where the pods can read it, or bring the cluster up and submit to it",
        )
    texts: dict[str, str] = {}
    binary: dict[str, str] = {}
    keys: dict[str, str] = {}
    for number, path in enumerate(kept):
        place = path.relative_to(folder).as_posix()
        key = place if "/" not in place else f"{number}.{path.name}"
        keys[key] = place
        content = path.read_bytes()
        try:
            texts[key] = content.decode("utf-8")
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(content).decode("ascii")
    return {"data": texts} | ({"binaryData": binary} if binary else {}), keys
