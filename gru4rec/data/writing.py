"""Tables of events or recommendations -> CSV, TSV or Parquet, by the name's ending."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from gru4rec.data.reading import DELIMITERS
from gru4rec.errors import DataError
from gru4rec.files import atomic_file


def write_log(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table; the file appears whole or not at all.

    Raises
    ------
    DataError
        When the name ends in something else than .csv, .tsv or .parquet.
    """
    write_parts([frame], path)


def write_parts(frames: Iterable[pd.DataFrame], path: str | Path) -> None:
    """Write a table that comes in parts of the same columns; the file appears whole or not at all.

    Raises
    ------
    DataError
        When the name ends in something else than .csv, .tsv or .parquet.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in {*DELIMITERS, ".parquet"}:
        raise DataError(f"{path} must end in .csv, .tsv or .parquet")
    with atomic_file(path) as temporary:
        if kind == ".parquet":
            _write_parquet(frames, temporary)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                for number, frame in enumerate(frames):
                    frame.to_csv(file, sep=DELIMITERS[kind], index=False, header=number == 0)


def _write_parquet(frames: Iterable[pd.DataFrame], path: Path) -> None:
    writer = None
    try:
        for frame in frames:
            if writer is None:
                writer = pa.parquet.ParquetWriter(path, _schema(frame))
            if len(frame):
                writer.write_table(pa.Table.from_pandas(frame, writer.schema, preserve_index=False))
    finally:
        if writer is not None:
            writer.close()


def _schema(frame: pd.DataFrame) -> pa.Schema:
    """Return the types of the columns; one of objects holds text, also where it is empty."""
    found = pa.Schema.from_pandas(frame, preserve_index=False).remove_metadata()
    return pa.schema([pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else field for field in found])
