"""`gru4rec tune`: check, run, show and export searches."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gru4rec.cli.options import FILE, FOLDER, json_option
from gru4rec.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from tuning.result import SearchResult


official_space_option = click.option(
    "--official-space", type=FILE, help="Parameter space of the authors' GRU4Rec; it replaces [space]."
)


@click.group()
def tune() -> None:
    """Search hyperparameters with Ray Tune, Optuna and ASHA."""


@tune.command()
@click.argument("spec", type=FILE)
@official_space_option
@json_option
def check(spec: Path, official_space: Path | None, as_json: bool) -> None:
    """Check the file SPEC (search.toml) and its logs, and print it as resolved."""
    from tuning.search import make_task, read_data
    from tuning.spec import read_spec, render_spec, to_dict

    specification = read_spec(spec, official_space)
    task = make_task(specification, read_data(specification))
    if as_json:
        print_json(to_dict(specification))
        return
    click.echo(render_spec(specification), nl=False)
    note(
        f"train: {task.train.num_sessions:,} sessions, {task.train.num_targets:,} targets, "
        f"{task.train.num_items:,} items; validation: {task.validation.num_targets:,} targets of known items"
    )


@tune.command()
@click.argument("spec", type=FILE)
@click.option("--out", type=FOLDER, required=True, help="Result folder; it must not exist, or be empty.")
@click.option("--address", help="A running Ray cluster, e.g. 10.0.0.1:6379 or auto; default: this machine.")
@official_space_option
@click.option("-v", "--verbose", is_flag=True, help="Let Ray print here instead of to OUT/ray.log.")
@json_option
def run(spec: Path, out: Path, address: str | None, official_space: Path | None, verbose: bool, as_json: bool) -> None:
    """Run the search of SPEC (search.toml), write the folder OUT, and export the best model to OUT/best."""
    from tuning.result import result_folder
    from tuning.search import make_task, read_data, search_into
    from tuning.spec import read_spec
    from tuning.terminal import ProgressLine, captured_output

    specification = read_spec(spec, official_space)
    data = read_data(specification)
    task = make_task(specification, data)
    with (
        result_folder(out, specification) as path,
        nullcontext(sys.stderr) if verbose else captured_output(path / "ray.log") as terminal,
    ):
        line = ProgressLine(terminal, specification.criterion.metric)
        result = search_into(path, specification, data, task, address=address, on_progress=line.show, on_stage=line.say)
    _print_result(result, as_json)
    note(f"wrote {path}; the best model is {result.best_model}")
    if result.interrupted:
        raise click.Abort


@tune.command()
@click.argument("folder", type=FOLDER)
@click.option("--top", default=10, show_default=True, help="Trials to show.")
@json_option
def results(folder: Path, top: int, as_json: bool) -> None:
    """Show the leaderboard of the result folder FOLDER."""
    from tuning.result import load_result

    _print_result(load_result(folder), as_json, top)


@tune.command()
@click.argument("folder", type=FOLDER)
@click.option("--trial", "number", type=int, help="Number of the trial; default: the best.")
@click.option("--out", type=FOLDER, required=True, help="Model folder to write; it must not exist.")
def export(folder: Path, number: int | None, out: Path) -> None:
    """Train a trial of the result folder FOLDER at its best epoch, and write its model folder."""
    from gru4rec.errors import ModelFolderError
    from tuning.result import load_result
    from tuning.search import export_trial, read_data

    if out.exists():
        raise ModelFolderError(f"{out} exists already", "choose another --out")
    result = load_result(folder)
    trial = result.best if number is None else result.trial(number)
    note(f"wrote {export_trial(result, trial, out, read_data(result.spec), note)}")


def _print_result(result: SearchResult, as_json: bool, top: int = 10) -> None:
    import json

    rows: list[dict[str, Any]] = [
        {
            "trial": record.number,
            **record.metrics,
            "best_epoch": record.best_epoch,
            "epochs": record.epochs,
            "state": record.state,
            "seconds": record.seconds,
            **record.hyperparameters,
        }
        for record in result.leaderboard()
    ]
    metrics_file = result.best_model / "metrics.json"
    figures = json.loads(metrics_file.read_text(encoding="utf-8")) if metrics_file.exists() else {}
    if as_json:
        print_json({"folder": str(result.path), "trials": rows, "best": figures})
        return
    metrics = list(result.best.metrics)
    searched = [dimension.name for dimension in result.spec.space.dimensions]
    shown = [
        name for name in ("loss_fn", "hidden_size", "batch_size", "num_negatives", "learning_rate") if name in searched
    ]
    print_table(rows[:top], ["trial", *metrics, "best_epoch", "epochs", "state", *shown])
    if "test" in figures:
        click.echo("")
        table = [{"model on the test log": "best", **figures["test"]["metrics"]}]
        table += [{"model on the test log": name, **values} for name, values in figures["baselines"].items()]
        print_table(table, list(table[0]))
