"""`ClusterSpec` -> manifests for KubeRay (ray.io/v1), for a cluster and for a search on a cluster of its own. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from cluster.backends.kuberay_settings import KubeRaySettings
from cluster.spec import HEAD, ClusterSpec, NodeGroup

API = "ray.io/v1"
GCS_PORT = 6379
DASHBOARD_PORT = 8265
MANAGED = {"app.kubernetes.io/managed-by": "gru4rec-tune"}
MEMBER = "gru4rec-tune/cluster"  # label of the pods that may speak to each other
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}  # label that KubeRay's Helm chart gives it
SUBMISSION_FOLDER = "/etc/gru4rec/submission"
WORK_FOLDER = "/tmp/gru4rec-submission"
GPU = "nvidia.com/gpu"
Manifest = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, for people to read; and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def to_yaml(*manifests: Manifest) -> str:
    """Return the manifests as one YAML file."""
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=120)


def cluster_manifests(spec: ClusterSpec) -> list[Manifest]:
    """Return the cluster that `up` makes. Its dashboard listens on the loopback of the head's pod alone."""
    settings: KubeRaySettings = spec.settings
    return [
        _network_policy(spec.name, settings, others=[]),
        {
            "apiVersion": API,
            "kind": "RayCluster",
            "metadata": _metadata(spec.name, settings),
            "spec": _cluster(spec, member=spec.name, dashboard_host="127.0.0.1", files=None),
        },
    ]


def search_manifests(
    spec: ClusterSpec,
    name: str,
    submission_id: str,
    command: tuple[str, ...],
    variables: Mapping[str, str],
    packages: tuple[str, ...],
    files: Manifest,
    paths: Mapping[str, str],
) -> list[Manifest]:
    """Return a search that brings its own cluster: submitted from within, taken down when it has ended.

    Parameters
    ----------
    name : str
        Of all that is made.
    files : dict
        'data' and 'binaryData' of a ConfigMap.
    paths : dict of str to str
        Key in the ConfigMap -> path in the submission's folder.
    """
    settings: KubeRaySettings = spec.settings
    operator = {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": OPERATOR}}]}
    dashboard = {"ports": [{"protocol": "TCP", "port": DASHBOARD_PORT}]}
    volume = {"name": "submission", "configMap": {"name": name, "items": [{"key": k, "path": paths[k]} for k in paths]}}
    environment = {"env_vars": dict(variables)} | ({"pip": list(packages)} if packages else {})
    job: Manifest = {
        "entrypoint": entrypoint(command),
        "jobId": submission_id,
        "runtimeEnvYAML": yaml.safe_dump(environment, sort_keys=False),
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": settings.ttl_s,
        "backoffLimit": 0,
    }
    if settings.deadline_s is not None:
        job["activeDeadlineSeconds"] = settings.deadline_s
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(name, settings), **files},
        _network_policy(name, settings, others=[operator | dashboard]),
        {
            "apiVersion": API,
            "kind": "RayJob",
            "metadata": _metadata(name, settings),
            "spec": {
                **job,
                "submitterPodTemplate": _submitter(name, settings),
                "rayClusterSpec": _cluster(spec, member=name, dashboard_host="0.0.0.0", files=volume),
            },
        },
    ]


def entrypoint(command: tuple[str, ...]) -> str:
    """Return what the head's pod runs; mounted files cannot be written beside, so it works in a copy.

    >>> entrypoint(("-m", "cluster.driver")).split(" && ")[1:]
    ['cd /tmp/gru4rec-submission', "exec python -m cluster.driver'"]
    """
    script = f"cp -rL {SUBMISSION_FOLDER} {WORK_FOLDER} && cd {WORK_FOLDER} && exec {shlex.join(['python', *command])}"
    return f"bash -c {shlex.quote(script)}"


def _metadata(name: str, settings: KubeRaySettings) -> Manifest:
    return {"name": name, "namespace": settings.namespace, "labels": dict(MANAGED)}


def _network_policy(name: str, settings: KubeRaySettings, others: list[Manifest]) -> Manifest:
    """Let in the cluster's own pods and `others`; a tunnel of kubectl comes in through the kubelet."""
    own = {"matchLabels": {MEMBER: name}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(name, settings),
        "spec": {
            "podSelector": own,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {MEMBER: name}}}]}, *others],
        },
    }


