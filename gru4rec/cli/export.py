"""`gru4rec export`: a model as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gru4rec.cli.options import FILE, FOLDER, json_option, log_format_options, threads_option
from gru4rec.cli.output import note, print_json

if TYPE_CHECKING:
    from gru4rec.data.reading import LogFormat
    from gru4rec.onnx_graph import Kind


@click.command()
@click.argument("model", type=FOLDER)
@click.argument("out", type=FILE, required=False)
@click.option("--stateful", is_flag=True, help="Write to OUT the graph of one step, which is given the state.")
@click.option("--int8", "log", type=FILE, help="Also have tables in bytes, if those rank this log as well.")
@threads_option
@log_format_options
@json_option
def export(
    model: Path, out: Path | None, stateful: bool, log: Path | None, log_format: LogFormat, as_json: bool
) -> None:
    """Write the folder MODEL as ONNX, to the file OUT, with the items and what was measured beside it.

    Without OUT the folder itself gets the graphs of whole sessions and of one step. Every graph is compared with the
    model before anything is written. With --int8, OUT is the graph with tables in bytes.
    """
    if stateful and out is None:
        raise click.UsageError("--stateful goes with OUT; without it the folder gets both graphs")
    if stateful and log is not None:
        raise click.UsageError("--int8 is for whole sessions, not for --stateful")

    from gru4rec.data.reading import read_log
    from gru4rec.export import add_onnx, export_onnx
    from gru4rec.model_folder import load_model

    sessions = None if log is None else read_log(log, log_format)
    if out is None:
        report, place = add_onnx(model, sessions), model / "onnx"
    else:
        kind: Kind = "step" if stateful else "model" if log is None else "int8"
        report, place = export_onnx(load_model(model), out, kind, sessions), out.parent
    if as_json:
        print_json(report)
        return
    for name, measured in report["files"].items():
        error = max(parity["max_error"] for parity in measured["parity"])
        note(f"wrote {place / name}: scores within {error:.1e} of the model's")
        if quality := measured.get("quality"):
            figures = ", ".join(
                f"{name}@20 {quality[name]:.4f} (the model's {quality[f'{name}_before']:.4f})"
                for name in ("recall", "mrr")
            )
            note(f"  {quality['overlap']:.1%} of its first 20 items are the model's, {figures}")
