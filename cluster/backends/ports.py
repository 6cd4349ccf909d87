"""Free ports of this machine, for tunnels and for local nodes."""

from __future__ import annotations

import socket

from cluster.backends.loopback_node import LOOPBACK

WORKER_PORTS = range(10002, 20000)  # those that Ray gives its workers by itself


def free_port() -> int:
    """Return a port of the loopback address on which nothing listens, none of those of Ray's workers."""
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        if port not in WORKER_PORTS:
            return port
