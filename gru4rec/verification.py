"""Whether a model folder is whole, and whether it computes here what it computed where it was written."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from gru4rec.data.reading import read_log
from gru4rec.errors import GRU4RecError, ModelFolderError
from gru4rec.examples import EXPECTED, INPUT, K
from gru4rec.files import first_line, read_text, unreadable_as
from gru4rec.model import Model
from gru4rec.model_folder import load_model
from gru4rec.sealed_folder import DIGESTS, check_seal

RELATIVE_ERROR = 1e-4  # another processor rounds products differently, in the sixth digit


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
    passed : bool, optional
        None where there was nothing to check.
    detail : str
        What was found, on one line.
    """

    name: str
    passed: bool | None
    detail: str


def verify_model(path: str | Path) -> list[Check]:
    """Check a model folder: its files, what is in them, and what the model recommends for its examples.

    Nothing is raised for what is wrong with the folder: it is in the checks. They end where a folder cannot be loaded.
    """
    path = Path(path)
    checks = [_run("files", partial(_check_files, path))]
    if not checks[0].passed:
        return checks
    loaded: list[Model] = []
    checks.append(_run("model", partial(_check_loads, path, loaded)))
    for model in loaded:
        checks += [
            _run("weights", partial(_check_weights, model)),
            _run("support", partial(_check_support, model)),
            _run("examples", partial(_check_examples, model, path)),
            _run("onnx", partial(_check_onnx, model, path)),
        ]
    return checks


class _NothingToCheckError(Exception):
    """There is nothing to check; the message says why."""


def _run(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except _NothingToCheckError as reason:
        return Check(name, None, str(reason))
    except GRU4RecError as error:
        return Check(name, False, first_line(error))


def _check_files(path: Path) -> str:
    with unreadable_as(ModelFolderError, path):
        sealed = check_seal(path)
        files = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()}
    foreign = sorted(files - {*sealed, DIGESTS})
    if foreign:
        raise ModelFolderError(f"{path} has {foreign[0]}, of which {DIGESTS} knows nothing", "remove it")
    return f"{len(sealed)} files are as {DIGESTS} says, and there are no others"


def _check_loads(path: Path, loaded: list[Model]) -> str:
    loaded.append(load_model(path))
    sizes = sum(weight.numel() for weight in loaded[0].network.weights.values())
    return f"config.json is sound, {len(loaded[0].items):,} items and {sizes:,} weights fit it"


def _check_weights(model: Model) -> str:
    wrong = [name for name, weight in model.network.weights.items() if not weight.isfinite().all()]
    if wrong:
        raise ModelFolderError(f"{wrong[0]} has weights that are not finite")
    return "all are finite"


def _check_support(model: Model) -> str:
    if model.support is None or model.training_log is None:
        raise _NothingToCheckError("not known, so there is no popularity fallback")
    total, told = int(model.support.sum()), model.training_log.num_events
    if total != told:
        raise ModelFolderError(f"items.parquet counts {total:,} events, config.json tells of {told:,}")
    return f"the items have {total:,} events together, as the training log had"


def _check_examples(model: Model, path: Path) -> str:
    folder = path / "examples"
    if not (folder / INPUT).exists() or not (folder / EXPECTED).exists():
        raise _NothingToCheckError("there are none: it is of format version 1")
    table = model.recommend(read_log(folder / INPUT), len(model.items)).table.astype({"item": str, "session": str})
    expected = _read_expected(folder / EXPECTED)
    return compare_examples(table, expected)


def compare_examples(table: pd.DataFrame, expected: pd.DataFrame) -> str:
    """Return how far recommendations are from those that were expected; ids may differ where scores are tied.

    Parameters
    ----------
    table : DataFrame
        Columns session, rank, item, score and source: of all items.
    expected : DataFrame
        The same columns: of the first ranks.

    Raises
    ------
    ModelFolderError
        When an item has another score than expected, or a rank has one, or a row is missing or too many.
    """
    keys = ["session", "rank", "source"]
    wanted = set(table.loc[table["rank"] <= K, keys].itertuples(index=False, name=None))
    if wanted != set(expected[keys].itertuples(index=False, name=None)) or len(wanted) != len(expected):
        raise ModelFolderError(f"{EXPECTED} has other sessions, ranks or sources than the model recommends")
    found = expected.merge(table, "left", ["session", "item"], suffixes=("", "_of_item"))
    found = found.merge(table[["session", "rank", "score"]], "left", ["session", "rank"], suffixes=("", "_of_rank"))
    scale = found["score"].abs().groupby(found["session"]).transform("max")
    errors = {
        what: (found["score"] - found[f"score_of_{what}"]).abs() / scale.clip(lower=1e-30) for what in ("item", "rank")
    }
    for what, error in errors.items():
        wrong = ~(error <= RELATIVE_ERROR)  # an item that the model does not know has no score
        if wrong.any():
            row = found[wrong].iloc[0]
            raise ModelFolderError(
                f"{EXPECTED}: {row['session']} should have {row['item']} of score {row['score']:g} at rank "
                f"{row['rank']}, here that {what} has {row[f'score_of_{what}']:g}"
            )
    largest = max(float(error.max()) for error in errors.values())
    return f"{len(expected)} recommendations are as expected, largest relative error {largest:.0e}"


def _read_expected(place: Path) -> pd.DataFrame:
    columns = {"session": str, "rank": int, "item": str, "score": float, "source": str}
    with unreadable_as(ModelFolderError, place):
        table = pd.read_csv(io.StringIO(read_text(place)), dtype=columns, keep_default_na=False)
    if list(table.columns) != list(columns):
        raise ModelFolderError(f"{place} must have the columns {', '.join(columns)}")
    return table


def _check_onnx(model: Model, path: Path) -> str:
    if not (path / "onnx").is_dir():
        raise _NothingToCheckError("it was not exported")
    try:
        importlib.import_module("onnxruntime")
        check_onnx = importlib.import_module("gru4rec.export").check_onnx
    except ModuleNotFoundError as error:
        raise _NothingToCheckError(f"{error.name} is not installed: pip install 'gru4rec-tune[onnx]'") from None
    errors: dict[str, float] = check_onnx(model, path)
    if not all(map(math.isfinite, errors.values())):
        raise ModelFolderError(f"scores of onnx/ are not finite: {errors}")
    return "largest errors of scores: " + ", ".join(f"{name} {error:.0e}" for name, error in errors.items())
