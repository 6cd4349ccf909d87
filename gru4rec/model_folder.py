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

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gru4rec.data.sessions import ItemVocabulary
from gru4rec.errors import GRU4RecError, ModelFolderError
from gru4rec.files import atomic_folder, file_digest
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model import Model
from gru4rec.nn.network import Network, weight_shapes

FORMAT_VERSION = 1
FILES = ("config.json", "weights.safetensors", "items.parquet", "metrics.json", "README.md")
DIGESTS = "SHA256SUMS"


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
        digests = "".join(f"{file_digest(folder / name)}  {name}\n" for name in FILES)
        (folder / DIGESTS).write_text(digests, encoding="utf-8")
    return path


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Read a model folder.

    Raises
    ------
    ModelFolderError
        When a file is missing, altered or inconsistent, or the format version is unknown.
    """
    path = Path(path)
    if not path.is_dir():
        raise ModelFolderError(f"{path} is not a model folder", "it should hold " + ", ".join((*FILES, DIGESTS)))
    _check_digests(path)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if config["format_version"] != FORMAT_VERSION:
            raise ModelFolderError(
                f"{path} has format version {config['format_version']!r}, this program reads {FORMAT_VERSION}",
                "use the version of gru4rec-tune that wrote it",
            )
        hyperparameters = HyperParameters.from_dict(config["hyperparameters"], f"{path}/config.json")
        items = _read_items(path / "items.parquet")
        loaded = load_file(path / "weights.safetensors", device=str(device))
        # As laid out in the file, weights need not start where torch's own memory does, and products round differently.
        weights = {name: weight.clone() for name, weight in loaded.items()}
        metrics = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    except (KeyError, TypeError, ValueError, OSError, SafetensorError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ModelFolderError(f"{path} cannot be read: {reason}", "take a fresh copy of the folder") from error
    _check_weights(path, weights, weight_shapes(len(items), hyperparameters))
    return Model(Network(len(items), hyperparameters, weights), items, metrics, config["num_columns"])


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


def _read_items(path: Path) -> ItemVocabulary:
    column = pa.parquet.read_table(path, columns=["item_id"])["item_id"].combine_chunks()
    ids = column.to_numpy(zero_copy_only=False)
    return ItemVocabulary(ids if np.issubdtype(ids.dtype, np.integer) else ids.astype(object))


def _check_digests(path: Path) -> None:
    try:
        lines = (path / DIGESTS).read_bytes().decode().split("\n")[:-1]  # strictly: what we wrote ends in a newline
        recorded = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        missing = [name for name in FILES if name not in recorded]
        altered = [name for name in FILES if name in recorded and file_digest(path / name) != recorded[name]]
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path} is incomplete or damaged: {error}", "take a fresh copy of the folder") from None
    if missing or altered:
        names = ", ".join([*altered, *(f"{name} in {DIGESTS}" for name in missing)])
        raise ModelFolderError(f"{path} is damaged: {names} not as written", "take a fresh copy of the folder")


def _check_weights(path: Path, weights: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if found != shapes:
        wrong = sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name))
        raise ModelFolderError(
            f"{path}/weights.safetensors does not fit its config.json: {wrong[0]} has shape {found.get(wrong[0])}, "
            f"expected {shapes.get(wrong[0])}"
        )


def _write_json(path: Path, content: object) -> None:
    try:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except (TypeError, ValueError) as error:
        raise GRU4RecError(f"{path.name} cannot be written: {error}") from error
