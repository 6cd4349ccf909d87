"""From settings to running replicas, and back: Ray started here or joined, the application deployed and taken down."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray import serve
from ray._private import services

from gru4rec.errors import ClusterError
from gru4rec.files import first_line
from serving.listener import LOOPBACK
from serving.replica import APPLICATION, make_application
from serving.settings import Settings
from serving.target import Target, write_target

SECONDS_TO_CONNECT = 10.0


@contextmanager
def joined_ray(address: str | None, replicas: int | None, threads: int) -> Iterator[int]:
    """Be part of a Ray for the time of the context: a private one on 127.0.0.1, or the cluster at an address.

    Yields the number of replicas: `replicas`, or as many as have the CPUs they need.

    Raises
    ------
    ClusterError
        When no cluster answers at the address.
    """
    if address is None:
        replicas = replicas or max(1, len(os.sched_getaffinity(0)) // threads)
        start_private_ray(replicas * threads)
    else:
        join_cluster(address)
        replicas = replicas or max(1, sum(int(node["Resources"].get("CPU", 0)) // threads for node in ray.nodes()))
    try:
        yield replicas
    finally:
        ray.shutdown()


def start_private_ray(cpus: int) -> None:
    """Start Ray on 127.0.0.1; what it reads from the environment is `serving.environment`."""
    services.get_node_ip_address = lambda address=None: LOOPBACK
    ray.init(
        "local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
    )


def join_cluster(address: str) -> None:
    """Join a running Ray cluster.

    Raises
    ------
    ClusterError
        When it cannot be reached.
    """
    hint = "is it running, does RAY_AUTH_TOKEN_PATH name its token, does it run this version of Ray?"
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself takes minutes to give up
            socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {first_line(error)}", hint) from error


@contextmanager
def deployed(settings: Settings, model: Path, digest: str) -> Iterator[None]:
    """Run the replicas for the time of the context; it is entered when all of them answer.

    Raises
    ------
    ClusterError
        When they do not start.
    """
    write_target(Target(str(model), digest))
    serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING", "enable_access_log": False})
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        serve.run(make_application(settings), name=APPLICATION, route_prefix=None)
        yield
    except RuntimeError as error:
        raise ClusterError(
            f"the replicas did not start: {first_line(error)}", "can all nodes read the model and listen on the port?"
        ) from error
    finally:
        serve.delete(APPLICATION)
