"""`gru4rec recommend`: the best next items of each session of a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gru4rec.cli.options import FILE, FOLDER, device_option, json_option, log_format_options, threads_option
from gru4rec.cli.output import note, print_json

if TYPE_CHECKING:
    import pandas as pd

    from gru4rec.data.reading import LogFormat
    from gru4rec.data.sessions import Sessions
    from gru4rec.model import Fallback, Model

PROGRESS_EVERY_S = 10.0
NAMED = 5


@click.command()
@click.argument("model", type=FOLDER)
@click.argument("log", type=FILE)
@click.option("--k", default=20, show_default=True, help="Items per session.")
@click.option("--exclude-seen", is_flag=True, help="Leave out items that are in the session already.")
@click.option(
    "--fallback",
    type=click.Choice(["popular", "none"]),
    default="popular",
    show_default=True,
    help="What sessions without a known item get.",
)
@click.option("--out", type=FILE, help="Write a .csv, .tsv or .parquet file instead of printing.")
@threads_option
@device_option
@log_format_options
@json_option
def recommend(
    model: Path,
    log: Path,
    k: int,
    exclude_seen: bool,
    fallback: Fallback,
    out: Path | None,
    device: str,
    log_format: LogFormat,
    as_json: bool,
) -> None:
    """Recommend next items for each session of LOG with the folder MODEL: session, rank, item, score, source as CSV.

    A log in which the events of each session stand together is read, and written, in parts: memory is bounded. Sessions
    of a part are in order of their start. Any other log is read whole.
    """
    from gru4rec.data.reading_parts import read_parts
    from gru4rec.data.writing import write_parts
    from gru4rec.device import resolve_device
    from gru4rec.model_folder import load_model

    work = _Work(load_model(model, resolve_device(device)), k, exclude_seen, fallback)
    tables = work.tables(read_parts(log, log_format))
    if out is not None:
        write_parts(tables, out)
    elif as_json:
        print_json([row for table in tables for row in table.to_dict(orient="records")])
    else:
        for number, table in enumerate(tables):
            click.echo(table.to_csv(index=False, header=number == 0), nl=False)
    work.tell()
    if out is not None:
        note(f"wrote {work.num_rows:,} recommendations to {out}")


class _Work:
    """Recommends part by part, and counts what there is to tell."""

    def __init__(self, model: Model, k: int, exclude_seen: bool, fallback: Fallback) -> None:
        self.model = model
        self.arguments: tuple[Any, ...] = (k, exclude_seen, fallback)
        self.has_fallback = fallback == "popular" and model.support is not None
        self.num_sessions = self.num_rows = self.num_unknown_events = self.num_silent = 0
        self.silent: list[str] = []

    def tables(self, parts: Iterator[Sessions]) -> Iterator[pd.DataFrame]:
        began = told = time.monotonic()
        for part in parts:
            result = self.model.recommend(part, *self.arguments)
            self.num_sessions += part.num_sessions
            self.num_rows += len(result.table)
            self.num_unknown_events += result.num_unknown_events
            self.num_silent += len(result.sessions_without_known_items)
            self.silent += map(str, result.sessions_without_known_items[: NAMED - len(self.silent)])
            yield result.table
            if (now := time.monotonic()) > told + PROGRESS_EVERY_S:
                told = now
                note(f"{self.num_sessions:,} sessions, {self.num_sessions / (now - began):,.0f} a second")

    def tell(self) -> None:
        if self.num_unknown_events:
            note(f"left out {self.num_unknown_events:,} events whose item the model does not know")
        if self.num_silent:
            shown = ", ".join(self.silent) + (", ..." if self.num_silent > len(self.silent) else "")
            what = "popular items" if self.has_fallback else "no recommendation"
            note(f"{what} for {self.num_silent:,} sessions without a known item: {shown}")
