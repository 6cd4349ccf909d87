"""`gru4rec fit`: train one model with given hyperparameters."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gru4rec.cli.options import FILE, FOLDER, device_option, json_option, log_format_options, threads_option
from gru4rec.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from gru4rec.data.reading import LogFormat
    from gru4rec.data.sessions import Sessions
    from gru4rec.official import OfficialSettings

DEFAULT_EPOCHS = 10


@click.command()
@click.argument("train", type=FILE)
@click.option("--validation", type=FILE, help="Log to validate on after each epoch; the best epoch is kept.")
@click.option("--out", type=FOLDER, required=True, help="Model folder to write; it must not exist.")
@click.option("--preset", metavar="NAME", help="Start from published settings: yoochoose, rees46, coveo, ... or rsc15.")
@click.option("--official-params", type=FILE, help="Start from a parameter file of the authors' GRU4Rec.")
@click.option("--params", type=FILE, help="TOML file of hyperparameters, name = value.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="One hyperparameter; may be repeated.")
@click.option("--max-epochs", type=int, help=f"Default: n_epochs of --official-params, otherwise {DEFAULT_EPOCHS}.")
@click.option(
    "--metric", default="recall@20", show_default=True, help="Validation metric that says which epoch is best."
)
@click.option("--patience", type=int, help="Stop after this many epochs without improvement.")
@click.option("--seed", default=0, show_default=True)
@click.option("--data-licence", metavar="TEXT", help="Licence of TRAIN, for the model card.")
@threads_option
@device_option
@log_format_options
@json_option
def fit(
    train: Path,
    validation: Path | None,
    out: Path,
    preset: str | None,
    official_params: Path | None,
    params: Path | None,
    assignments: tuple[str, ...],
    max_epochs: int | None,
    metric: str,
    patience: int | None,
    seed: int,
    data_licence: str | None,
    device: str,
    log_format: LogFormat,
    as_json: bool,
) -> None:
    """Train on the log TRAIN and write a model folder."""
    from gru4rec.data.reading import read_log
    from gru4rec.device import resolve_device
    from gru4rec.errors import ModelFolderError
    from gru4rec.fitting import fit_trainer
    from gru4rec.hyperparameters import HyperParameters
    from gru4rec.model import DEFAULT_METRICS, Model
    from gru4rec.model_folder import save_model
    from gru4rec.stopping import StoppingRule
    from gru4rec.training import Trainer

    if patience is not None and validation is None:
        raise click.UsageError("--patience needs --validation")
    if preset is not None and official_params is not None:
        raise click.UsageError("--preset and --official-params exclude each other")
    if out.exists():
        raise ModelFolderError(f"{out} exists already", "choose another folder, nothing there is overwritten")
    base = _read_base(preset, official_params)
    max_epochs = base.epochs if max_epochs is None else max_epochs
    files = [path.name for path in (official_params, params) if path]
    sources = [*([f"--preset {preset}"] if preset else []), *files, *(["--set"] if assignments else [])]
    values = base.values | _read_params(params) | _parse_assignments(assignments)
    hyperparameters = HyperParameters.from_dict(values, " and ".join(sources))
    criterion = StoppingRule(metric, *(() if patience is None else (patience,)))
    sessions = read_log(train, log_format).with_own_items()
    held_out = _read_validation(validation, log_format, sessions) if validation else None
    trainer = Trainer(hyperparameters, sessions, seed=seed, device=resolve_device(device))
    result = fit_trainer(
        trainer,
        max_epochs,
        held_out,
        criterion=criterion,
        stop_early=patience is not None,
        metrics=DEFAULT_METRICS,
        on_epoch=lambda record: note(_render_epoch(record, max_epochs)),
    )
    best = {key: value for key, value in result.epochs[result.best_epoch - 1].items() if "@" in key}
    metrics = {"seed": seed, "epoch": result.best_epoch, "validation": best}
    save_model(Model.of_log(trainer.network, sessions, data_licence, metrics=metrics), out)
    if as_json:
        print_json({"model": str(out), "best_epoch": result.best_epoch, "epochs": result.epochs})
    else:
        print_table(result.epochs, ["epoch", "loss", *best, "events_per_second"])
        note(f"wrote epoch {result.best_epoch} to {out}")


def _read_validation(path: Path, log_format: LogFormat, train: Sessions) -> Sessions:
    from gru4rec.data.reading import read_log
    from gru4rec.fitting import align_validation

    whole = read_log(path, log_format)
    known = align_validation(whole, train)
    if left_out := whole.num_events - known.num_events:
        note(f"{path.name}: left out {left_out:,} events with no known item, or alone in their session")
    return known


def _render_epoch(record: dict[str, Any], max_epochs: int) -> str:
    figures = "  ".join(f"{key} {value:.4f}" for key, value in record.items() if key == "loss" or "@" in key)
    return f"epoch {record['epoch']}/{max_epochs}  {figures}  {record['events_per_second']:,.0f} events/s"


def _read_base(preset: str | None, official_params: Path | None) -> OfficialSettings:
    from gru4rec.official import OfficialSettings, read_official
    from gru4rec.presets import find_preset

    if preset is not None:
        return find_preset(preset).settings
    return OfficialSettings({}, DEFAULT_EPOCHS) if official_params is None else read_official(official_params)


def _read_params(path: Path | None) -> dict[str, Any]:
    from gru4rec.errors import ParameterError

    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ParameterError(f"{path} cannot be read: {error}") from None


def _parse_assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Turn NAME=VALUE into values: numbers and true/false as in TOML, 'none' for None, anything else as text.

    For `embedding`, 'none' is a word like others.
    """
    from gru4rec.hyperparameters import NAMES, domain_of

    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise click.UsageError(f"--set needs NAME=VALUE, got {assignment!r}")
        try:
            values[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            is_word = name in NAMES and domain_of(name).problem(text) is None
            values[name] = None if text.lower() == "none" and not is_word else text
    return values
