"""The table [kuberay] of cluster.toml: which Kubernetes, which image, which rights. No rendering here."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gru4rec.hyperparameters import Integer
from tuning.sections import Section

PULL_POLICIES = ("IfNotPresent", "Always", "Never")
OPERATORS = ("Equal", "Exists")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LEAST_RAY = (2, 52)  # KubeRay has token authentication from there on


@dataclass(frozen=True)
class KubeRaySettings:
    """The table [kuberay].

    Parameters
    ----------
    image : str
        Of all pods; with the Ray and the Python of this machine.
    context : str, optional
        Of kubectl; without it, the current one.
    namespace : str
    image_pull_policy : str
        One of `PULL_POLICIES`.
    service_account : str, optional
        Of all pods, for instance one that the cloud gives rights to the storage.
    run_as_user, run_as_group : int
        Of all processes; never root.
    env_from_secret : str, optional
        Secret whose keys become environment variables, for instance the credentials of the storage.
    pvc : str, optional
        PersistentVolumeClaim that is mounted at storage_path.
    node_selector, spot_node_selector : dict of str to str
        Labels of Kubernetes' nodes that pods are put on; the second for groups with spot = true.
    spot_tolerations : tuple of dict
        Taints of spot nodes that those pods bear.
    idle_timeout_s : int
        After which an idle worker goes.
    ready_timeout_s : int
        In which the head must be there.
    ttl_s : int
        How long the cluster of a search stays after the search has ended.
    deadline_s : int, optional
        After which the cluster of a search is taken down, done or not.
    ray_version : str
        Of the image.
    """

    image: str
    context: str | None = None
    namespace: str = "default"
    image_pull_policy: str = "IfNotPresent"
    service_account: str | None = None
    run_as_user: int = 1000
    run_as_group: int = 100
    env_from_secret: str | None = None
    pvc: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    spot_node_selector: Mapping[str, str] = field(default_factory=dict)
    spot_tolerations: tuple[Mapping[str, str], ...] = ()
    idle_timeout_s: int = 300
    ready_timeout_s: int = 900
    ttl_s: int = 3600
    deadline_s: int | None = None
    ray_version: str = ""


def parse_settings(section: Section, folder: Path) -> KubeRaySettings:
    """Read the table [kuberay]."""
    image = section.text("image", None)
    if not image:
        section.problems.append(f"{section.place('image')} is missing: pods need one, with Ray in it")
    settings = KubeRaySettings(
        image=str(image),
        context=section.text("context", None),
        namespace=_label(section, "namespace", "default") or "default",
        image_pull_policy=section.expect(
            "image_pull_policy",
            section.values.get("image_pull_policy", PULL_POLICIES[0]) in PULL_POLICIES,
            f"one of {', '.join(PULL_POLICIES)}",
            PULL_POLICIES[0],
        ),
        service_account=_label(section, "service_account", None),
        run_as_user=section.number("run_as_user", 1000, Integer(1)),
        run_as_group=section.number("run_as_group", 100, Integer(1)),
        env_from_secret=_label(section, "env_from_secret", None),
        pvc=_label(section, "pvc", None),
        node_selector=_texts(section.section("node_selector")),
        spot_node_selector=_texts(section.section("spot_node_selector")),
        spot_tolerations=_tolerations(section),
        idle_timeout_s=section.number("idle_timeout_s", 300, Integer(0)),
        ready_timeout_s=section.number("ready_timeout_s", 900, Integer(1)),
        ttl_s=section.number("ttl_s", 3600, Integer(0)),
        deadline_s=section.number("deadline_s", None, Integer(1, words=(None,))),
        ray_version=_ray_version(section),
    )
    section.reject_unknown()
    return settings


def _ray_version(section: Section) -> str:
    version: str = section.text("ray_version", importlib.metadata.version("ray"))
    found = re.fullmatch(r"(\d+)\.(\d+)\.\d+", version)
    if not found or (int(found[1]), int(found[2])) < LEAST_RAY:
        section.problems.append(f"{section.place('ray_version')} must be 2.52.0 or later, got {version!r}")
    return version


def _label(section: Section, key: str, default: str | None) -> str | None:
    value: str | None = section.text(key, default)
    if value is not None and not DNS_LABEL.fullmatch(value):
        section.problems.append(
            f"{section.place(key)} must be a name of Kubernetes (lower-case letters, digits, hyphens), got {value!r}"
        )
    return value


def _texts(section: Section) -> dict[str, str]:
    return {name: str(section.text(name, None)) for name in section.values}


def _tolerations(section: Section) -> tuple[Mapping[str, str], ...]:
    tables = section.values.get("spot_tolerations", [])
    good = isinstance(tables, list) and all(isinstance(table, dict) for table in tables)
    tables = section.expect("spot_tolerations", good, "tables, [[kuberay.spot_tolerations]]", [])
    return tuple(
        _toleration(Section(table, section.place(f"spot_tolerations[{number}]"), section.problems))
        for number, table in enumerate(tables)
    )


def _toleration(section: Section) -> dict[str, str]:
    found = {
        "key": section.text("key", None),
        "operator": section.text("operator", "Equal"),
        "value": section.text("value", None),
        "effect": section.text("effect", None),
    }
    for name, known in (("operator", OPERATORS), ("effect", EFFECTS)):
        if found[name] is not None and found[name] not in known:
            section.problems.append(f"{section.place(name)} must be one of {', '.join(known)}, got {found[name]!r}")
    section.reject_unknown()
    return {name: value for name, value in found.items() if value is not None}
