"""Has a Ray that serves this machine alone listen on 127.0.0.1 alone: on Linux it would listen on every interface.

Ray has no setting for it. `serving.environment` has the part of it that comes before Ray is imported.
"""

from __future__ import annotations

from typing import Any

LOOPBACK = "127.0.0.1"
EVERYWHERE = "[::]"


def keep_ray_to_loopback() -> None:
    """For the process that starts Ray: to be called before."""
    from ray._private import services

    services.get_node_ip_address = lambda address=None: LOOPBACK


def keep_serve_to_loopback() -> None:
    """For a replica: to be called in its constructor, after which Serve opens a port for calls from other replicas."""
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server

    def add_port_here(server: Any, address: str) -> int:
        port: int = add_port(server, address.replace(EVERYWHERE, LOOPBACK))
        return port

    replica.add_port_to_grpc_server = add_port_here
