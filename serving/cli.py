"""`gru4rec serve`: a model folder over HTTP."""

from __future__ import annotations

import os
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


@click.command()
@click.argument("model", type=FOLDER)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; others than this machine's own need a token.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--replicas", type=Replicas(), default="1", show_default=True, help="Processes that answer; auto: one per CPU."
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of torch, per replica."
)
@click.option("--token-file", type=FILE, help="File with the token that requests must carry; else GRU4REC_SERVE_TOKEN.")
@click.option("--address", help="A running Ray cluster, whose nodes can read MODEL; default: this machine.")
@click.option(
    "--max-in-flight",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Requests at once, per replica; more are refused.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=DURATION,
    default="10s",
    show_default=True,
    help="Give up a request after e.g. 500ms, 2s.",
)
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
    from serving.recommender import load_recommender
    from serving.requests import Limits
    from serving.settings import Settings
    from serving.signals import ended_in_order

    token_digest = read_token(token_file)
    check_access(host, port, token_digest, here=address is None)
    model = model.resolve()
    digest = load_recommender(model).digest  # a bad folder is refused before anything is started
    with ended_in_order(), ExitStack() as running:
        if address is None:
            running.enter_context(private_ray_environment())
        from serving import runtime  # imports Ray, which reads the environment

        replicas = running.enter_context(runtime.joined_ray(address, replicas, threads))
        limits = Limits(max_in_flight=max_in_flight, timeout_s=timeout_s)
        settings = Settings(host, port, replicas, threads, token_digest, limits)
        note(f"starting {replicas} {'replica' if replicas == 1 else 'replicas'}")
        running.enter_context(runtime.deployed(settings, model, digest))
        note(f"serving {model} at http://{host}:{port}")
        signal.pause()
