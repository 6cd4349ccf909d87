"""What a search costs: node-hours and money, estimated before and accounted after, by the prices of cluster.toml."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray

from cluster.spec import ClusterSpec
from tuning.estimate import Cost
from tuning.ray_runtime import trials_that_fit
from tuning.spec import SearchSpec

GROUP_LABEL = "ray.io/node-group"
SECONDS_BETWEEN_LOOKS = 5.0
HOUR = 3600.0


@dataclass
class NodeTime:
    """How long a node was seen.

    Parameters
    ----------
    node : str
        Its id.
    name, group : str
    slots : int
        Trials that it holds at once.
    first_s, last_s : float
        Seconds since the epoch at which it was first and last seen.
    """

    node: str
    name: str
    group: str
    slots: int
    first_s: float
    last_s: float

    @property
    def hours(self) -> float:
        return (self.last_s - self.first_s) / HOUR


class NodeWatch:
    """Looks now and then which nodes are there, from `start` to `stop`."""

    def __init__(self, spec: SearchSpec) -> None:
        self.nodes: dict[str, NodeTime] = {}
        self._spec = spec
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[NodeTime]:
        """Return the nodes that were seen."""
        self._stopped.set()
        self._thread.join()
        return list(self.nodes.values())

    def _run(self) -> None:
        while not self._stopped.wait(SECONDS_BETWEEN_LOOKS if self.nodes else 0.2):
            if ray.is_initialized():
                self._look()

    def _look(self) -> None:
        now = time.time()
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            resources = node["Resources"]
            seen = self.nodes.setdefault(
                node["NodeID"],
                NodeTime(
                    node["NodeID"],
                    node.get("NodeName", node["NodeManagerAddress"]),
                    (node.get("Labels") or {}).get(GROUP_LABEL, "-"),
                    trials_that_fit(
                        resources.get("CPU", 0.0),
                        resources.get("GPU", 0.0),
                        self._spec.cpus_per_trial,
                        self._spec.gpus_per_trial,
                    ),
                    now,
                    now,
                ),
            )
            seen.last_s = now


@dataclass
class Account:
    """The account of a search.

    Parameters
    ----------
    currency : str
    nodes : list of dict
        'node', 'group', 'hours', 'cost' of each.
    trials : list of dict
        'trial', 'node_hours', 'cost': its share of the nodes that it trained on.
    node_hours, cost : float
        Of all nodes, from when they were first seen to when they were last seen.
    used : float
        The share of the node-hours of nodes with slots that trials used.
    """

    currency: str
    nodes: list[dict[str, Any]] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    node_hours: float = 0.0
    cost: float = 0.0
    used: float = 0.0


def make_account(
    nodes: Iterable[NodeTime], epochs: Iterable[Mapping[str, Any]], prices: Mapping[str, float], currency: str
) -> Account:
    """Return the account of a search from the nodes that were there and the lines of its epochs.ndjson."""
    nodes = list(nodes)
    by_id = {node.node: node for node in nodes}
    trials: dict[int, dict[str, Any]] = {}
    for epoch in epochs:
        node = by_id.get(epoch["node"])
        if node is None or node.slots == 0:
            continue
        share = epoch["epoch_seconds"] / HOUR / node.slots
        row = trials.setdefault(epoch["trial"], {"trial": epoch["trial"], "node_hours": 0.0, "cost": 0.0})
        row["node_hours"] += share
        row["cost"] += share * prices.get(node.group, 0.0)
    rows: list[dict[str, Any]] = [
        {"node": node.name, "group": node.group, "hours": node.hours, "cost": node.hours * prices.get(node.group, 0.0)}
        for node in nodes
    ]
    able = sum(node.hours for node in nodes if node.slots)
    return Account(
        currency,
        rows,
        [trials[number] for number in sorted(trials)],
        sum(row["hours"] for row in rows),
        sum(row["cost"] for row in rows),
        min(1.0, sum(row["node_hours"] for row in trials.values()) / able) if able else 0.0,
    )


def write_account(account: Account, path: Path) -> None:
    """Write an account as JSON."""
    path.write_text(json.dumps(asdict(account), indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Estimate:
    """What a search will cost on a cluster, judged by this machine's speed.

    Parameters
    ----------
    hours : float
        From its first trial to its last.
    slots : int
        Trials at once.
    node_hours : float
    cost : float
    currency : str
    """

    hours: float
    slots: int
    node_hours: float
    cost: float
    currency: str

    def render(self) -> str:
        """Return the estimate as a sentence."""
        return (
            f"estimate: {self.hours:.2f} hours with {self.slots} trials at a time, {self.node_hours:.2f} node-hours, "
            f"{self.cost:.2f} {self.currency} (nodes as fast as this machine; starting them comes on top)"
        )


def estimate_account(cluster: ClusterSpec, search: SearchSpec, cost: Cost) -> Estimate:
    """Return the estimate: groups are filled in their order, as far as the trials go."""
    limit = search.trials if search.max_concurrent_trials == "auto" else search.max_concurrent_trials
    wanted = min(limit, search.trials)
    worker_s = cost.search_s * cost.trials_at_once
    slots, nodes, price = 0, 0, 0.0
    for group in cluster.groups:
        each = group.slots(search.cpus_per_trial, search.gpus_per_trial)
        needed = -(-max(0, wanted - slots) // each) if each else 0
        count = min(group.max, max(group.min, needed))
        slots, nodes, price = slots + count * each, nodes + count, price + count * group.price_per_hour
    slots = max(1, min(slots, wanted))
    hours = worker_s / slots / HOUR
    return Estimate(hours, slots, nodes * hours, price * hours, cluster.currency)
