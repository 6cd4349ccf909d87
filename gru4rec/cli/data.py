"""`gru4rec data`: sample, check and split event logs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gru4rec.cli.options import FILE, FOLDER, json_option, log_format_options
from gru4rec.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from gru4rec.data.leakage import Overlap
    from gru4rec.data.reading import LogFormat
    from gru4rec.data.sessions import Sessions
    from gru4rec.order_check import OrderCheck


@click.group()
def data() -> None:
    """Sample, check and split event logs."""


@data.command()
@click.argument("out", type=FILE)
@click.option("--sessions", default=20_000, show_default=True, help="Number of sessions.")
@click.option("--items", default=2_000, show_default=True, help="Size of the catalogue.")
@click.option("--days", default=14, show_default=True, help="Days over which sessions start.")
@click.option("--seed", default=0, show_default=True)
def sample(out: Path, sessions: int, items: int, days: int, seed: int) -> None:
    """Write a synthetic shop log to OUT (.csv, .tsv or .parquet), with the columns SessionId, ItemId and Time."""
    from gru4rec.data.synthetic import generate_log
    from gru4rec.data.writing import write_log

    frame = generate_log(sessions, items, days, seed)
    write_log(frame, out)
    note(f"wrote {len(frame):,} synthetic events of {sessions:,} sessions to {out}")


@data.command()
@click.argument("log", type=FILE)
@click.option("--test", type=FILE, help="A test log: say whether LOG, as its training log, leaks into it.")
@click.option("--order", is_flag=True, help="Train three small models to see whether the order of events matters.")
@log_format_options
@json_option
def check(log: Path, test: Path | None, order: bool, log_format: LogFormat, as_json: bool) -> None:
    """Read LOG and say what is in it, and what may be wrong with it."""
    from gru4rec.data.leakage import compare_logs, leakage_warnings
    from gru4rec.data.reading import read_log
    from gru4rec.data.summary import summarise

    sessions = read_log(log, log_format)
    summary, warnings = summarise(sessions)
    content: dict[str, Any] = {"summary": summary}
    if test is not None:
        overlap = compare_logs(sessions, read_log(test, log_format))
        content["overlap"] = asdict(overlap)
        warnings += leakage_warnings(overlap)
    if order:
        checked = _check_order(sessions)
        content["order"] = {**asdict(checked), "order_matters": checked.order_matters, "verdict": checked.verdict}
        if not checked.order_matters:
            warnings.append(checked.verdict)
    if as_json:
        print_json({**content, "warnings": warnings})
        return
    print_table([{"figure": name, "value": value} for name, value in summary.items()], ["figure", "value"])
    if test is not None:
        print_table(_overlap_rows(overlap), ["with the test log", "value"])
    if order:
        print_table(_order_rows(checked), ["model", *checked.in_order.metrics])
        if checked.order_matters:
            note(checked.verdict)
    for warning in warnings:
        note(f"warning: {warning}")


def _check_order(sessions: Sessions) -> OrderCheck:
    import torch

    from gru4rec.order_check import check_order

    torch.set_num_threads(1)  # the models are so small that threads would only wait for one another
    return check_order(sessions, say=note)


def _overlap_rows(overlap: Overlap) -> list[dict[str, Any]]:
    figures = {
        "test sessions": overlap.num_test_sessions,
        "that start before the last training session": overlap.num_interleaved_sessions,
        "that start before the last training event": overlap.num_early_sessions,
        "session ids in both logs": overlap.num_shared_sessions,
        "test events": overlap.num_test_events,
        "with items unknown to training": overlap.num_unknown_events,
    }
    return [{"with the test log": name, "value": value} for name, value in figures.items()]


def _order_rows(checked: OrderCheck) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    variants = {"in order": checked.in_order, "last item only": checked.last_item, "shuffled": checked.shuffled}
    for name, figures in variants.items():
        rows.append({"model": name, **figures.metrics})
        for place, end in enumerate(("from", "to")):
            ends = {key: interval[place] for key, interval in figures.intervals.items()}
            rows.append({"model": f"  95 % interval {end}", **ends})
    return rows


@data.command()
@click.argument("log", type=FILE)
@click.option("--out", type=FOLDER, required=True, help="Folder for the parts; it must not exist.")
@click.option("--last-days", type=float, help="Test on sessions that start in the last days of the log.")
@click.option("--share", type=float, help="Test on sessions that start in this last share of the log's time.")
@click.option("--last-item", is_flag=True, help="Test on the last item of each session (leaks through time).")
@click.option("--min-item-support", default=5, show_default=True, help="Drop items with fewer training events.")
@click.option("--min-session-length", default=2, show_default=True, help="Drop shorter training sessions.")
@log_format_options
@json_option
def split(
    log: Path,
    out: Path,
    last_days: float | None,
    share: float | None,
    last_item: bool,
    min_item_support: int,
    min_session_length: int,
    log_format: LogFormat,
    as_json: bool,
) -> None:
    """Split LOG into train_full and test, and train_full the same way into train and validation.

    The parts are .parquet files with the columns SessionId, ItemId and Time, in seconds.
    """
    from gru4rec.data.reading import read_log
    from gru4rec.data.splitting import filter_support, split_last_days, split_last_item, split_time_share
    from gru4rec.data.writing import write_log
    from gru4rec.errors import DataError
    from gru4rec.files import atomic_folder

    if sum((last_days is not None, share is not None, last_item)) != 1:
        raise click.UsageError("name one way to split: --last-days, --share or --last-item")
    if out.exists():
        raise DataError(f"{out} exists already", "choose another folder, nothing there is overwritten")

    def cut(sessions: Sessions) -> tuple[Sessions, Sessions]:
        if last_item:
            train, test = split_last_item(sessions)
        elif share is not None:
            train, test = split_time_share(sessions, share)
        else:
            train, test = split_last_days(sessions, last_days or 0.0)
        return filter_support(train, min_item_support, min_session_length), test

    if last_item:
        note(
            "warning: a split by last item leaks through time: the training parts hold events that happened after the "
            "tested ones, figures may be too good; split by time with --last-days or --share"
        )
    train_full, test = cut(read_log(log, log_format))
    train, validation = cut(train_full)
    parts = {"train_full": train_full, "test": test, "train": train, "validation": validation}
    with atomic_folder(out) as folder:
        for name, part in parts.items():
            write_log(part.to_frame(), folder / f"{name}.parquet")
    columns = ["part", "sessions", "events", "targets"]
    rows = [
        dict(zip(columns, (name, part.num_sessions, part.num_events, part.num_targets), strict=True))
        for name, part in parts.items()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, columns)
