"""`gru4rec evaluate`: figures of a model on a log, beside baselines."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gru4rec.cli.options import FILE, FOLDER, device_option, json_option, log_format_options, threads_option
from gru4rec.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from gru4rec.data.reading import LogFormat


@click.command()
@click.argument("model", type=FOLDER)
@click.argument("log", type=FILE)
@click.option("--train", type=FILE, help="The model's training log: adds the popularity and Markov baselines.")
@click.option("--cutoff", "cutoffs", type=click.IntRange(1), multiple=True, default=(20,), show_default=True)
@click.option("--steps", type=click.Choice(["all", "last"]), default="all", show_default=True, help="Steps to rank.")
@threads_option
@device_option
@log_format_options
@json_option
def evaluate(
    model: Path,
    log: Path,
    train: Path | None,
    cutoffs: tuple[int, ...],
    steps: Any,
    device: str,
    log_format: LogFormat,
    as_json: bool,
) -> None:
    """Evaluate the folder MODEL on LOG: the next item of every step, ranked among all items."""
    from gru4rec.baselines import BASELINES
    from gru4rec.data.reading import read_log
    from gru4rec.device import resolve_device
    from gru4rec.metrics import compute_metrics, metric_keys
    from gru4rec.model_folder import load_model

    keys = metric_keys(cutoffs)
    loaded = load_model(model, resolve_device(device))
    sessions = read_log(log, log_format)
    result = loaded.evaluate(sessions, keys, steps)
    rows = [{"model": str(model), **result.metrics}]
    if train is not None:
        history, _ = read_log(train, log_format).with_items_of(loaded.items)
        known, _ = sessions.with_items_of(loaded.items)
        for name, rank in BASELINES.items():
            rows.append({"model": name, **compute_metrics(rank(history, known, steps), keys)})
    if as_json:
        print_json({**asdict(result), "baselines": {row["model"]: row for row in rows[1:]}})
        return
    print_table(rows, ["model", *keys])
    note(
        f"{result.num_targets:,} targets ranked among {len(loaded.items):,} items, steps: {steps}; "
        f"{result.num_tied:,} tied, counted against the model; "
        f"{result.num_unknown_events:,} of {sessions.num_events:,} events left out: item unknown to the model"
    )
