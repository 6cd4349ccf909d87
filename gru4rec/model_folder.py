"""A model on disk: a folder of files that people and other programs can open, and no pickle.

=====================  =========================================================
config.json            format version, hyperparameters, number of items, versions
weights.safetensors    the weights
items.parquet          the log's own item ids, in the order of our item index
metrics.json           what is known of the model's quality
README.md              a model card for people
SHA256SUMS             digests of the above; `sha256sum --check SHA256SUMS` works
=====================  =========================================================
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gru4rec.data.parquet_files import read_table
from gru4rec.data.sessions import ItemVocabulary
from gru4rec.errors import GRU4RecError, ModelFolderError
from gru4rec.files import atomic_folder, read_text, shorten, unreadable_as
from gru4rec.hyperparameters import HyperParameters, Integer
from gru4rec.model import Model
from gru4rec.nn.network import Network, weight_shapes
from gru4rec.sealed_folder import DIGESTS, FILES, PARTS, add_files, check_seal, seal

__all__ = ["DIGESTS", "FILES", "PARTS", "add_files", "load_model", "render_card", "save_model"]

FORMAT_VERSION = 1


def save_model(model: Model, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a model folder. It appears whole or not at all.

    Raises
    ------
    ModelFolderError
        When `path` exists and `overwrite` is false.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ModelFolderError(f"{path} exists already", "choose another name or allow overwriting it")
    with atomic_folder(path) as folder:
        _write_json(folder / "config.json", _config(model))
        weights = {name: weight.detach().cpu().contiguous() for name, weight in model.network.weights.items()}
        save_file(weights, folder / "weights.safetensors", metadata={"format": "pt"})
        pa.parquet.write_table(pa.table({"item_id": pa.array(model.items.ids)}), folder / "items.parquet")
        _write_json(folder / "metrics.json", model.metrics)
        (folder / "README.md").write_text(render_card(model), encoding="utf-8")
        (folder / "weights.safetensors").chmod((folder / "config.json").stat().st_mode)  # it is written private
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
        num_items, num_columns, hyperparameters = _read_config(path)
        metrics = _read_json(path / "metrics.json")
        items = _read_items(path, num_items)
        weights = _read_weights(path, num_items, hyperparameters)
    weights = {name: weight.to(device) for name, weight in weights.items()}
    return Model(Network(num_items, hyperparameters, weights), items, metrics, num_columns)


def render_card(model: Model) -> str:
    """Return the README.md of a model folder."""
    rows = "\n".join(f"| `{name}` | {value} |" for name, value in model.hyperparameters.to_dict().items())
    figures = json.dumps(model.metrics, indent=2, sort_keys=True)
    return f"""# GRU4Rec next-item recommender

Given the items of a session so far, it scores {len(model.items):,} items by how likely each is to come next.
{_origin(model)}

## Use

```sh
gru4rec recommend . sessions.csv --k 20
```

```python
from gru4rec import load_model, read_log

recommendations = load_model(".").recommend(read_log("sessions.csv"), k=20)
```

It knows the items of its training log only; others are left out of a session and counted.

## Quality

Recall, MRR and NDCG of the next item at every step, ranked among all items, ties counted against the model. Where there
are `intervals`, they are 95 % bootstrap intervals over sessions; `metrics_with_misses` counts next items that could not
be ranked, because items are unknown to the model, as misses.

```json
{figures}
```

## Hyperparameters

| name | value |
|---|---|
{rows}
"""


def _origin(model: Model) -> str:
    program = f"gru4rec-tune {version('gru4rec-tune')}"
    if "converted_from" in model.metrics:
        return (
            f"Converted from `{model.metrics['converted_from']}` by {program}. That file does not say how it was "
            "trained: of the hyperparameters below, sizes and dropout are the model's own, the rest are defaults."
        )
    return f"Trained with {program}."


def _config(model: Model) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "model": "GRU4Rec",
        "num_items": len(model.items),
        "num_columns": model.num_columns,
        "hyperparameters": model.hyperparameters.to_dict(),
        "written_by": {"gru4rec-tune": version("gru4rec-tune"), "torch": torch.__version__},
    }


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(read_text(path))
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path} must hold an object, got {shorten(repr(content))}")
    return content


def _read_config(path: Path) -> tuple[int, int | None, HyperParameters]:
    """Return the number of items, the number of columns and the hyperparameters."""
    place = path / "config.json"
    config = _read_json(place)
    version_found = config.get("format_version")
    if type(version_found) is not int or version_found != FORMAT_VERSION:
        raise ModelFolderError(
            f"{path} has format version {shorten(repr(version_found))}, this program reads {FORMAT_VERSION}",
            "use the version of gru4rec-tune that wrote it",
        )
    domains = {"num_items": Integer(1), "num_columns": Integer(1, words=(None,))}
    for name, domain in domains.items():
        if (expected := domain.problem(config.get(name, "missing"))) is not None:
            raise ModelFolderError(f"{place}: {name} must be {expected}, got {shorten(repr(config.get(name)))}")
    values = config.get("hyperparameters")
    if not isinstance(values, dict):
        raise ModelFolderError(f"{place}: hyperparameters must be an object, got {shorten(repr(values))}")
    hyperparameters = HyperParameters.from_dict(values, str(place))
    return config["num_items"], config["num_columns"], hyperparameters


def _read_items(path: Path, num_items: int) -> ItemVocabulary:
    place = path / "items.parquet"
    column = read_table(place, ["item_id"], num_rows=num_items)["item_id"].combine_chunks()
    if pa.types.is_integer(column.type):
        column = column.cast(pa.int64())
    elif not pa.types.is_string(column.type):
        raise ModelFolderError(f"{place}: item_id must hold integers or text, got {column.type}")
    ids = column.to_numpy(zero_copy_only=False)
    if column.null_count or len(set(ids.tolist())) < num_items:
        raise ModelFolderError(f"{place}: an item_id is missing or there twice", "take a fresh copy of the folder")
    return ItemVocabulary(ids)


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
