"""A model on disk: a folder of files that people and other programs can open, and no pickle.

=====================  =========================================================
config.json            format version, hyperparameters, protocol, training log, versions
weights.safetensors    the weights
items.parquet          the log's own item ids, in the order of our item index, and their support
metrics.json           what is known of the model's quality
README.md              a model card for people
examples/              a few sessions and what the model recommends for them
search/                where it is the winner of a search: the leaderboard, its curve, the settings
onnx/                  where it was exported
SHA256SUMS             digests of the above; `sha256sum --check SHA256SUMS` works
=====================  =========================================================

docs/model-folder.md describes the format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gru4rec.data.parquet_files import read_table
from gru4rec.data.sessions import IntArray, ItemVocabulary
from gru4rec.errors import GRU4RecError, ModelFolderError
from gru4rec.examples import write_examples
from gru4rec.files import atomic_folder, unreadable_as
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model import Model
from gru4rec.model_card import render_card
from gru4rec.model_config import FORMAT_VERSION, ModelConfig, make_config, read_config, read_object
from gru4rec.nn.network import Network, weight_shapes
from gru4rec.sealed_folder import DIGESTS, FILES, PARTS, Writer, add_files, check_seal, seal, write_part

__all__ = ["DIGESTS", "FILES", "FORMAT_VERSION", "PARTS", "add_files", "load_model", "save_model"]


def save_model(
    model: Model, path: str | Path, *, overwrite: bool = False, parts: Mapping[str, Writer] | None = None
) -> Path:
    """Write a model folder. It appears whole or not at all.

    Parameters
    ----------
    model : Model
    path : path
    overwrite : bool
        Replace what is there.
    parts : mapping of str to callable, optional
        More folders to write, as of `add_files`.

    Raises
    ------
    ModelFolderError
        When `path` exists and `overwrite` is false.
    DivergedError
        When the model's scores are not finite.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ModelFolderError(f"{path} exists already", "choose another name or allow overwriting it")
    with atomic_folder(path) as folder:
        _write_json(folder / "config.json", make_config(model))
        weights = {name: weight.detach().cpu().contiguous() for name, weight in model.network.weights.items()}
        save_file(weights, folder / "weights.safetensors", metadata={"format": "pt"})
        pa.parquet.write_table(_items_table(model), folder / "items.parquet")
        _write_json(folder / "metrics.json", model.metrics)
        (folder / "README.md").write_text(render_card(model), encoding="utf-8")
        (folder / "weights.safetensors").chmod((folder / "config.json").stat().st_mode)  # it is written private
        write_part(folder, "examples", lambda part: write_examples(model, part))
        for part, write in (parts or {}).items():
            write_part(folder, part, write)
        seal(folder)
    return path


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Read a model folder. It may come from a stranger: nothing in it is run, and no more is read than fits together.

    Raises
    ------
    ModelFolderError
        When a file is missing, altered, inconsistent or outside the folder, or the format version is unknown.
    """
    path = Path(path)
    with unreadable_as(ModelFolderError, path, "take a fresh copy of the folder"):
        check_seal(path)
        config = read_config(path)
        metrics = read_object(path / "metrics.json")
        items, support = _read_items(path, config)
        weights = _read_weights(path, config.num_items, config.hyperparameters)
    network = Network(
        config.num_items, config.hyperparameters, {name: weight.to(device) for name, weight in weights.items()}
    )
    return Model(network, items, metrics, config.num_columns, support, config.training_log)


def _items_table(model: Model) -> pa.Table:
    """Return the content of items.parquet; support that is not known is missing in each row."""
    support = pa.nulls(len(model.items), pa.int64()) if model.support is None else pa.array(model.support, pa.int64())
    return pa.table(
        {"item_id": pa.array(model.items.ids), "index": np.arange(len(model.items), dtype=np.int64), "support": support}
    )


def _read_items(path: Path, config: ModelConfig) -> tuple[ItemVocabulary, IntArray | None]:
    """Return the item ids and their support, which version 1 did not have."""
    place, num_items = path / "items.parquet", config.num_items
    columns = ["item_id"] if config.format_version == 1 else ["item_id", "index", "support"]
    table = read_table(place, columns, num_rows=num_items)
    column = table["item_id"].combine_chunks()
    if pa.types.is_integer(column.type):
        column = column.cast(pa.int64())
    elif not pa.types.is_string(column.type):
        raise ModelFolderError(f"{place}: item_id must hold integers or text, got {column.type}")
    ids = column.to_numpy(zero_copy_only=False)
    if column.null_count or len(set(ids.tolist())) < num_items:
        raise ModelFolderError(f"{place}: an item_id is missing or there twice", "take a fresh copy of the folder")
    if config.format_version == 1:
        return ItemVocabulary(ids), None
    if table["index"].to_pylist() != list(range(num_items)):
        raise ModelFolderError(f"{place}: index must count the rows from 0", "take a fresh copy of the folder")
    return ItemVocabulary(ids), _support(table["support"], place)


def _support(column: pa.ChunkedArray, place: Path) -> IntArray | None:
    if not pa.types.is_integer(column.type):
        raise ModelFolderError(f"{place}: support must hold whole numbers, got {column.type}")
    if column.null_count == len(column):
        return None
    if column.null_count or pa.compute.min(column).as_py() < 0:
        raise ModelFolderError(f"{place}: support must be known of all items or of none, and >= 0")
    return np.asarray(column.cast(pa.int64()).to_numpy())


def _read_weights(path: Path, num_items: int, hyperparameters: HyperParameters) -> dict[str, Tensor]:
    """Return the weights, of which names, types and shapes are compared before they are read."""
    place = path / "weights.safetensors"
    with safe_open(place, framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        found = {name: tuple(part.get_shape()) for name, part in parts.items()}
        other = [name for name, part in parts.items() if part.get_dtype() != "F32"]
    if hyperparameters.num_layers > len(found):  # as many shapes would have to be listed
        raise ModelFolderError(f"{place} does not fit its config.json: no {hyperparameters.num_layers} layers in it")
    shapes = weight_shapes(num_items, hyperparameters)
    if found != shapes or other:
        wrong = sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name)) or other
        kind = " of other numbers than float32" if found == shapes else ""
        raise ModelFolderError(
            f"{place} does not fit its config.json: {wrong[0]} has shape {found.get(wrong[0])}{kind}, "
            f"expected {shapes.get(wrong[0])}"
        )
    # As laid out in the file, weights need not start where torch's own memory does, and products round differently.
    return {name: weight.clone() for name, weight in load_file(place).items()}


def _write_json(path: Path, content: object) -> None:
    try:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except (TypeError, ValueError) as error:
        raise GRU4RecError(f"{path.name} cannot be written: {error}") from error
