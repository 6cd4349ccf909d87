"""A model that recpack saved -> our Model, without recpack and without unpickling.

recpack 0.3.6 writes its whole torch module with torch.save, which is a pickle: opened as such, it runs whatever its
author put in. Here torch's restricted reader opens it, every class that such a file names is replaced by a stand-in
that holds attributes and does nothing, and any other name is refused. Of recpack this file knows the layout only::

    emb.weight   (num_items + 1, D)   input table, the last row pads        -> input_table
    rnn.*_l{k}   (3H, ...)            layer k of torch.nn.GRU, gates r, z, n -> gru.k.*
    lin.weight   (num_items + 1, H)   output table, the last row pads       -> output_table
    lin.bias     (num_items + 1,)     its bias                              -> item_bias
    drop.p                            dropout of the embedding and of the GRU states
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gru4rec.data.items import read_item_ids
from gru4rec.data.sessions import ItemVocabulary
from gru4rec.errors import ModelFolderError, ParameterError
from gru4rec.files import TEXT_BYTES, first_line
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model import Model
from gru4rec.nn.network import Network, weight_shapes

HINT = "convert reads what save() of recpack 0.3.6 wrote for GRU4RecNegSampling or GRU4RecCrossEntropy"
KNOWN_HYPERPARAMETERS = ("num_layers", "hidden_size", "embedding", "num_components", "dropout")
_ARCHIVE = b"PK\x03\x04"
GRU_PARTS = {
    "input": "weight_ih_l",
    "recurrent": "weight_hh_l",
    "input_bias": "bias_ih_l",
    "recurrent_bias": "bias_hh_l",
}


class _StandIn:
    """Takes the place of a class that the file names: holds the attributes, has no behaviour."""

    path: ClassVar[str]
    attributes: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = dict(state)


class _Module(_StandIn):
    path = "recpack.algorithms.gru4rec.GRU4RecTorch"


class _Embedding(_StandIn):
    path = "torch.nn.modules.sparse.Embedding"


class _GRU(_StandIn):
    path = "torch.nn.modules.rnn.GRU"


class _Linear(_StandIn):
    path = "torch.nn.modules.linear.Linear"


class _Dropout(_StandIn):
    path = "torch.nn.modules.dropout.Dropout"


_STAND_INS = (_Module, _Embedding, _GRU, _Linear, _Dropout)
_NAMES = {  # all that a recpack model names
    "collections.OrderedDict",
    "builtins.set",
    "torch.FloatStorage",  # so all tensors are dense float32 numbers
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
    *(kind.path for kind in _STAND_INS),
}
_PARTS = {"emb": _Embedding, "rnn": _GRU, "lin": _Linear, "drop": _Dropout}


def load_recpack_model(path: str | Path, items: str | Path | None = None) -> Model:
    """Read a model that recpack saved. Nothing in the file is run.

    Parameters
    ----------
    path : path
        The .trch file that recpack 0.3.6 wrote.
    items : path, optional
        Table of recpack's column of each item, `iid`, and the log's own `item_id`. Without it the columns are the ids.

    Returns
    -------
    Model
        It gives the scores that the saved module gives. `KNOWN_HYPERPARAMETERS` are the file's; the file does not say
        how the model was trained, so the others are our defaults.

    Raises
    ------
    ModelFolderError
        When the file is missing or damaged, names anything but such a model's classes, or has another layout.
    DataError
        When `items` cannot be read or is not a complete one-to-one mapping.
    """
    path = Path(path)
    module = _read(path)
    try:
        parts, dropout = _parts(module, path.stat().st_size), module.attributes["_modules"]["drop"].attributes["p"]
        hyperparameters, weights = _convert(parts, dropout)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, ParameterError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ModelFolderError(f"{path} has not the layout of a recpack model: {reason}", HINT) from None
    num_items = len(weights["item_bias"])
    vocabulary = ItemVocabulary(np.arange(num_items)) if items is None else read_item_ids(items, num_items)
    num_columns = num_items if items is None else None
    return Model(Network(num_items, hyperparameters, weights), vocabulary, {"converted_from": path.name}, num_columns)


def _read(path: Path) -> _Module:
    """Return the module in the file, made of stand-ins and tensors."""
    if not path.is_file():
        raise ModelFolderError(f"{path} does not exist or is not a file")
    try:
        foreign = sorted(_names_in(path) - _NAMES)
        if not foreign:
            with _allow_only_stand_ins():
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises nearly anything on a damaged file
        raise ModelFolderError(f"{path} cannot be read as a recpack model: {_reason(error)}", HINT) from None
    if foreign:
        raise ModelFolderError(
            f"{path} names {', '.join(foreign)}, which no recpack model does; nothing of it was run", HINT
        )
    if not isinstance(content, _Module):
        raise ModelFolderError(f"{path} holds {_kind(content)}, expected {_Module.path}", HINT)
    return content


def _names_in(path: Path) -> set[str]:
    """Return what the pickle of an archive names, all of which torch's reader would look up, and some of it call."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        pickles = [member for member in members if member.filename.lower().endswith("data.pkl")]
        if file.read(len(_ARCHIVE)) != _ARCHIVE or len(pickles) != 1 or pickles[0].file_size > TEXT_BYTES:
            raise ValueError("it is no archive of one small pickle and its weights")
        if size > path.stat().st_size or len({member.filename.lower() for member in members}) < len(members):
            raise ValueError(f"its members claim {size:,} bytes, or share a name")
        content = archive.read(pickles[0])
    return {
        str(argument).replace(" ", ".").replace("__builtin__.", "builtins.")
        for operation, argument, _ in pickletools.genops(content)
        if operation.name in {"GLOBAL", "INST"}  # torch's reader knows no other way to name anything
    }


