"""A table of item ids -> ItemVocabulary, for models that were saved without their ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from gru4rec.data.parquet_files import read_schema, read_table
from gru4rec.data.reading import DELIMITERS, native_ids
from gru4rec.data.sessions import AnyArray, IntArray, ItemVocabulary
from gru4rec.data.text_files import read_header
from gru4rec.errors import DataError
from gru4rec.files import shorten, unreadable_as

COLUMNS = ("iid", "item_id")


def read_item_ids(path: str | Path, num_items: int) -> ItemVocabulary:
    """Read which item id each item index stands for.

    Parameters
    ----------
    path : path
        A .csv, .tsv or .parquet file with the columns `iid` (item index) and `item_id` (integers or text), in any
        order of rows; other columns are not read.
    num_items : int
        The indices must be 0 .. num_items - 1, each once.

    Returns
    -------
    ItemVocabulary
        Integers when all item ids are canonical decimal integers, else text, as in logs.

    Raises
    ------
    DataError
        When the file cannot be read, lacks a column or a value, or is not a complete one-to-one mapping.
    """
    path = Path(path)
    with unreadable_as(DataError, path.name):
        table = _read_table(path)
        columns = [_as_text(table[name].combine_chunks(), name, path) for name in COLUMNS]
    index, problems = _item_index(columns[0], num_items)
    item_ids = native_ids(columns[1])
    if not problems:
        problems = _problems(index, item_ids, num_items)
    if problems:
        raise DataError(f"{path.name} is not a one-to-one mapping of {num_items:,} items: {'; '.join(problems)}")
    return ItemVocabulary(item_ids[np.argsort(index)])


def _read_table(path: Path) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file")
    kind = path.suffix.lower()
    if kind not in {".parquet", *DELIMITERS}:
        raise DataError(f"{path.name} is not a .csv, .tsv or .parquet file")
    if kind == ".parquet":
        _check_columns(read_schema(path).names, path)
        return read_table(path, list(COLUMNS))
    _check_columns(read_header(path, DELIMITERS[kind]), path)
    parsing = pa.csv.ParseOptions(delimiter=DELIMITERS[kind], newlines_in_values=True)
    conversion = pa.csv.ConvertOptions(
        include_columns=COLUMNS,
        column_types=dict.fromkeys(COLUMNS, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
    )
    return pa.csv.read_csv(path, parse_options=parsing, convert_options=conversion)


def _check_columns(found: list[str], path: Path) -> None:
    for name in COLUMNS:
        if found.count(name) != 1:
            listed = shorten(", ".join(found))
            raise DataError(
                f"{path.name} must have one column {name!r} (found: {listed})",
                f"name its columns {' and '.join(COLUMNS)}",
            )


def _as_text(column: pa.Array, name: str, path: Path) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (
        pa.types.is_integer(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ):
        raise DataError(f"{path.name}: {name} must hold integers or text, got {column.type}")
    if column.null_count:
        raise DataError(f"{path.name}: {name} is missing in {column.null_count:,} of {len(column):,} rows")
    return column.cast(pa.string())


def _item_index(texts: pa.Array, num_items: int) -> tuple[IntArray, list[str]]:
    """Return the numbers, and what is wrong with them."""
    is_number = pc.match_substring_regex(texts, r"^[0-9]{1,18}$")
    index = pc.if_else(is_number, texts, "-1").cast(pa.int64()).to_numpy()
    bad = (index < 0) | (index >= num_items)
    if not bad.any():
        return index, []
    return index, [f"iid {texts[int(np.argmax(bad))].as_py()!r} is not in 0 .. {num_items - 1}"]


def _problems(index: IntArray, item_ids: AnyArray, num_items: int) -> list[str]:
    problems = []
    counts = np.bincount(index, minlength=num_items)
    if (counts == 0).any():
        problems.append(f"{(counts == 0).sum():,} are missing, the first is iid {np.argmin(counts)}")
    if (counts > 1).any():
        problems.append(f"iid {np.argmax(counts > 1)} has {counts[counts > 1][0]} rows")
    repeated = pd.Index(item_ids).duplicated()
    if repeated.any():
        item_id = item_ids[int(np.argmax(repeated))]
        rows = np.sort(index[item_ids == item_id])
        problems.append(f"item_id {item_id!s} stands for iid {', '.join(map(str, rows[:3]))}")
    return problems
