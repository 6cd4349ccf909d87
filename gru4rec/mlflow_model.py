"""A model folder as an MLflow model, which `mlflow models predict` and `serve` load by the name of this module.

It holds the model folder as it is and this package's code: no pickle, and nothing else to install than what is in
REQUIREMENTS. Loading it runs that code, as with any MLflow model; `gru4rec.load_model` runs none.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from gru4rec.data.reading import DEFAULT_FORMAT, read_log
from gru4rec.data.sessions import ItemVocabulary
from gru4rec.errors import ModelFolderError
from gru4rec.model import Model
from gru4rec.model_folder import load_model

K = 20
REQUIREMENTS = ("numpy", "pandas", "pyarrow", "safetensors", "scikit-learn", "scipy", "torch")
SESSION, ITEM, TIME = DEFAULT_FORMAT.columns


class SessionRecommender:
    """What MLflow calls: events in, the best next items of their sessions out."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the best next items of each session.

        Parameters
        ----------
        model_input : DataFrame
            A row per event: SessionId, ItemId and, unless the events of each session are in their order, Time.
        params : dict, optional
            'k', items per session; 'exclude_seen', whether to leave out items of the session.

        Returns
        -------
        DataFrame
            Columns session, rank (from 1), item, score and source, which is 'model', or 'popular' for sessions
            without a known item.

        Raises
        ------
        DataError
            When an id is missing or a time unreadable.
        """
        given = params or {}
        events = model_input if TIME in model_input else model_input.assign(**{TIME: range(len(model_input))})
        k, exclude_seen = int(given.get("k", K)), bool(given.get("exclude_seen", False))
        return self._model.recommend(read_log(events), k, exclude_seen).table


def save_mlflow_model(model_folder: str | Path, out: str | Path) -> Path:
    """Write a folder that MLflow loads as a pyfunc model, with signature and an example of its input.

    Parameters
    ----------
    model_folder : path
    out : path
        Must not exist.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ModelFolderError
        When `out` exists, or the model folder cannot be read.
    """
    import mlflow.pyfunc

    out = Path(out)
    if out.exists():
        raise ModelFolderError(f"{out} exists already", "choose another name")
    items = load_model(model_folder).items
    mlflow.pyfunc.save_model(
        out,
        loader_module=__name__,
        data_path=str(model_folder),
        code_paths=[str(Path(__file__).parent)],
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
        signature=_signature(items),
        input_example=pd.DataFrame({SESSION: [1, 1], ITEM: items.ids[:2]}),
    )
    return out


def _signature(items: ItemVocabulary) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    anything = AnyType()  # ids of sessions, and times, are of any kind that logs have
    item = "string" if items.ids.dtype == object else "long"
    return ModelSignature(
        Schema([ColSpec(anything, SESSION), ColSpec(item, ITEM), ColSpec(anything, TIME, required=False)]),
        Schema(
            [
                ColSpec(anything, "session"),
                ColSpec("long", "rank"),
                ColSpec(item, "item"),
                ColSpec("float", "score"),
                ColSpec("string", "source"),
            ]
        ),
        ParamSchema([ParamSpec("k", "long", K), ParamSpec("exclude_seen", "boolean", False)]),
    )


def _load_pyfunc(path: str) -> SessionRecommender:
    """Load what `save_mlflow_model` wrote: the function that MLflow looks for."""
    return SessionRecommender(load_model(path))
