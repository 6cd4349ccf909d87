"""config.json of a model folder: what is written, and how it is read, also in earlier versions of the format.

The format is described in docs/model-folder.md and docs/model-config.schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gru4rec.data.training_log import TrainingLog
from gru4rec.errors import ModelFolderError, unknown_name
from gru4rec.files import read_text, shorten
from gru4rec.hyperparameters import HyperParameters, Integer
from gru4rec.model import Model
from gru4rec.numbers import is_number
from gru4rec.protocol import ranking_rules

FORMAT_VERSION = 2
CONFIG = "config.json"
KEYS = (
    "format_version", "model", "num_items", "num_columns", "hyperparameters", "protocol", "training_log",
    "unknown_items", "written_by",
)  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """What config.json says.

    Parameters
    ----------
    format_version : int
        Of the folder as it is on disk.
    num_items : int
    num_columns : int, optional
    hyperparameters : HyperParameters
    training_log : TrainingLog, optional
    content : dict
        All of it, as the present version of the format has it.
    """

    format_version: int
    num_items: int
    num_columns: int | None
    hyperparameters: HyperParameters
    training_log: TrainingLog | None
    content: dict[str, Any]


def make_config(model: Model) -> dict[str, Any]:
    """Return the content of config.json."""
    measured = model.num_columns is None and any(name in model.metrics for name in ("validation", "test"))
    return {
        "format_version": FORMAT_VERSION,
        "model": "GRU4Rec",
        "num_items": len(model.items),
        "num_columns": model.num_columns,
        "hyperparameters": model.hyperparameters.to_dict(),
        "protocol": ranking_rules() if measured else None,  # figures of matrices follow recpack's criteria
        "training_log": None if model.training_log is None else asdict(model.training_log),
        "unknown_items": {"events": "left out", "fallback": "none" if model.support is None else "popular"},
        "written_by": {"gru4rec-tune": version("gru4rec-tune"), "torch": torch.__version__},
    }


def read_config(folder: Path) -> ModelConfig:
    """Read config.json of a model folder.

    Raises
    ------
    ModelFolderError
        When its format version is unknown, or a value is missing or of another kind.
    ParameterError
        When a hyperparameter is unknown or out of range.
    OSError, ValueError
        When it cannot be read.
    """
    place = folder / CONFIG
    content = read_object(place)
    found = content.get("format_version")
    if type(found) is not int or found not in (*_MIGRATIONS, FORMAT_VERSION):
        raise ModelFolderError(
            f"{folder} has format version {shorten(repr(found))}, this program reads 1 to {FORMAT_VERSION}",
            "use the version of gru4rec-tune that wrote it",
        )
    if found in _MIGRATIONS:
        content = _MIGRATIONS[found](content)
    _check_keys(content, place)
    _check_integers(content, {"num_items": Integer(1), "num_columns": Integer(1, words=(None,))}, place)
    return ModelConfig(
        found,
        content["num_items"],
        content["num_columns"],
        HyperParameters.from_dict(content["hyperparameters"], str(place)),
        _read_training_log(content.get("training_log"), place),
        content,
    )


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    ModelFolderError
        When it holds something else.
    OSError, ValueError
        When it cannot be read.
    """
    content = json.loads(read_text(path))
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path} must hold an object, got {shorten(repr(content))}")
    return content


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew nothing of the training log, so there is nothing to fall back to."""
    unknown = {"events": "left out", "fallback": "none"}
    return {"protocol": None, "training_log": None, "unknown_items": unknown, **content}


_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_version_1}


def _read_training_log(content: dict[str, Any] | None, place: Path) -> TrainingLog | None:
    if content is None:
        return None
    names = {field.name for field in fields(TrainingLog)}
    if content.keys() != names:
        raise ModelFolderError(
            f"{place}: training_log must have {', '.join(sorted(names))}, got {shorten(repr(content))}"
        )
    counts = dict.fromkeys(("num_sessions", "num_events", "num_items"), Integer(1))
    _check_integers(content, counts, place)
    times, texts = [content[name] for name in ("first_time", "last_time")], [content["fingerprint"]]
    texts += [] if content["licence"] is None else [content["licence"]]
    if not (all(map(is_number, times)) and all(isinstance(text, str) for text in texts)):
        raise ModelFolderError(f"{place}: training_log must have times that are numbers, and text, got {content!r}")
    return TrainingLog(**content)


def _check_keys(content: dict[str, Any], place: Path) -> None:
    """Refuse unknown keys, and parts that are missing or no objects."""
    for name in content:
        if name not in KEYS:
            raise ModelFolderError(f"{place}: {unknown_name(shorten(name), KEYS, 'key')}")
    for name in ("hyperparameters", "unknown_items", "written_by", "protocol", "training_log"):
        value = content.get(name)
        if not (isinstance(value, dict) or (value is None and name in ("protocol", "training_log"))):
            raise ModelFolderError(f"{place}: {name} must be an object, got {shorten(repr(value))}")


def _check_integers(content: dict[str, Any], domains: dict[str, Integer], place: Path) -> None:
    for name, domain in domains.items():
        if (expected := domain.problem(content.get(name, "missing"))) is not None:
            raise ModelFolderError(f"{place}: {name} must be {expected}, got {shorten(repr(content.get(name)))}")
