"""Node-hours and money, worked out by hand."""

from __future__ import annotations

import pytest

from cluster.account import NodeTime, estimate_account, make_account
from cluster.spec import ClusterSpec, NodeGroup
from tuning.estimate import Cost
from tuning.space import Space
from tuning.spec import SearchSpec

GROUPS = (NodeGroup("small", cpus=4, min=0, max=3, price_per_hour=0.5),)
CLUSTER = ClusterSpec("shop", "local", "/runs", NodeGroup("head", cpus=0, price_per_hour=0.1), GROUPS)


def test_an_account():
    nodes = [NodeTime("h", "head-1", "head", 0, 0.0, 7200.0), NodeTime("w", "w-1", "small", 4, 0.0, 3600.0)]
    epochs = [{"trial": 0, "node": "w", "epoch_seconds": 3600.0}, {"trial": 1, "node": "w", "epoch_seconds": 1800.0}]
    account = make_account(nodes, epochs, {"head": 0.1, "small": 0.5}, "EUR")
    assert account.node_hours == 3.0
    assert account.cost == pytest.approx(2 * 0.1 + 0.5)
    assert [row["node_hours"] for row in account.trials] == [0.25, 0.125]  # one of the node's four slots
    assert account.trials[0]["cost"] == 0.125
    assert account.used == 0.375


def test_an_estimate_brings_no_more_nodes_than_trials_can_use():
    search = SearchSpec(Space(()), trials=8)
    cost = Cost(8, 80, 80, 90.0, 90.0, 90.0, 2, 3600.0)  # 7,200 seconds of one worker
    estimate = estimate_account(CLUSTER, search, cost)
    assert (estimate.slots, estimate.hours) == (8, 0.25)
    assert estimate.node_hours == 3 * 0.25  # the head and two of the three workers
    assert estimate.cost == pytest.approx(0.25 * (0.1 + 2 * 0.5))
    assert "0.25 hours with 8 trials at a time" in estimate.render()
