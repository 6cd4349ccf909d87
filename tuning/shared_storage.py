"""Whether all nodes of a cluster have the storage of checkpoints: known before a trial is lost over it."""

from __future__ import annotations

import uuid
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gru4rec.errors import StorageError
from tuning.storage import Storage

SECONDS_TO_ANSWER = 60.0


def check_shared(location: str) -> None:
    """Write a file to a storage, and have every living node of the Ray of this process look for it.

    Raises
    ------
    StorageError
        When a node does not see it.
    """
    storage, name = Storage(location), f".check-{uuid.uuid4().hex}"
    storage.write(name, b"")
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        looks = [_on_node(node["NodeID"]).remote(location, name) for node in nodes]
        for node, look in zip(nodes, looks, strict=True):
            if not _answer(look):
                raise StorageError(
                    f"{location} on node {node['NodeManagerAddress']} is another place than here, "
                    "so that a trial of a lost node could not go on elsewhere",
                    "give --storage a folder that all nodes have, or a URI such as s3://bucket/checkpoints",
                )
    finally:
        storage.remove(name)


def _on_node(node_id: str) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(_sees)


def _answer(look: Any) -> bool:
    """Return whether the storage is seen; of a node that is lost meanwhile, or does not answer, the best is assumed."""
    try:
        return bool(ray.get(look, timeout=SECONDS_TO_ANSWER))
    except ray.exceptions.RayError:
        return True


def _sees(location: str, name: str) -> bool:
    try:
        return Storage(location).exists(name)
    except StorageError:
        return False