def _cluster(spec: ClusterSpec, member: str, dashboard_host: str, files: Manifest | None) -> Manifest:
    settings: KubeRaySettings = spec.settings
    start = {"num-cpus": str(spec.head.cpus), "num-gpus": str(spec.head.gpus), "dashboard-host": dashboard_host}
    cluster: Manifest = {
        "rayVersion": settings.ray_version,
        "authOptions": {"mode": "token"},  # the operator makes the Secret
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": start,
            "template": _pod(spec, spec.head, member, files),
        },
        "workerGroupSpecs": [
            {
                "groupName": group.name,
                "replicas": group.min,
                "minReplicas": group.min,
                "maxReplicas": group.max,
                "rayStartParams": {"num-cpus": str(group.cpus), "num-gpus": str(group.gpus)},
                "template": _pod(spec, group, member, None),
            }
            for group in spec.workers
        ],
    }
    if spec.elastic:
        cluster["enableInTreeAutoscaling"] = True
        cluster["autoscalerOptions"] = {
            "idleTimeoutSeconds": settings.idle_timeout_s,
            "imagePullPolicy": settings.image_pull_policy,
            "securityContext": _locked_down(),
        }
    return cluster


def _pod(spec: ClusterSpec, group: NodeGroup, member: str, files: Manifest | None) -> Manifest:
    settings: KubeRaySettings = spec.settings
    head = group.name == HEAD
    resources = _resources(group)
    container: Manifest = {
        "name": "ray-head" if head else "ray-worker",
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        "resources": {"requests": resources, "limits": dict(resources)},
        "securityContext": _locked_down(),
    }
    if head:
        ports = {"gcs-server": GCS_PORT, "dashboard": DASHBOARD_PORT}
        container["ports"] = [{"name": name, "containerPort": port} for name, port in ports.items()]
    if settings.env_from_secret:
        container["envFrom"] = [{"secretRef": {"name": settings.env_from_secret}}]
    volumes, mounts = _volumes(spec, files)
    if volumes:
        container["volumeMounts"] = mounts
    # The autoscaler, a container beside the head, asks Kubernetes for pods; nothing else of ours speaks to it.
    pod = _pod_settings(settings, speaks_to_kubernetes=head and spec.elastic)
    if selector := _selector(group, settings):
        pod["nodeSelector"] = selector
    if tolerations := _tolerations(group, settings):
        pod["tolerations"] = tolerations
    pod["containers"] = [container]
    if volumes:
        pod["volumes"] = volumes
    return {"metadata": {"labels": {**MANAGED, MEMBER: member}}, "spec": pod}


def _pod_settings(settings: KubeRaySettings, speaks_to_kubernetes: bool) -> Manifest:
    pod: Manifest = {
        "automountServiceAccountToken": speaks_to_kubernetes,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": settings.run_as_user,
            "runAsGroup": settings.run_as_group,
            "fsGroup": settings.run_as_group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if settings.service_account:
        pod["serviceAccountName"] = settings.service_account
    return pod


def _locked_down() -> Manifest:
    return {
        "runAsNonRoot": True,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def _resources(group: NodeGroup) -> dict[str, str]:
    """Return what a pod gets. A head without CPUs for trials needs one for itself."""
    mebibytes = round((group.memory_gib or 0) * 1024)
    memory = f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"
    return {"cpu": str(max(group.cpus, 1)), "memory": memory} | ({GPU: str(group.gpus)} if group.gpus else {})


def _selector(group: NodeGroup, settings: KubeRaySettings) -> dict[str, str]:
    machine = {"node.kubernetes.io/instance-type": group.machine} if group.machine else {}
    return {**settings.node_selector, **machine, **(settings.spot_node_selector if group.spot else {})}


def _tolerations(group: NodeGroup, settings: KubeRaySettings) -> list[Manifest]:
    gpu = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if group.gpus else []
    return gpu + ([dict(table) for table in settings.spot_tolerations] if group.spot else [])


def _volumes(spec: ClusterSpec, files: Manifest | None) -> tuple[list[Manifest], list[Manifest]]:
    volumes: list[Manifest] = []
    mounts: list[Manifest] = []
    if spec.settings.pvc:
        volumes.append({"name": "storage", "persistentVolumeClaim": {"claimName": spec.settings.pvc}})
        mounts.append({"name": "storage", "mountPath": spec.storage_path})
    if files:
        volumes.append(files)
        mounts.append({"name": files["name"], "mountPath": SUBMISSION_FOLDER, "readOnly": True})
    return volumes, mounts


def _submitter(name: str, settings: KubeRaySettings) -> Manifest:
    """Return the pod that hands the search to the head; KubeRay adds the command and the token."""
    container = {
        "name": "ray-job-submitter",
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "resources": {
            "requests": {"cpu": "500m", "memory": "512Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
        "securityContext": _locked_down(),
    }
    return {
        "metadata": {"labels": {**MANAGED, MEMBER: name}},
        "spec": {
            **_pod_settings(settings, speaks_to_kubernetes=False),
            "restartPolicy": "Never",
            "containers": [container],
        },
    }
