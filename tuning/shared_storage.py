"""Whether all nodes of a cluster have the storage of checkpoints: known before a trial is lost over it."""

from __future__ import annotations

import uuid

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
        looks = [
            ray.remote(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))(
                _sees
            )
            for node in nodes
        ]
        seen = ray.get([look.remote(location, name) for look in looks], timeout=SECONDS_TO_ANSWER)
    finally:
        storage.remove(name)
    for node, sees in zip(nodes, seen, strict=True):
        if not sees:
            raise StorageError(
                f"{location} on node {node['NodeManagerAddress']} is another place than here, "
                "so that a trial of a lost node could not go on elsewhere",
                "give --storage a folder that all nodes have, or a URI such as s3://bucket/checkpoints",
            )


def _sees(location: str, name: str) -> bool:
    try:
        return Storage(location).exists(name)
    except StorageError:
        return False
