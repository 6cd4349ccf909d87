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
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv

from gru4rec.errors import DataError
from gru4rec.files import check_expansion, shorten

COMPRESSED = (".gz", ".bz2", ".zst")
BLOCK_BYTES = 2**22
NULL_VALUES = ("", "nan", "NaN")
SEEN_DELIMITERS = (",", ";", "\t", "|")


def read_header(path: Path, delimiter: str) -> list[str]:
    """Return the column names of a text file.

    Raises
    ------
    DataError
        When there is none, it is far too long, or the content is out of proportion to a compressed file.
    OSError
        When the file cannot be read or decompressed.
    """
    for _, header in _records(path, delimiter):
        return header
    raise DataError(f"{path.name} cannot be read: it has no header")


def find_delimiter(path: Path, usual: str) -> str:
    """Return what separates the columns: `usual`, or what gives more of them where that gives but one.

    Raises
    ------
    DataError, OSError
        As `read_header` does.
    """
    if len(read_header(path, usual)) > 1:
        return usual
    return max(usual, *SEEN_DELIMITERS, key=lambda delimiter: len(read_header(path, delimiter)))


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
        include_columns=columns, column_types=types, null_values=list(NULL_VALUES), strings_can_be_null=True
    )
    blocks = pa.csv.ReadOptions(block_size=BLOCK_BYTES)
    parsing = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with (
        _ragged_rows_named(path, delimiter),
        _open(path) as content,
        pa.csv.open_csv(content, blocks, parsing, conversion) as reader,
    ):
        for batch in reader:
            yield batch.columns


def record_line(path: Path, delimiter: str, position: int) -> int:
    """Return the line on which a record begins; the first one after the header has position 0."""
    line, _ = next(islice(_records(path, delimiter), position + 1, None), (position + 2, []))
    return line


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
            found = shorten(repr(fields))
            raise DataError(f"{path.name}: row {line}: expected {len(header)} columns, got {len(fields)}: {found}")


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record, the header first, with the line on which it begins; blank lines are none."""
    line = 1
    with _open(path) as content, io.TextIOWrapper(content, "utf-8-sig", errors="replace", newline="") as text:
        reader = csv.reader(_lines(text, path), delimiter=delimiter)
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path.name}: row {line}: {error}") from None


def _lines(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    while line := text.readline(BLOCK_BYTES):
        if len(line) == BLOCK_BYTES:
            raise DataError(f"{path.name} has a line of more than {BLOCK_BYTES:,} characters")
        yield line


def _open(path: Path) -> IO[bytes]:
    stream: IO[bytes] = pa.input_stream(path)
    return stream if path.suffix not in COMPRESSED else io.BufferedReader(_Decompressed(stream, path), BLOCK_BYTES)


class _Decompressed(io.RawIOBase):
    """The content of a compressed file, as far as it is in proportion to the file's size."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream, self._path, self._count = stream, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        self._count += len(content)
        check_expansion(self._path, self._count)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()
