"""Models as ONNX files, for programs without this project and PyTorch; each file is compared before it appears.

A file's metadata holds what a program must know of it: the kind of graph, the hyperparameters, whether item ids are
integers or text, the digest of the items.csv that belongs to it, and what was measured. It is text under the keys
format_version, kind, hyperparameters, item_ids, items_sha256, measured and versions.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from gru4rec.data.sessions import ItemVocabulary, Sessions
from gru4rec.errors import ModelFolderError, ParameterError
from gru4rec.files import atomic_file, first_line
from gru4rec.model import Model
from gru4rec.model_folder import add_files, load_model
from gru4rec.onnx_graph import Kind, build_graph
from gru4rec.onnx_parity import check_parity, check_quality, measure_parity, open_session
from gru4rec.sealed_folder import check_places

FORMAT_VERSION = 1
FILES: dict[Kind, str] = {"model": "model.onnx", "step": "step.onnx", "int8": "model.int8.onnx"}
METADATA_BYTES = 2**20  # more than ours takes

Measured = dict[str, Any]


def export_onnx(model: Model, path: str | Path, kind: Kind = "model", log: Sessions | None = None) -> Measured:
    """Write a graph to `path`, and NAME.items.csv and NAME.parity.json beside NAME.onnx; earlier ones are replaced.

    Parameters
    ----------
    model : Model
    path : path
        Must end in .onnx.
    kind : {'model', 'step', 'int8'}
        See `gru4rec.onnx_graph`.
    log : Sessions, optional
        Over any vocabulary; kind 'int8' must rank its next items as well as the model does.

    Returns
    -------
    dict
        What was measured, as in NAME.parity.json.

    Raises
    ------
    ParameterError
        When `path` has another ending, the kind is unknown, or kind 'int8' has no log.
    ExportError
        When the graph does not compute what the model does, is too large, or is not good enough in bytes. No file is
        written then.
    DivergedError
        When the model's scores are not finite.
    DataError
        When no session of the log has two known events.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ParameterError(f"an ONNX file must be called NAME.onnx, got {path}")
    content, measured = _make(model, kind, log)
    report = _report({path.name: measured})
    beside = {".items.csv": render_items(model.items), ".parity.json": _render(report), ".onnx": content}
    for suffix, part in beside.items():  # the graph last: where it is, the others are, too
        with atomic_file(path.with_suffix(suffix)) as temporary:
            temporary.write_bytes(part)
    return report


def add_onnx(folder: str | Path, log: Sessions | None = None) -> Measured:
    """Give a model folder its graphs, in onnx/; earlier ones are replaced.

    Parameters
    ----------
    folder : path
        A model folder.
    log : Sessions, optional
        Adds the kind 'int8', as in `export_onnx`.

    Returns
    -------
    dict
        What was measured, as in onnx/parity.json.

    Raises
    ------
    ModelFolderError
        When the folder is damaged.
    ExportError, DivergedError, DataError
        As of `export_onnx`; the folder is then as it was.
    """
    model = load_model(folder)
    kinds: list[Kind] = ["model", "step"] if log is None else ["model", "step", "int8"]
    made = {FILES[kind]: _make(model, kind, log) for kind in kinds}
    report = _report({name: measured for name, (_, measured) in made.items()})

    def write(part: Path) -> None:
        for name, (content, _) in made.items():
            (part / name).write_bytes(content)
        (part / "items.csv").write_bytes(render_items(model.items))
        (part / "parity.json").write_bytes(_render(report))

    add_files(folder, "onnx", write)
    return report


