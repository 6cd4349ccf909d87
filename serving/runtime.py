"""From settings to running replicas, and back: Ray started here or joined, the application deployed and taken down."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve
from ray._private import services

from serving.replica import APPLICATION, make_application
from serving.settings import Settings
from serving.target import Target, write_target

LOOPBACK = "127.0.0.1"


@contextmanager
def private_ray(cpus: int) -> Iterator[None]:
    """Start Ray on 127.0.0.1 for the time of the context; `serving.environment` has been there before."""
    services.get_node_ip_address = lambda address=None: LOOPBACK
    ray.init(
        "local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
    )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def deployed(settings: Settings, target: Target) -> Iterator[None]:
    """Run the replicas for the time of the context; it is entered when all of them answer."""
    write_target(target)
    try:
        serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING", "enable_access_log": False})
        serve.run(make_application(settings), name=APPLICATION, route_prefix=None)
        yield
    finally:
        serve.shutdown()