@contextmanager
def _allow_only_stand_ins() -> Iterator[None]:
    """Set aside what else this process allows torch to load: torch itself and other libraries add to that list."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals([(kind, kind.path) for kind in _STAND_INS]):
            yield
    finally:
        torch.serialization.add_safe_globals(others)


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):  # without torch's advice to read the file unrestricted
        return first_line(ValueError(str(error).rpartition("WeightsUnpickler error: ")[2]))
    return first_line(error)


def _kind(value: object) -> str:
    return value.path if isinstance(value, _StandIn) else type(value).__name__


def _parts(module: _Module, file_bytes: int) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of emb, rnn and lin by their names."""
    found = module.attributes["_modules"]
    if found.keys() != _PARTS.keys():
        raise ValueError(f"its parts are {', '.join(map(str, found))}, expected {', '.join(_PARTS)}")
    for name, kind in _PARTS.items():
        if not isinstance(found[name], kind):
            raise ValueError(f"{name} is {_kind(found[name])}, expected {kind.path}")
    parts = {name: dict(found[name].attributes["_parameters"]) for name in ("emb", "rnn", "lin")}
    for part, tensors in parts.items():
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{part}.{name} is {_kind(tensor)}, expected a tensor")
            if not tensor.is_contiguous():  # a view may repeat a number without end
                raise ValueError(f"{part}.{name} is a view, expected numbers of its own")
    num_bytes = sum(tensor.nbytes for tensors in parts.values() for tensor in tensors.values())
    if num_bytes > file_bytes:
        raise ValueError(f"its weights have {num_bytes:,} bytes together, the file has {file_bytes:,}")
    num_items, pad_token = len(parts["emb"]["weight"]) - 1, module.attributes["pad_token"]
    if num_items < 1 or pad_token != num_items:
        raise ValueError(f"pad_token is {pad_token!r}, expected the last row of emb.weight, {num_items}")
    return parts


def _convert(parts: dict[str, dict[str, Tensor]], dropout: Any) -> tuple[HyperParameters, dict[str, Tensor]]:
    rnn, emb, lin = parts["rnn"], parts["emb"]["weight"], parts["lin"]
    hyperparameters = HyperParameters(
        num_layers=len(rnn) // len(GRU_PARTS),
        hidden_size=rnn["weight_hh_l0"].shape[1],
        embedding="separate",
        num_components=emb.shape[1],
        dropout=dropout,
    )
    theirs = {"input_table": emb[:-1], "output_table": lin["weight"][:-1], "item_bias": lin["bias"][:-1]}
    for layer in range(hyperparameters.num_layers):
        theirs |= {f"gru.{layer}.{ours}": rnn[f"{name}{layer}"] for ours, name in GRU_PARTS.items()}
    shapes = weight_shapes(len(emb) - 1, hyperparameters)
    for name, shape in shapes.items():
        if theirs[name].shape != shape:
            raise ValueError(f"{name} would have shape {tuple(theirs[name].shape)}, expected {shape}")
    if len(rnn) != hyperparameters.num_layers * len(GRU_PARTS):
        raise ValueError(f"rnn has the weights {', '.join(rnn)}")
    return hyperparameters, {name: theirs[name].detach().clone() for name in shapes}