def check_onnx(model: Model, folder: str | Path) -> dict[str, float]:
    """Return the largest error of the scores of each graph of a model folder, now and here. It may be a stranger's.

    Only graphs that this program writes for this model, to the last bit, are run. So there is no file that they could
    name, and no operator that is not ours.

    Parameters
    ----------
    model : Model
        Of the folder.
    folder : path
        The model folder.

    Raises
    ------
    ModelFolderError
        When a file in onnx/ is missing, is not of this model, or is outside the folder.
    ExportError
        When onnxruntime does not compute what the model does; of the kind 'int8' errors are only measured.
    """
    folder = Path(folder)
    kinds: list[Kind] = ["model", "step"]
    if (folder / "onnx" / FILES["int8"]).exists():
        kinds.append("int8")
    check_places(folder, ["onnx/items.csv", *(f"onnx/{FILES[kind]}" for kind in kinds)])
    place, expected = folder / "onnx" / "items.csv", render_items(model.items)
    if _read(place, len(expected)) != expected:
        raise _foreign(place)
    errors = {}
    for kind in kinds:
        session = open_session(_read_graph(folder / "onnx" / FILES[kind], model, kind))
        found = measure_parity(model.network, session, kind)
        if kind != "int8":
            check_parity(found, kind)
        errors[FILES[kind]] = max(parity.max_error for parity in found)
    return errors


def render_items(items: ItemVocabulary) -> bytes:
    """Return items.csv: index and item_id of each item.

    >>> import numpy as np
    >>> render_items(ItemVocabulary(np.array(["a", "b,c"], dtype=object)))
    b'index,item_id\\n0,a\\n1,"b,c"\\n'
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["index", "item_id"])
    rows.writerows(enumerate(items.ids.tolist()))
    return text.getvalue().encode()


def _make(model: Model, kind: Kind, log: Sessions | None) -> tuple[bytes, Measured]:
    """Return a file of ONNX, and what was measured of it."""
    if kind == "int8" and log is None:
        raise ParameterError("kind 'int8' needs a log to be measured on")
    graph = build_graph(model.network, kind)
    session = open_session(graph.SerializeToString())
    found = measure_parity(model.network, session, kind)
    measured: Measured = {"parity": [asdict(parity) for parity in found]}
    if kind == "int8" and log is not None:
        known, _ = log.with_items_of(model.items)
        before = open_session(build_graph(model.network, "model").SerializeToString())
        measured["quality"] = asdict(check_quality(session, before, known))
    else:
        check_parity(found, kind)
    graph.producer_name, graph.producer_version = "gru4rec-tune", version("gru4rec-tune")
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "kind": kind,
        "hyperparameters": json.dumps(model.hyperparameters.to_dict()),
        "item_ids": "text" if model.items.ids.dtype == object else "integer",
        "items_sha256": hashlib.sha256(render_items(model.items)).hexdigest(),
        "measured": json.dumps(measured),
        "versions": json.dumps(_versions()),
    }
    onnx.helper.set_model_props(graph, metadata)
    return graph.SerializeToString(), measured


def _report(files: dict[str, Measured]) -> Measured:
    return {"format_version": FORMAT_VERSION, "versions": _versions(), "files": files}


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("gru4rec-tune", "torch", "onnx", "onnxruntime")}


def _render(report: Measured) -> bytes:
    return (json.dumps(report, indent=2) + "\n").encode()


def _read(place: Path, most: int) -> bytes:
    """Return the content of a file, of which no more is read than is expected."""
    with place.open("rb") as file:
        return file.read(most + 1)


def _read_graph(place: Path, model: Model, kind: Kind) -> bytes:
    """Return a graph, without what says who wrote it."""
    expected = build_graph(model.network, kind)
    try:
        found = onnx.load_model_from_string(_read(place, expected.ByteSize() + METADATA_BYTES))
    except DecodeError as error:
        raise ModelFolderError(f"{place} cannot be read as ONNX: {first_line(error)}", "export it again") from error
    for field in ("producer_name", "producer_version", "metadata_props"):
        found.ClearField(field)
    if found != expected:
        raise _foreign(place)
    content: bytes = expected.SerializeToString()
    return content


def _foreign(place: Path) -> ModelFolderError:
    return ModelFolderError(
        f"{place} is not what this program writes for this model",
        "export it again; do not run it if the folder is a stranger's",
    )
