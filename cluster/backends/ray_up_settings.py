"""The table [ray_up] of cluster.toml: which cloud or machines, and how they are reached. No rendering here."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gru4rec.errors import unknown_name
from tuning.sections import Section

AWS, GCP, AZURE, LOCAL = PROVIDERS = ("aws", "gcp", "azure", "local")
NEEDED = {
    AWS: ("region", "ssh_private_key", "key_name"),
    GCP: ("region", "zone", "project_id", "image", "ssh_private_key"),
    AZURE: ("region", "resource_group", "image", "ssh_private_key", "ssh_public_key"),
    LOCAL: ("head_ip", "ssh_user"),
}
TEXTS = {
    AWS: ("zone", "image", "instance_profile"),
    GCP: ("subnet", "service_account", "accelerator"),
    AZURE: ("zone", "subscription_id"),
    LOCAL: ("ssh_private_key", "external_head_ip"),
}
LISTS = {AWS: ("security_groups", "subnets"), GCP: (), AZURE: (), LOCAL: ("worker_ips",)}
PATHS = ("ssh_private_key", "ssh_public_key")


@dataclass(frozen=True)
class RayUpSettings:
    """The table [ray_up]. Which keys a provider has is in `NEEDED`, `TEXTS` and `LISTS`; others are refused.

    Parameters
    ----------
    provider : str
        One of `PROVIDERS`; 'local' is machines of your own.
    region, zone, project_id, resource_group, subscription_id : str, optional
        Where in the cloud. `zone` of AWS may be several, with commas between them.
    ssh_user : str
    ssh_private_key, ssh_public_key : str, optional
        Files on this machine. Ray copies the private key to the head, which reaches the workers with it.
    key_name : str, optional
        What AWS calls the key.
    ssh_proxy_command : str, optional
        How a bastion is passed.
    image : str, optional
        Of the machines: AMI, GCP image path, or Azure's publisher:offer:sku:version.
    docker_image : str
        In which everything runs; empty for none.
    disk_gib : int
        Of each node.
    subnet, subnets, security_groups, instance_profile, service_account, accelerator : optional
        Of the cloud's nodes.
    use_internal_ips : bool
        Whether nodes get no public addresses.
    public_ssh : bool
        That port 22 may be open to the whole internet, as Ray itself would have it.
    idle_timeout_minutes, upscaling_speed : float
        Of the autoscaler.
    head_ip, external_head_ip, worker_ips : optional
        Machines of your own.
    setup_commands : tuple of str
        Shell commands that prepare each node.
    node_config : dict
        The cloud's own settings of nodes, merged into those of each group.
    """

    provider: str
    ssh_user: str = "ubuntu"
    region: str | None = None
    zone: str | None = None
    project_id: str | None = None
    resource_group: str | None = None
    subscription_id: str | None = None
    ssh_private_key: str | None = None
    ssh_public_key: str | None = None
    key_name: str | None = None
    ssh_proxy_command: str | None = None
    image: str | None = None
    docker_image: str = ""
    disk_gib: int = 100
    subnet: str | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    instance_profile: str | None = None
    service_account: str | None = None
    accelerator: str | None = None
    use_internal_ips: bool = False
    public_ssh: bool = False
    idle_timeout_minutes: float = 5.0
    upscaling_speed: float = 1.0
    head_ip: str | None = None
    external_head_ip: str | None = None
    worker_ips: tuple[str, ...] = ()
    setup_commands: tuple[str, ...] = ()
    node_config: Mapping[str, Any] = field(default_factory=dict)


def default_docker_image() -> str:
    """Return the image of the Ray project with the Ray and Python of this machine; a cluster must run the same."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"rayproject/ray:{importlib.metadata.version('ray')}-{python}"


def parse_settings(section: Section, folder: Path) -> RayUpSettings:
    """Read the table [ray_up]; its paths are relative to `folder`."""
    provider = section.text("provider", None)
    if provider not in PROVIDERS:
        section.problems.append(unknown_name(str(provider), PROVIDERS, section.place("provider")))
        return RayUpSettings(str(provider))
    values: dict[str, Any] = {name: section.text(name, None) for name in (*NEEDED[provider], *TEXTS[provider])}
    values |= {name: tuple(section.texts(name)) for name in LISTS[provider]}
    values |= {name: section.location(name, folder) for name in PATHS if values.get(name)}
    values["ssh_user"] = section.text("ssh_user", "" if provider == LOCAL else "ubuntu")
    values["ssh_proxy_command"] = section.text("ssh_proxy_command", None)
    values["setup_commands"] = tuple(section.texts("setup_commands"))
    values["docker_image"] = section.text("docker_image", "" if provider == LOCAL else default_docker_image())
    if provider != LOCAL:
        values |= _parse_cloud(section)
    section.problems += [
        f"{section.place(name)} is missing: provider {provider!r} needs it"
        for name in NEEDED[provider]
        if not values[name]
    ]
    section.reject_unknown()
    settings = RayUpSettings(provider, **values)
    section.problems += [f"{section.path}: {problem}" for problem in _problems(settings)]
    return settings


def _parse_cloud(section: Section) -> dict[str, Any]:
    amounts = {"disk_gib": 100, "idle_timeout_minutes": 5.0, "upscaling_speed": 1.0}
    found: dict[str, Any] = {name: section.amount(name, default) for name, default in amounts.items()}
    for name in ("disk_gib", "upscaling_speed"):
        if not found[name]:
            section.problems.append(f"{section.place(name)} must be > 0, got {found[name]!r}")
    return {
        **found,
        "disk_gib": int(found["disk_gib"]),
        "use_internal_ips": section.flag("use_internal_ips", False),
        "public_ssh": section.flag("public_ssh", False),
        "node_config": section.expect(
            "node_config", isinstance(section.values.get("node_config", {}), dict), "a table", {}
        ),
    }


def _problems(settings: RayUpSettings) -> list[str]:
    """Return what is wrong with the settings as a whole."""
    problems = []
    if settings.provider == AZURE and settings.image and settings.image.count(":") != 3:
        problems.append(f"image must be publisher:offer:sku:version, got {settings.image!r}")
    if settings.provider == LOCAL or settings.public_ssh:
        return problems
    closed = {
        AWS: (bool(settings.security_groups), "security_groups = [...] that let only you in"),
        GCP: (bool(settings.subnet), "a subnet whose network lets only you in"),
        AZURE: (settings.use_internal_ips, "use_internal_ips = true"),
    }
    good, remedy = closed[settings.provider]
    if not good:
        problems.append(
            f"Ray would open port 22 of {settings.provider} nodes to the whole internet: give {remedy}, "
            "or accept it with public_ssh = true"
        )
    return problems
