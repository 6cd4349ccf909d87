"""cluster.toml <-> `ClusterSpec`: where a search is to run. All problems of a file are reported together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.backends import BACKENDS, backend_module
from gru4rec.errors import unknown_name
from gru4rec.hyperparameters import Integer
from tuning.ray_runtime import trials_that_fit
from tuning.sections import Section, check_no_problems, read_toml

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE_KEY", re.IGNORECASE)
HEAD = "head"


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of one kind.

    Parameters
    ----------
    name : str
        'head', or the group's name in [workers.NAME].
    cpus, gpus : int
        Of each node. A head of 0 CPUs runs no trials.
    memory_gib : float, optional
        Of each node.
    machine : str, optional
        Instance type of a cloud.
    min, max : int
        Nodes that are always there, and that an autoscaler may bring.
    spot : bool
        Whether the cloud may take them away, for less money.
    price_per_hour : float
        Of each node.
    """

    name: str
    cpus: int = 1
    gpus: int = 0
    memory_gib: float | None = None
    machine: str | None = None
    min: int = 1
    max: int = 1
    spot: bool = False
    price_per_hour: float = 0.0

    def slots(self, cpus_per_trial: int, gpus_per_trial: float) -> int:
        """Return how many trials one node holds.

        >>> NodeGroup("gpu", cpus=8, gpus=1).slots(cpus_per_trial=2, gpus_per_trial=0.5)
        2
        """
        return trials_that_fit(self.cpus, self.gpus, cpus_per_trial, gpus_per_trial)


@dataclass(frozen=True)
class ClusterSpec:
    """A cluster.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and hyphens.
    backend : str
        One of `cluster.backends.BACKENDS`.
    storage_path : str
        Where searches are written: an absolute path that every node and this machine have, or a URI that pyarrow's
        filesystems know, such as s3://bucket/prefix.
    head : NodeGroup
    workers : tuple of NodeGroup
    settings : object
        What the backend's own table says, see the backend's module.
    install : bool
        Whether each node installs the packages that we need, in the versions of this machine, before a search.
    variables : dict of str to str
        Environment variables of a search. Secrets have no place here.
    currency : str
        Of the prices.
    """

    name: str
    backend: str
    storage_path: str
    head: NodeGroup = field(default_factory=lambda: NodeGroup(HEAD))
    workers: tuple[NodeGroup, ...] = ()
    settings: Any = None
    install: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    currency: str = "USD"

    @property
    def groups(self) -> tuple[NodeGroup, ...]:
        """The head and the groups of workers."""
        return (self.head, *self.workers)

    @property
    def elastic(self) -> bool:
        """Whether an autoscaler brings and takes nodes."""
        return any(group.max > group.min for group in self.workers)

    def slots(self, cpus_per_trial: int, gpus_per_trial: float) -> int:
        """Return how many trials run at once when all nodes are there."""
        return sum(group.max * group.slots(cpus_per_trial, gpus_per_trial) for group in self.groups)


def read_cluster(path: str | Path) -> ClusterSpec:
    """Read cluster.toml; the paths in it are relative to its folder.

    Raises
    ------
    SpecificationError
        When the file cannot be read, or anything in it is unknown or out of range.
    """
    path = Path(path)
    return parse_cluster(read_toml(path), path.name, path.resolve().parent)


def parse_cluster(content: Mapping[str, Any], source: str, folder: Path) -> ClusterSpec:
    """Turn the content of a cluster.toml into a specification; see `read_cluster`."""
    problems: list[str] = []
    root = Section(content, "", problems)
    backend = root.text("backend", "")
    if backend not in BACKENDS:
        problems.append(unknown_name(str(backend), BACKENDS, "backend"))
    name = root.text("name", Path(source).stem)
    if isinstance(name, str) and not NAME.fullmatch(name):
        problems.append(f"name must be lower-case letters, digits and hyphens, 40 at most, got {name!r}")
    storage_path = root.location("storage_path", folder)
    if not root.values.get("storage_path"):
        problems.append("storage_path is missing: name a folder that every node has, or a URI such as s3://bucket/runs")
    environment = root.section("environment")
    settings: dict[str, Any] = {
        "head": _parse_group(root.section(HEAD), HEAD),
        "workers": _parse_workers(root.section("workers")),
        "install": environment.flag("install", False),
        "variables": _parse_variables(environment.section("variables")),
        "currency": root.text("currency", "USD"),
    }
    if backend in BACKENDS:
        settings["settings"] = backend_module(backend).parse_settings(root.section(backend), folder)
    environment.reject_unknown()
    root.reject_unknown()
    check_no_problems(problems, source)
    return ClusterSpec(name=str(name), backend=str(backend), storage_path=str(storage_path), **settings)


def _parse_workers(section: Section) -> tuple[NodeGroup, ...]:
    groups = []
    for name in section.values:
        if not NAME.fullmatch(name) or name == HEAD:
            section.problems.append(f"{section.place(name)}: a group's name is lower-case letters, digits and hyphens")
        groups.append(_parse_group(section.section(name), name))
    return tuple(groups)


def _parse_group(section: Section, name: str) -> NodeGroup:
    bounds = {}
    if name != HEAD:
        least = section.number("min", 0, Integer(0))
        bounds = {"min": least, "max": section.number("max", max(least, 1), Integer(1))}
        if bounds["max"] < bounds["min"]:
            section.problems.append(f"{section.place('max')} must be >= min ({least}), got {bounds['max']}")
    group = NodeGroup(
        name=name,
        cpus=section.number("cpus", 1, Integer(0 if name == HEAD else 1)),
        gpus=section.number("gpus", 0, Integer(0)),
        memory_gib=section.amount("memory_gib", None),
        machine=section.text("machine", None),
        spot=section.flag("spot", False),
        price_per_hour=section.amount("price_per_hour", 0.0) or 0.0,
        **bounds,
    )
    section.reject_unknown()
    return group


def _parse_variables(section: Section) -> dict[str, str]:
    for name in section.values:
        section.text(name, None)
        if SECRET.search(name):
            section.problems.append(
                f"{section.place(name)} looks like a secret, and what is written here is shown by Ray's job API: "
                "set it in the environment of the nodes"
            )
    return {name: value for name, value in section.values.items() if isinstance(value, str)}
