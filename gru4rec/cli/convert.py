"""`gru4rec convert`: a model that recpack saved becomes a model folder."""

from __future__ import annotations

from pathlib import Path

import click

from gru4rec.cli.options import FILE, FOLDER, json_option
from gru4rec.cli.output import note, print_json


@click.command()
@click.argument("old", type=FILE)
@click.option("--items", type=FILE, help="Table (.csv, .tsv, .parquet) of the item_id of each iid, recpack's column.")
@click.option("--out", type=FOLDER, required=True, help="Model folder to write; it must not exist.")
@json_option
def convert(old: Path, items: Path | None, out: Path, as_json: bool) -> None:
    """Convert OLD, a .trch file that recpack 0.3.6 saved, to a model folder. Nothing in OLD is run."""
    from gru4rec.errors import ModelFolderError
    from gru4rec.model_folder import save_model
    from gru4rec.recpack_file import KNOWN_HYPERPARAMETERS, load_recpack_model

    if out.exists():
        raise ModelFolderError(f"{out} exists already", "choose another folder, nothing there is overwritten")
    model = load_recpack_model(old, items)
    save_model(model, out)
    known = {name: getattr(model.hyperparameters, name) for name in KNOWN_HYPERPARAMETERS}
    if as_json:
        print_json({"model": str(out), "num_items": len(model.items), "hyperparameters": known})
        return
    if items is None:
        note("item ids are recpack's columns; --items gives the log's own")
    note("the file does not say how the model was trained: hyperparameters not named below are defaults")
    listed = ", ".join(f"{name}={value}" for name, value in known.items())
    note(f"wrote a model of {len(model.items):,} items to {out}: {listed}")
