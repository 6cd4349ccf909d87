"""`ClusterSpec` -> the YAML of Ray's cluster launcher. Pure: it reads no file and asks no cloud."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from cluster.backends.ray_up_settings import AWS, AZURE, GCP, LOCAL, RayUpSettings
from cluster.paths import ClusterPaths
from cluster.spec import HEAD, ClusterSpec, NodeGroup

GCS_PORT = 6379
OBJECT_MANAGER_PORT = 8076
DASHBOARD_PORT = 8265
GIB = 1 << 30
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def render_cluster(spec: ClusterSpec) -> str:
    """Return the text of cluster.yaml."""
    return yaml.safe_dump(cluster_config(spec), sort_keys=False, width=120)


def cluster_config(spec: ClusterSpec) -> dict[str, Any]:
    """Return what `ray up` is told, as its schema names it."""
    settings: RayUpSettings = spec.settings
    config: dict[str, Any] = {
        "cluster_name": spec.name,
        "max_workers": sum(group.max for group in spec.workers),
        "provider": _provider(settings),
        "auth": _auth(settings),
        "file_mounts": {f"~/{token_name(spec)}": str(ClusterPaths(spec.name).token)},
        "initialization_commands": [],
        "setup_commands": list(settings.setup_commands),
        "worker_setup_commands": [],
        "head_start_ray_commands": [*_prepare(spec), _start(spec, head=True)],
        "worker_start_ray_commands": [*_prepare(spec), _start(spec, head=False)],
    }
    if settings.docker_image:
        config["docker"] = {
            "image": settings.docker_image,
            "container_name": f"gru4rec-{spec.name}",
            "pull_before_run": True,
            "run_options": ["--ulimit nofile=65536:65536"],
        }
    if settings.provider == LOCAL:
        return {**config, "head_setup_commands": []}
    # head_setup_commands are left to Ray: they install what its autoscaler needs to speak to the cloud.
    return {
        **config,
        "upscaling_speed": settings.upscaling_speed,
        "idle_timeout_minutes": settings.idle_timeout_minutes,
        "head_node_type": HEAD,
        "available_node_types": {group.name: _node_type(group, settings) for group in spec.groups},
    }


def token_name(spec: ClusterSpec) -> str:
    """Return the name of the token's file in the home folder of each node."""
    return f".gru4rec-{spec.name}.token"


def _provider(settings: RayUpSettings) -> dict[str, Any]:
    if settings.provider == LOCAL:
        external = {"external_head_ip": settings.external_head_ip} if settings.external_head_ip else {}
        return {"type": LOCAL, "head_ip": settings.head_ip, "worker_ips": list(settings.worker_ips), **external}
    place = {
        AWS: {"region": settings.region, "availability_zone": settings.zone},
        GCP: {"region": settings.region, "availability_zone": settings.zone, "project_id": settings.project_id},
        AZURE: {
            "location": settings.region,
            "availability_zone": settings.zone,
            "resource_group": settings.resource_group,
            "subscription_id": settings.subscription_id,
        },
    }[settings.provider]
    return {
        "type": settings.provider,
        **{name: value for name, value in place.items() if value is not None},
        "cache_stopped_nodes": False,  # a stopped node still costs its disk
        "use_internal_ips": settings.use_internal_ips,
    }


def _auth(settings: RayUpSettings) -> dict[str, str]:
    names = ("ssh_user", "ssh_private_key", "ssh_public_key", "ssh_proxy_command")
    return {name: value for name in names if (value := getattr(settings, name))}


def _prepare(spec: ClusterSpec) -> list[str]:
    """Return the commands before Ray starts: the token is its user's alone, whatever the copying made of it."""
    token = f'"$HOME/{token_name(spec)}"'
    return [f'{{ test -O {token} || sudo -n chown "$(id -u)" {token}; }} && chmod 600 {token}', "ray stop"]


def _start(spec: ClusterSpec, head: bool) -> str:
    settings: RayUpSettings = spec.settings
    variables = [
        "RAY_AUTH_MODE=token",
        f'RAY_AUTH_TOKEN_PATH="$HOME/{token_name(spec)}"',
        "RAY_USAGE_STATS_ENABLED=0",
    ]
    role = (
        f"--head --port={GCS_PORT} --dashboard-host=127.0.0.1 --dashboard-port={DASHBOARD_PORT}"
        ' --autoscaling-config="$HOME/ray_bootstrap_config.yaml"'
        if head
        else f'--address="$RAY_HEAD_IP:{GCS_PORT}"'
    )
    if settings.provider == LOCAL:  # Ray knows no groups there
        group = spec.head if head else next(iter(spec.workers), spec.head)
        variables.append(f"RAY_NODE_TYPE_NAME={group.name}")
        # A head without a way to the internet finds no address of its own but 127.0.0.1. Workers see which way it is.
        role += f" --node-ip-address={settings.head_ip}" if head else ""
        role += f" --num-cpus={group.cpus} --num-gpus={group.gpus}"
        role += f" --memory={_memory_bytes(group)}" if group.memory_gib else ""
    return "; ".join(
        [
            "umask 077",
            "unset OMP_NUM_THREADS PYTHONWARNINGS",  # that Ray's launcher sets for its own commands
            "ulimit -n 65536 2> /dev/null || true",
            f"export {' '.join(variables)}",
            f"ray start {role} --object-manager-port={OBJECT_MANAGER_PORT} --disable-usage-stats",
        ]
    )


