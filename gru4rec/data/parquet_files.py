"""Parquet files that others wrote: what a file claims to hold is checked against its size before it is read.

A value that stands in a file once may be repeated over millions of rows. So text is read as codes into a dictionary,
and written out only after its length has been added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from gru4rec.data.parquet_pages import measure_pages
from gru4rec.errors import DataError
from gru4rec.files import check_expansion

BYTES_PER_ROW = 16


def read_schema(path: Path) -> pa.Schema:
    """Return the names and types of a file's columns.

    Raises
    ------
    DataError
        When the file claims to hold far more than its size allows.
    ArrowException, OSError, RuntimeError, ValueError
        When it is no Parquet file.
    """
    with open_parquet(path, []) as file:
        return file.schema_arrow


@contextmanager
def open_parquet(path: Path, columns: list[str]) -> Iterator[pa.parquet.ParquetFile]:
    """Open a file to read some of its columns, text as codes into a dictionary; raises as `read_schema` does."""
    size = path.stat().st_size  # nothing in the file has more parts than the file has bytes
    limits = {"thrift_string_size_limit": size, "thrift_container_size_limit": size}
    with pa.parquet.ParquetFile(path, **limits) as file:
        metadata, schema = file.metadata, file.schema_arrow
        paths = [file.schema.column(place).path for place in range(metadata.num_columns)]
    chosen = {
        place for place, leaf in enumerate(paths) for name in columns if leaf == name or leaf.startswith(f"{name}.")
    }
    rows, expanded_bytes = measure_pages(path, chosen)
    check_expansion(path, max(BYTES_PER_ROW * rows, expanded_bytes))
    texts = [name for name in columns if _is_repeatable(schema.field(name).type)]
    with pa.parquet.ParquetFile(path, metadata=metadata, read_dictionary=texts, **limits) as file:
        yield file


def read_table(path: Path, columns: list[str] | None = None, num_rows: int | None = None) -> pa.Table:
    """Read a table of plain columns, all of them unless some are named.

    Raises
    ------
    DataError
        When the file claims to hold far more than its size allows, or something else than these columns and that many
        rows.
    ArrowException, OSError, RuntimeError, ValueError
        When it is no Parquet file.
    """
    schema = read_schema(path)
    columns = schema.names if columns is None else columns
    for name in columns:
        if schema.names.count(name) != 1:
            raise DataError(f"{path.name} must have one column {name!r}, got {schema.names.count(name)}")
    nested = [name for name in columns if pa.types.is_nested(schema.field(name).type)]
    if nested:
        raise DataError(f"{path.name}: {nested[0]} must hold plain values, got {schema.field(nested[0]).type}")
    with open_parquet(path, columns) as file:
        if num_rows not in (None, file.metadata.num_rows):
            raise DataError(f"{path.name} has {file.metadata.num_rows:,} rows, expected {num_rows:,}")
        table = file.read(columns)
    return pa.table([_written_out(column, path) for column in table.columns], names=table.column_names)


def _is_repeatable(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def _written_out(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    if not pa.types.is_dictionary(column.type):
        return column
    kind = column.type.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        lengths = (pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() for chunk in column.chunks)
        check_expansion(path, sum(length or 0 for length in lengths))
    return column.cast(kind)
