"""recpack's InteractionMatrix -> Sessions, recognised by its interface: recpack itself is never imported.

A user's history is one session; users and items are the rows and columns of the matrix.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard

import numpy as np
import pandas as pd
from scipy import sparse

from gru4rec.data.reading import read_log
from gru4rec.data.sessions import ItemVocabulary, Sessions
from gru4rec.errors import DataError


class Interactions(Protocol):
    """What is needed of an InteractionMatrix.

    `timestamps` is a Series indexed by (user, item), one entry per interaction; `values` counts interactions in a csr
    matrix of shape `shape` = (users, items).
    """

    shape: tuple[int, int]

    @property
    def has_timestamps(self) -> bool: ...

    @property
    def timestamps(self) -> pd.Series[Any]: ...

    @property
    def values(self) -> sparse.csr_matrix: ...


def check_interactions(**matrices: Any) -> tuple[int, int]:
    """Return the common shape of matrices, given by the names that messages call them.

    Raises
    ------
    TypeError
        When one is no InteractionMatrix; a csr matrix in particular carries no order of events.
    ValueError
        When one has no timestamps, or shapes differ.
    """
    for name, matrix in matrices.items():
        if not is_interactions(matrix):
            raise TypeError(
                f"{name} must be an InteractionMatrix, Sessions or a DataFrame, got {type(matrix).__name__}; hint: the "
                "order of events is needed, which a csr matrix does not carry"
            )
        if not matrix.has_timestamps:
            raise ValueError(f"{name} has no timestamps, so its events have no order; hint: pass timestamp_ix to it")
    (first, matrix), *others = matrices.items()
    for name, other in others:
        if other.shape != matrix.shape:
            raise ValueError(f"{name} has shape {other.shape}, but {first} has shape {matrix.shape}")
    return int(matrix.shape[0]), int(matrix.shape[1])


def is_interactions(matrix: object) -> TypeGuard[Interactions]:
    """Whether an object has the interface of an InteractionMatrix."""
    # Asked of the class: without timestamps the property itself raises.
    return all(hasattr(type(matrix), name) for name in ("has_timestamps", "timestamps", "values"))


def read_interactions(matrix: Interactions) -> Sessions:
    """Return the histories of all users that have one, over a vocabulary of all columns.

    Session ids are row numbers, item ids column numbers; equal times keep the order of the matrix.

    Raises
    ------
    DataError
        When there is no interaction.
    """
    times = matrix.timestamps
    if len(times) == 0:
        raise DataError("the InteractionMatrix has no interactions")
    users, items = (np.asarray(times.index.get_level_values(level)) for level in (0, 1))
    frame = pd.DataFrame({"SessionId": users, "ItemId": items, "Time": times.to_numpy()})
    columns = ItemVocabulary(np.arange(matrix.shape[1]))
    return read_log(frame).with_items_of(columns)[0]