def stop_script(spec: ClusterSpec) -> str:
    """Return what ends Ray on machines of one's own, run on the head: there first, lest it start workers again."""
    settings: RayUpSettings = spec.settings
    key = "-i ~/ray_bootstrap_key.pem " if settings.ssh_private_key else ""
    ssh = f"ssh {key}-T -o BatchMode=yes -o ConnectTimeout=20 -o StrictHostKeyChecking=accept-new"
    stop = f"bash --login -ic {shlex.quote('source ~/.bashrc; ray stop')}"  # as Ray's launcher runs its commands
    token = f'"$HOME/{token_name(spec)}"'
    there = shlex.quote(f"{stop} && rm -f {token}")
    workers = [f"{ssh} {settings.ssh_user}@{address} {there} || failed=1" for address in settings.worker_ips]
    left = f"rm -f {token} ~/ray_bootstrap_config.yaml ~/ray_bootstrap_key.pem"
    return "; ".join(["failed=0", f"{stop} || failed=1", *workers, left, 'exit "$failed"'])


def _memory_bytes(group: NodeGroup) -> int:
    return int((group.memory_gib or 0) * GIB)


def _node_type(group: NodeGroup, settings: RayUpSettings) -> dict[str, Any]:
    resources = {"CPU": group.cpus, "GPU": group.gpus} | ({"memory": _memory_bytes(group)} if group.memory_gib else {})
    render = {AWS: _aws_node, GCP: _gcp_node, AZURE: _azure_node}[settings.provider]
    bounds = {} if group.name == HEAD else {"min_workers": group.min, "max_workers": group.max}
    return {"node_config": merged(render(group, settings), settings.node_config), "resources": resources, **bounds}


def _aws_node(group: NodeGroup, settings: RayUpSettings) -> dict[str, Any]:
    disk = {"VolumeSize": settings.disk_gib, "VolumeType": "gp3", "Encrypted": True}
    node: dict[str, Any] = {
        "InstanceType": group.machine,
        "KeyName": settings.key_name,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},  # 2: from within a container
    }
    if settings.image:
        node["ImageId"] = settings.image
    if settings.security_groups:
        node["SecurityGroupIds"] = list(settings.security_groups)
    if settings.subnets:
        node["SubnetIds"] = list(settings.subnets)
    if settings.instance_profile:
        kind = "Arn" if settings.instance_profile.startswith("arn:") else "Name"
        node["IamInstanceProfile"] = {kind: settings.instance_profile}
    if group.spot:
        node["InstanceMarketOptions"] = {"MarketType": "spot"}
    return node


def _gcp_node(group: NodeGroup, settings: RayUpSettings) -> dict[str, Any]:
    boot = {"diskSizeGb": settings.disk_gib, "sourceImage": settings.image}
    node: dict[str, Any] = {
        "machineType": group.machine,
        "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": boot}],
    }
    if settings.subnet:
        outside = [] if settings.use_internal_ips else [{"type": "ONE_TO_ONE_NAT", "name": "External NAT"}]
        node["networkInterfaces"] = [{"subnetwork": settings.subnet, "accessConfigs": outside}]
    if settings.service_account:
        node["serviceAccounts"] = [{"email": settings.service_account, "scopes": list(SCOPES)}]
    if group.gpus and settings.accelerator:
        kind = f"projects/{settings.project_id}/zones/{settings.zone}/acceleratorTypes/{settings.accelerator}"
        node["guestAccelerators"] = [{"acceleratorType": kind, "acceleratorCount": group.gpus}]
    if group.spot:
        node["scheduling"] = {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
        }
    elif group.gpus:
        node["scheduling"] = {"onHostMaintenance": "TERMINATE"}
    return node


def _azure_node(group: NodeGroup, settings: RayUpSettings) -> dict[str, Any]:
    names = ("imagePublisher", "imageOffer", "imageSku", "imageVersion")
    image = dict(zip(names, str(settings.image).split(":"), strict=True))
    node: dict[str, Any] = {"vmSize": group.machine, **image, "osDiskSize": settings.disk_gib}
    if group.spot:
        node |= {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1}}
    return {"azure_arm_parameters": node}


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Return `ours` with `theirs` in it, table by table; where both say something, theirs counts.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4})
    {'a': {'b': 1, 'c': 3}, 'd': 4}
    """
    result = dict(ours)
    for name, value in theirs.items():
        there = result.get(name)
        result[name] = merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return result
