"""`gru4rec serve`: a model folder over HTTP."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import click

from gru4rec.cli.options import DURATION, FILE, FOLDER
from gru4rec.cli.output import note


class Replicas(click.ParamType):  # type: ignore[type-arg]
    """A number, or 'auto' for as many as there are CPUs."""

    name = "replicas"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "auto":
            return None
        if not str(value).isdecimal() or int(str(value)) < 1:
            self.fail(f"{value!r} is neither 'auto' nor a whole number from 1", param, ctx)
        return int(str(value))


REPLICAS = Replicas()


@click.command()
@click.argument("model", type=FOLDER)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; beyond loopback with a token."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--replicas", type=REPLICAS, default="1", show_default=True, help="Processes, or auto: what CPUs allow.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads per replica.")
@click.option("--token-file", type=FILE, help="File with the token of requests; default: GRU4REC_SERVE_TOKEN.")
@click.option("--address", help="A running Ray cluster, whose nodes can read MODEL; default: this machine.")
@click.option(
    "--max-in-flight", type=click.IntRange(1), default=256, show_default=True, help="Requests at once, per replica."
)
@click.option("--timeout", "timeout_s", type=DURATION, default="10s", show_default=True, help="Of a request.")
def serve(
    model: Path,
    host: str,
    port: int,
    replicas: int | None,
    threads: int,
    token_file: Path | None,
    address: str | None,
    max_in_flight: int,
    timeout_s: float,
) -> None:
    """Answer requests for recommendations by the folder MODEL over HTTP, until Ctrl-C or SIGTERM."""
    from serving.access import check_access, read_token
    from serving.environment import private_ray_environment
    from serving.requests import Limits
    from serving.settings import Settings
    from serving.signals import ended_in_order

    token_digest = read_token(token_file)
    check_access(host, port, token_digest, here=address is None)
    from serving.recommender import load_recommender  # imports torch, which takes seconds

    model = model.resolve()
    digest = load_recommender(model).digest  # a bad folder is refused before anything is started
    with ended_in_order(), ExitStack() as running:
        if address is None:
            running.enter_context(private_ray_environment())
        from serving import runtime  # imports Ray, which reads the environment

        replicas = running.enter_context(runtime.joined_ray(address, replicas, threads))
        running.enter_context(ended_in_order())  # Ray has put a handler of its own in the place of ours
        limits = Limits(max_in_flight=max_in_flight, timeout_s=timeout_s)
        settings = Settings(host, port, replicas, threads, address is None, token_digest, limits)
        note(f"starting {replicas} {'replica' if replicas == 1 else 'replicas'}")
        running.enter_context(runtime.deployed(settings, model, digest))
        note(f"serving {model} at http://{host}:{port}")
        signal.pause()
