"""`gru4rec tune`: check, run, show and export searches."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gru4rec.cli.options import DURATION, FILE, FOLDER, json_option
from gru4rec.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from tuning.journal import PastTrial
    from tuning.ray_runtime import Place
    from tuning.result import SearchResult
    from tuning.search_data import SearchData
    from tuning.spec import SearchSpec
    from tuning.trainable import TrialTask


storage_option = click.option(
    "--storage", help="Folder or URI for checkpoints that all nodes have; default: in the result folder."
)
official_space_option = click.option(
    "--official-space", type=FILE, help="Parameter space of the authors' GRU4Rec; it replaces [space]."
)


def _budget_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that override [search] of a search.toml."""
    options = [
        click.option("--trials", type=click.IntRange(1), help="Configurations to try."),
        click.option("--time-budget", "time_budget_s", type=DURATION, help="End the search after e.g. 90s, 15m or 2h."),
        click.option("--epoch-budget", type=click.IntRange(1), help="End it after so many epochs over all trials."),
        click.option("--until", help="End it when a trial reaches this, e.g. recall@20=0.70."),
        click.option("--confirm", help="Train the best trials again with other seeds, e.g. 3x3: three, three times."),
        click.option("--checkpoint-every", type=click.IntRange(1), help="Epochs from one checkpoint to the next."),
        click.option("--max-failures", type=click.IntRange(0), help="Times that a trial whose process dies goes on."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def tune() -> None:
    """Search hyperparameters with Ray Tune, Optuna and ASHA."""


@tune.command()
@click.argument("spec", type=FILE)
@official_space_option
@click.option("--estimate/--no-estimate", default=True, help="Train a little, and say what the search will cost.")
@json_option
def check(spec: Path, official_space: Path | None, estimate: bool, as_json: bool) -> None:
    """Check the file SPEC (search.toml) and its logs, print it as resolved, and estimate what it will cost."""
    from tuning.estimate import estimate_cost
    from tuning.logging_spec import check_packages
    from tuning.search import make_task
    from tuning.search_data import read_data
    from tuning.spec import read_spec, render_spec, to_dict

    specification = read_spec(spec, official_space)
    check_packages(specification.logging)
    task = make_task(specification, read_data(specification))
    cost = estimate_cost(specification, task) if estimate else None
    if as_json:
        print_json({**to_dict(specification), **({"estimate": asdict(cost)} if cost else {})})
        return
    click.echo(render_spec(specification), nl=False)
    note(
        f"train: {task.train.num_sessions:,} sessions, {task.train.num_targets:,} targets, "
        f"{task.train.num_items:,} items; validation: {task.validation.num_targets:,} targets of known items"
    )
    if cost:
        note(cost.render())


@tune.command()
@click.argument("spec", type=FILE)
@click.option("--out", type=FOLDER, required=True, help="Result folder; it must not exist, or be empty.")
@click.option("--address", help="A running Ray cluster, e.g. 10.0.0.1:6379 or auto; default: this machine.")
@storage_option
@official_space_option
@_budget_options
@click.option("--warm-start", multiple=True, type=FOLDER, help="An earlier search, whose best trials are tried first.")
@click.option("-v", "--verbose", is_flag=True, help="Let Ray print here instead of to OUT/ray.log.")
@json_option
def run(
    spec: Path,
    out: Path,
    address: str | None,
    storage: str | None,
    official_space: Path | None,
    warm_start: tuple[Path, ...],
    verbose: bool,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Run the search of SPEC (search.toml), write the folder OUT, and export the best model to OUT/best.

    Ctrl-C ends the search and exports the best model so far; a second one ends at once, and keeps what was found.
    """
    from tuning.fingerprint import make_fingerprint, write_fingerprint
    from tuning.ray_runtime import Place
    from tuning.result import load_result, result_folder
    from tuning.search import make_task
    from tuning.search_data import read_data
    from tuning.spec import read_spec

    specification = _overridden(read_spec(spec, official_space), overrides)
    known = [point for folder in warm_start for point in load_result(folder).best_points()]
    specification = replace(specification, space=specification.space.with_points(known))
    data = read_data(specification)
    task = make_task(specification, data)
    with result_folder(out, specification) as path:
        write_fingerprint(path, make_fingerprint(specification, data))
        _search(path, specification, data, task, Place(address, storage=storage), (), verbose, as_json)


@tune.command()
@click.argument("folder", type=FOLDER)
@click.option("--address", help="A running Ray cluster, e.g. 10.0.0.1:6379 or auto; default: this machine.")
@storage_option
@_budget_options
@click.option("--changed", is_flag=True, help="Go on although code, data or settings have changed.")
@click.option("-v", "--verbose", is_flag=True, help="Let Ray print here instead of to FOLDER/ray.log.")
@json_option
def resume(
    folder: Path,
    address: str | None,
    storage: str | None,
    changed: bool,
    verbose: bool,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Go on with the search of the result folder FOLDER, however it was ended, or give it more --trials.

    Trials that ended stay as they are, those that were running go on from their checkpoints.
    """
    from tuning.ray_runtime import Place
    from tuning.result import load_spec
    from tuning.search import make_task, taken_up
    from tuning.search_data import read_data

    path = folder.resolve()
    specification = _overridden(load_spec(path), overrides)
    data = read_data(specification)
    with taken_up(path, specification, data, changed) as past:
        place = Place(address, storage=storage)
        _search(path, specification, data, make_task(specification, data), place, past, verbose, as_json)


def _overridden(spec: SearchSpec, overrides: dict[str, Any]) -> SearchSpec:
    return replace(spec, **{name: value for name, value in overrides.items() if value is not None})


def _search(
    path: Path,
    spec: SearchSpec,
    data: SearchData,
    task: TrialTask,
    place: Place,
    past: Sequence[PastTrial],
    verbose: bool,
    as_json: bool,
) -> None:
    """Run a search, its progress on the terminal, and print what it found."""
    from tuning.budget import INTERRUPTED
    from tuning.search import search_into
    from tuning.signals import Terminated
    from tuning.terminal import ProgressLine, captured_output

    try:
        with nullcontext(sys.stderr) if verbose else captured_output(path / "ray.log") as terminal:
            line = ProgressLine(terminal, spec.criterion.metric)
            result = search_into(path, spec, data, task, place, past, on_progress=line.show, on_stage=line.say)
    except Terminated:
        note(f"terminated; gru4rec tune resume {path} goes on")
        raise
    _print_result(result, as_json)
    note(f"{result.ended}; wrote {path}; the best model is {result.best_model}")
    if result.ended == INTERRUPTED:
        note(f"gru4rec tune resume {path} goes on")
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
@click.option("--out", type=FILE, help="Default: FOLDER/report.html.")
def report(folder: Path, out: Path | None) -> None:
    """Write the report of the result folder FOLDER anew; its search may also be running, or interrupted."""
    from tuning.report import report_on

    note(f"wrote {report_on(folder, out)}")


@tune.command()
@click.argument("folder", type=FOLDER)
@click.option("--trial", "number", type=int, help="Number of the trial; default: the best.")
@click.option("--out", type=FOLDER, required=True, help="Model folder to write; it must not exist.")
def export(folder: Path, number: int | None, out: Path) -> None:
    """Train a trial of the result folder FOLDER at its best epoch, and write its model folder."""
    from gru4rec.errors import ModelFolderError
    from tuning.result import load_result
    from tuning.search_data import read_data
    from tuning.winner import export_trial

    if out.exists():
        raise ModelFolderError(f"{out} exists already", "choose another --out")
    result = load_result(folder)
    trial = result.best if number is None else result.trial(number)
    note(f"wrote {export_trial(result, trial, out, read_data(result.spec), note)}")


def _print_result(result: SearchResult, as_json: bool, top: int = 10) -> None:
    import json

    front = {record.number for record in result.pareto_front()} if result.spec.objectives else set()
    rows: list[dict[str, Any]] = [
        {
            "trial": record.number,
            **record.metrics,
            **record.costs,
            **({"pareto": "*" if record.number in front else ""} if front else {}),
            "best_epoch": record.best_epoch,
            "epochs": record.epochs,
            "validated_on": record.validated_on,
            "state": record.state,
            "seconds": record.seconds,
            **record.hyperparameters,
        }
        for record in result.leaderboard()
    ]
    metrics_file = result.best_model / "metrics.json"
    figures = json.loads(metrics_file.read_text(encoding="utf-8")) if metrics_file.exists() else {}
    confirmed = [asdict(found) for found in result.confirmed]
    if as_json:
        outcome = {"folder": str(result.path), "ended": result.ended, "elapsed_s": result.elapsed_s}
        print_json({**outcome, "trials": rows, "confirmed": confirmed, "best": figures})
        return
    costs = [name for name in result.spec.objectives if name in result.best.costs]
    searched = [dimension.name for dimension in result.spec.space.dimensions]
    shown = [
        name for name in ("loss_fn", "hidden_size", "batch_size", "num_negatives", "learning_rate") if name in searched
    ]
    front_column = ["pareto"] if front else []
    print_table(
        rows[:top], ["trial", *result.best.metrics, *costs, *front_column, "best_epoch", "epochs", "state", *shown]
    )
    if result.confirmed:
        click.echo("")
        print_table(_confirmed_rows(result), ["trial with other seeds", *result.confirmed[0].metrics, "seeds"])
    if "test" in figures:
        test, metrics = figures["test"], list(figures["test"]["metrics"])
        table = [
            {"model on the test log": "best", **test["metrics"]},
            {"model on the test log": "  95 % interval from", **{key: test["intervals"][key][0] for key in metrics}},
            {"model on the test log": "  95 % interval to", **{key: test["intervals"][key][1] for key in metrics}},
            *({"model on the test log": name, **values} for name, values in figures["baselines"].items()),
        ]
        click.echo("")
        print_table(table, list(table[0]))


def _confirmed_rows(result: SearchResult) -> list[dict[str, Any]]:
    """Return the mean metrics of each confirmed trial."""
    rows: list[dict[str, Any]] = []
    for found in result.confirmed:
        seeds = len(next(iter(found.metrics.values())))
        means = {key: statistics.fmean(values) for key, values in found.metrics.items()}
        rows.append({"trial with other seeds": found.trial, **means, "seeds": seeds})
    return rows
