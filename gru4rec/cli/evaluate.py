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
    """Evaluate the folder MODEL on LOG: the next item of every step, ranked among all items.

    The rows below the model's are the 95 % interval, by resampling sessions, and the figures where next items that the
    model cannot rank, because items are unknown to it, count as misses.
    """
    from gru4rec.baselines import BASELINES
    from gru4rec.data.leakage import compare_logs, leakage_warnings
    from gru4rec.data.reading import read_log
    from gru4rec.device import resolve_device
    from gru4rec.evaluation import rankable_sessions
    from gru4rec.metrics import compute_metrics, metric_keys
    from gru4rec.model_folder import load_model
    from gru4rec.protocol import describe_protocol, render_protocol

    keys = metric_keys(cutoffs)
    loaded = load_model(model, resolve_device(device))
    sessions = read_log(log, log_format)
    result = loaded.evaluate(sessions, keys, steps)
    baselines, overlap = {}, None
    if train is not None:
        whole = read_log(train, log_format)
        overlap = compare_logs(whole, sessions)
        history, _ = whole.with_items_of(loaded.items)
        known, _ = rankable_sessions(sessions, loaded.items, steps)
        baselines = {name: compute_metrics(rank(history, known, steps), keys) for name, rank in BASELINES.items()}
    protocol = describe_protocol(
        result,
        steps=steps,
        cutoffs=cutoffs,
        num_items=len(loaded.items),
        num_events=sessions.num_events,
        overlap=overlap,
    )
    warnings = leakage_warnings(overlap) if overlap else []
    if as_json:
        print_json({**asdict(result), "baselines": baselines, "protocol": protocol, "warnings": warnings})
        return
    rows: list[dict[str, Any]] = [
        {"model": str(model), **result.metrics},
        {"model": "  95 % interval from", **{key: low for key, (low, _) in result.intervals.items()}},
        {"model": "  95 % interval to", **{key: high for key, (_, high) in result.intervals.items()}},
        {"model": "  with misses", **result.metrics_with_misses},
        *({"model": name, **figures} for name, figures in baselines.items()),
    ]
    print_table(rows, ["model", *keys])
    note(render_protocol(protocol))
    for warning in warnings:
        note(f"warning: {warning}")
