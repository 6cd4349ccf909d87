"""`gru4rec inspect`: what a model folder says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gru4rec.cli.options import FOLDER, json_option
from gru4rec.cli.output import print_json, print_table

if TYPE_CHECKING:
    from gru4rec.model_config import ModelConfig


@click.command()
@click.argument("model", type=FOLDER)
@json_option
def inspect(model: Path, as_json: bool) -> None:
    """Print what the folder MODEL says: model, data, protocol, figures, settings and files. Digests are checked."""
    from gru4rec.errors import ModelFolderError
    from gru4rec.files import unreadable_as
    from gru4rec.model_config import read_config, read_object
    from gru4rec.sealed_folder import DIGESTS, check_seal

    with unreadable_as(ModelFolderError, model, "take a fresh copy of the folder"):
        names = [*check_seal(model), DIGESTS]
        config, metrics = read_config(model), read_object(model / "metrics.json")
    sizes = {name: (model / name).stat().st_size for name in names}
    if as_json:
        files = [{"name": name, "bytes": size} for name, size in sizes.items()]
        print_json({"model": str(model), "config": config.content, "metrics": metrics, "files": files})
    else:
        _print_page(model, config, metrics, sizes)


def _print_page(model: Path, config: ModelConfig, metrics: dict[str, Any], sizes: dict[str, int]) -> None:
    from gru4rec.model_card import figure_rows, log_rows

    facts = {
        "folder": str(model),
        "format version": config.format_version,
        "items": config.num_items,
        "unknown items": _words(config.content["unknown_items"]),
        "written by": _words(config.content["written_by"]),
        **{name: value for name, value in metrics.items() if not isinstance(value, (dict, list))},
    }
    _print_section([{"model": name, "value": value} for name, value in facts.items()], ["model", "value"])
    if config.training_log is not None:
        _print_section(log_rows(config.training_log), ["training log", "value"])
    protocol = {name: _words(value) for name, value in (config.content["protocol"] or {}).items()}
    _print_section([{"protocol": name, "value": value} for name, value in protocol.items()], ["protocol", "value"])
    keys, rows = figure_rows(metrics)
    _print_section(rows, ["figures", *keys])
    settings = config.hyperparameters.to_dict()
    _print_section([{"setting": name, "value": str(value)} for name, value in settings.items()], ["setting", "value"])
    print_table([{"file": name, "bytes": size} for name, size in sizes.items()], ["file", "bytes"])


def _words(value: Any) -> str:
    return ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else str(value)


def _print_section(rows: list[dict[str, Any]], columns: list[str]) -> None:
    if rows:
        print_table(rows, columns)
        click.echo()
