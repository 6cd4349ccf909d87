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

from gru4rec.errors import ClusterError
from gru4rec.files import first_line
from serving.loopback import LOOPBACK, keep_ray_to_loopback
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
    """Start Ray on 127.0.0.1; what it reads from the environment is `serving.environment`.

    Raises
    ------
    ClusterError
        When it does not start in time.
    """
    keep_ray_to_loopback()
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init("local", num_cpus=cpus, _node_ip_address=LOOPBACK, **quiet)
    except Exception as error:  # Ray raises just that when its start takes more than half a minute
        ray.shutdown()
        raise ClusterError(f"Ray did not start: {first_line(error)}", "is the machine busy? try again") from error


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
    try:
        start_replicas(settings)
        yield
    finally:
        serve.delete(APPLICATION)


def start_replicas(settings: Settings) -> None:
    """Deploy the application, and wait for its replicas.

    Raises
    ------
    ClusterError
        When they do not start.
    """
    try:
        serve.run(make_application(settings), name=APPLICATION, route_prefix=None)
    except RuntimeError as error:
        hint = "can all nodes read the model, and listen on the host and port?"
        raise ClusterError(f"the replicas did not start: {first_line(error)}", hint) from error
