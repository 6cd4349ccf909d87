"""`gru4rec recommend`: the best next items of each session of a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gru4rec.cli.options import FILE, FOLDER, device_option, json_option, log_format_options, threads_option
from gru4rec.cli.output import note, print_json

if TYPE_CHECKING:
    from gru4rec.data.reading import LogFormat


@click.command()
@click.argument("model", type=FOLDER)
@click.argument("log", type=FILE)
@click.option("--k", default=20, show_default=True, help="Items per session.")
@click.option("--exclude-seen", is_flag=True, help="Leave out items that are in the session already.")
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
    out: Path | None,
    device: str,
    log_format: LogFormat,
    as_json: bool,
) -> None:
    """Recommend next items for each session of LOG with the folder MODEL: session, rank, item, score as CSV."""
    from gru4rec.data.reading import read_log
    from gru4rec.data.writing import write_log
    from gru4rec.device import resolve_device
    from gru4rec.model_folder import load_model

    result = load_model(model, resolve_device(device)).recommend(read_log(log, log_format), k, exclude_seen)
    if result.num_unknown_events:
        note(f"left out {result.num_unknown_events:,} events whose item the model does not know")
    silent = result.sessions_without_known_items
    if len(silent):
        shown = ", ".join(map(str, silent[:5])) + (", ..." if len(silent) > 5 else "")
        note(f"no recommendation for {len(silent):,} sessions without a known item: {shown}")
    if out is not None:
        write_log(result.table, out)
        note(f"wrote {len(result.table):,} recommendations to {out}")
    elif as_json:
        print_json(result.table.to_dict(orient="records"))
    else:
        click.echo(result.table.to_csv(index=False), nl=False)
