"""examples/ of a model folder: a few sessions and what the model recommends for them, to try and to check it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gru4rec.data.reading import read_log
from gru4rec.data.text_files import NULL_VALUES
from gru4rec.data.writing import write_log
from gru4rec.model import Model

INPUT, EXPECTED = "input.csv", "expected.csv"
NUM_SESSIONS, K = 5, 10


def write_examples(model: Model, folder: Path) -> None:
    """Write input.csv and expected.csv.

    Raises
    ------
    DivergedError
        When the model's scores are not finite.
    """
    write_log(make_input(model), folder / INPUT)
    write_log(model.recommend(read_log(folder / INPUT), K).table, folder / EXPECTED)


def make_input(model: Model) -> pd.DataFrame:
    """Return a log of sessions of one event, two, three and so on.

    They are made of the most supported items in turn, so nobody's session is among them but by chance. The last one
    has an item that the model does not know.
    """
    ranked = model.popular_items if model.support is not None else np.arange(len(model.items))
    readable = [item_id for item_id in model.items.decode(ranked[:100]).tolist() if _survives_csv(str(item_id))]
    lengths = range(1, NUM_SESSIONS + 1)
    total = sum(lengths)
    items = [readable[place % len(readable)] for place in range(total)] if readable else []
    sessions = np.repeat([f"example-{length}" for length in lengths], lengths)[: len(items)]
    unknown = _unknown_id(model)
    return pd.DataFrame(
        {
            "SessionId": [*sessions.tolist(), "example-unknown"],
            "ItemId": [*items, unknown],
            "Time": range(len(items) + 1),
        }
    )


def _survives_csv(text: str) -> bool:
    return text.isprintable() and text not in NULL_VALUES


def _unknown_id(model: Model) -> int | str:
    """Return an id that is none of the model's, of their kind: a number beside text would make text of all."""
    if model.items.ids.dtype == object:
        candidate = "unknown"
        while model.items.index_of(candidate) >= 0:
            candidate += "-"
        return candidate
    number = 0
    while model.items.index_of(number) >= 0:
        number -= 1
    return number
