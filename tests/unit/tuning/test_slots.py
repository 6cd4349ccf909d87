"""How many trials run at once, as nodes join and leave."""

from __future__ import annotations

import pytest
import ray

from gru4rec.errors import ClusterError
from tuning import ray_runtime
from tuning.ray_runtime import Slots
from tuning.space import Space
from tuning.spec import SearchSpec

SPEC = SearchSpec(Space(()), trials=10, cpus_per_trial=2)


@pytest.fixture
def nodes(monkeypatch):
    """Nodes as Ray lists them: (alive, CPUs, GPUs); each count looks anew."""
    listed: list[tuple[bool, int, int]] = []
    monkeypatch.setattr(ray_runtime, "SECONDS_BETWEEN_COUNTS", 0.0)
    monkeypatch.setattr(
        ray, "nodes", lambda: [{"Alive": alive, "Resources": {"CPU": c, "GPU": g}} for alive, c, g in listed]
    )
    return listed


def test_nodes_that_join_and_leave(nodes):
    nodes += [(True, 4, 0), (True, 3, 0), (False, 64, 0)]
    slots = Slots(SPEC)
    assert slots.now() == 3
    nodes.append((True, 8, 0))
    assert slots.now() == 7
    nodes.append((True, 64, 0))
    assert slots.now() == 10  # no more than there are trials
    nodes.clear()
    assert slots.now() == 1  # others may come


def test_a_limit_of_the_specification(nodes):
    nodes.append((True, 64, 0))
    assert Slots(SearchSpec(Space(()), trials=10, max_concurrent_trials=4)).now() == 4


def test_parts_of_gpus(nodes):
    nodes += [(True, 16, 2), (True, 16, 0)]
    assert Slots(SearchSpec(Space(()), trials=10, gpus_per_trial=0.5)).now() == 4


def test_an_autoscaler_is_asked_for_what_trials_can_use(nodes):
    assert Slots(SPEC, fixed=6).now() == 6
    assert Slots(SPEC, fixed=600).now() == 10


def test_no_node_is_large_enough(nodes):
    nodes.append((True, 1, 0))
    with pytest.raises(ClusterError, match="a trial needs 2 CPUs and 0 GPUs, the largest node has 1 and 0"):
        Slots(SPEC)
