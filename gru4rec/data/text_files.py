"""CSV and TSV files -> batches of text columns, and the lines on which their records begin.

What the columns mean is the subject of `gru4rec.data.reading`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from gru4rec.errors import DataError

BLOCK_BYTES = 2**22


def read_header(path: Path, delimiter: str) -> list[str]:
    """Return the column names of a text file.

    Raises
    ------
    DataError
        When a record has not as many fields as the header.
    ArrowInvalid
        When the file is no text of this kind.
    """
    with _ragged_rows_named(path, delimiter), pa.csv.open_csv(path, parse_options=_parsing(delimiter)) as reader:
        return list(reader.schema.names)


def text_batches(path: Path, delimiter: str, columns: list[str]) -> Iterator[list[pa.Array]]:
    """Yield columns of a text file, a block at a time; all but the last as codes into a dictionary of the block.

    Everything is read as text: '007' must stay '007', and a bad value is then found with its row.

    Raises
    ------
    DataError
        When a record has not as many fields as the header.
    ArrowInvalid
        When the file is no text of this kind.
    """
    *encoded, plain = columns
    types = dict.fromkeys(encoded, pa.dictionary(pa.int32(), pa.string())) | {plain: pa.string()}
    conversion = pa.csv.ConvertOptions(
        include_columns=columns, column_types=types, null_values=["", "nan", "NaN"], strings_can_be_null=True
    )
    blocks = pa.csv.ReadOptions(block_size=BLOCK_BYTES)
    with (
        _ragged_rows_named(path, delimiter),
        pa.csv.open_csv(path, blocks, _parsing(delimiter), conversion) as reader,
    ):
        for batch in reader:
            yield batch.columns


def record_line(path: Path, delimiter: str, position: int) -> int:
    """Return the line on which a record begins; the first one after the header has position 0."""
    line, _ = next(islice(_records(path, delimiter), position + 1, None))
    return line


def _parsing(delimiter: str) -> pa.csv.ParseOptions:
    return pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)


@contextmanager
def _ragged_rows_named(path: Path, delimiter: str) -> Iterator[None]:
    """Say which record has not as many fields as the header, where that is why a file cannot be read."""
    try:
        yield
    except pa.ArrowInvalid:
        _check_widths(path, delimiter)
        raise


def _check_widths(path: Path, delimiter: str) -> None:
    """Raise DataError at the first record that has not as many fields as the header."""
    records = _records(path, delimiter)
    _, header = next(records, (0, []))
    for line, fields in records:
        if len(fields) != len(header):
            raise DataError(f"{path.name}: row {line}: expected {len(header)} columns, got {len(fields)}: {fields}")


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record, the header first, with the line on which it begins; blank lines are none."""
    with (
        pa.input_stream(path) as stream,
        io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="") as text,
    ):
        reader = csv.reader(text, delimiter=delimiter)
        line = 1
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
