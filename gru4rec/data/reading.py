"""CSV, TSV, Parquet and DataFrames -> Sessions. Every problem is named by column and row; nothing is repaired silently.

Row numbers in messages are line numbers for text files (the header is row 1) and positions from 0 elsewhere.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from gru4rec.data.sessions import AnyArray, IntArray, ItemVocabulary, Sessions
from gru4rec.errors import DataError, ParameterError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class LogFormat:
    """Which columns of a log hold what.

    Parameters
    ----------
    session_key, item_key, time_key : str
        Column names. Session and item ids are integers or text; times are numbers, ISO 8601 text or timestamps.
    time_unit : {'s', 'ms', 'us', 'ns'}
        Unit of numeric times.

    Raises
    ------
    ParameterError
        When the time unit is unknown.
    """

    session_key: str = "SessionId"
    item_key: str = "ItemId"
    time_key: str = "Time"
    time_unit: str = "s"

    def __post_init__(self) -> None:
        if self.time_unit not in SECONDS_PER_UNIT:
            raise ParameterError(f"time_unit must be one of {', '.join(SECONDS_PER_UNIT)}, got {self.time_unit!r}")
        if len(set(self.columns)) < len(self.columns):
            raise ParameterError(f"session, item and time must be three columns, got {', '.join(self.columns)}")

    @property
    def columns(self) -> list[str]:
        return [self.session_key, self.item_key, self.time_key]


DEFAULT_FORMAT = LogFormat()


@dataclass(frozen=True)
class _Place:
    """Where a log comes from, for messages."""

    name: str
    text_file: tuple[Path, str] | None = None  # path and delimiter

    def row(self, position: int) -> str:
        """Name the row at a position in the table; for a text file, the line on which it begins."""
        if self.text_file is None:
            return f"{self.name}: row {position}"
        line, _ = next(islice(_records(*self.text_file), position + 1, None))
        return f"{self.name}: row {line}"


def read_log(source: str | Path | pd.DataFrame, log_format: LogFormat = DEFAULT_FORMAT) -> Sessions:
    """Read an event log.

    Parameters
    ----------
    source : path or DataFrame
        A file ending in .csv, .tsv (either may be compressed: .gz, .bz2, .zst) or .parquet, or a table in memory.
    log_format : LogFormat
        Which columns hold the session, the item and the time.

    Returns
    -------
    Sessions
        In order of their start; events in time order, equal times in the order of the log.

    Raises
    ------
    DataError
        When the file cannot be read, is empty, lacks a column, or holds a missing id or an unreadable time.
    """
    if isinstance(source, pd.DataFrame):
        table, place = _table_from_frame(source, log_format), _Place("DataFrame")
    else:
        table, place = _table_from_file(Path(source), log_format)
    if table.num_rows == 0:
        raise DataError(f"{place.name} has no events")
    session_codes, session_ids = _ids(table[log_format.session_key], log_format.session_key, place)
    item_codes, item_ids = _ids(table[log_format.item_key], log_format.item_key, place)
    times, seconds = _times(table[log_format.time_key], log_format, place)
    return _assemble(session_codes, session_ids, item_codes, item_ids, times, seconds)


def _table_from_frame(frame: pd.DataFrame, log_format: LogFormat) -> pa.Table:
    _check_columns(list(frame.columns), log_format, "DataFrame")
    try:
        return pa.Table.from_pandas(frame[log_format.columns], preserve_index=False)
    except OverflowError:
        raise DataError(f"DataFrame: one of {', '.join(log_format.columns)} has a number beyond 64 bits") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"DataFrame: a column mixes types: {'; '.join(map(str, error.args))}", "make it all text or all numbers"
        ) from None


def _table_from_file(path: Path, log_format: LogFormat) -> tuple[pa.Table, _Place]:
    suffixes = [suffix for suffix in path.suffixes if suffix not in {".gz", ".bz2", ".zst"}]
    kind = suffixes[-1].lower() if suffixes else ""
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    try:
        if kind == ".parquet":
            _check_columns(pa.parquet.read_schema(path).names, log_format, path.name)
            return pa.parquet.read_table(path, columns=log_format.columns), _Place(path.name)
        if kind in DELIMITERS:
            delimiter = DELIMITERS[kind]
            return _read_text(path, delimiter, log_format), _Place(path.name, (path, delimiter))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None
    raise DataError(f"{path.name} is not a .csv, .tsv or .parquet file")


def _read_text(path: Path, delimiter: str, log_format: LogFormat) -> pa.Table:
    parsing = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    # Everything is read as text: '007' must stay '007', and a bad value is then found with its row.
    conversion = pa.csv.ConvertOptions(
        include_columns=log_format.columns,
        column_types={name: pa.string() for name in log_format.columns},
        null_values=["", "nan", "NaN"],
        strings_can_be_null=True,
    )
    try:
        with pa.csv.open_csv(path, parse_options=parsing) as reader:
            _check_columns(reader.schema.names, log_format, path.name)
        return pa.csv.read_csv(path, parse_options=parsing, convert_options=conversion)
    except pa.ArrowInvalid:
        _check_widths(path, delimiter)
        raise


def _check_widths(path: Path, delimiter: str) -> None:
    """Raise DataError at the first record of a text file that has not as many fields as its header."""
    records = _records(path, delimiter)
    _, header = next(records, (0, []))
    for line, fields in records:
        if len(fields) != len(header):
            raise DataError(f"{path.name}: row {line}: expected {len(header)} columns, got {len(fields)}: {fields}")


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record of a text file, the header first, with the line on which it begins; blank lines are none."""
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


def _check_columns(found: list[str], log_format: LogFormat, name: str) -> None:
    for key, flag in zip(log_format.columns, ("--session-key", "--item-key", "--time-key"), strict=True):
        if key not in found:
            listed = ", ".join(map(str, found))
            raise DataError(f"{name} has no column {key!r} (found: {listed})", f"say which it is with {flag}")
        if found.count(key) > 1:
            raise DataError(f"{name} has {found.count(key)} columns {key!r}", "rename or drop all but one")


def _ids(column: pa.ChunkedArray, name: str, place: _Place) -> tuple[IntArray, AnyArray]:
    """Return codes into the sorted unique ids, and those ids (int64 or str objects)."""
    if column.null_count:
        position = _first(pc.is_null(column))
        raise DataError(f"{place.row(position)}: {name} is missing", "drop such rows or give them an id")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = _whole_numbers(column, name, place)
    if pa.types.is_integer(column.type):
        column = _int64(column, name, place)
    elif not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError(f"{place.name}: {name} must hold integers or text, got {column.type}")
    encoded = column.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    unique = native_ids(encoded.dictionary)
    order = np.argsort(unique, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[codes], unique[order]


def _whole_numbers(column: pa.ChunkedArray, name: str, place: _Place) -> pa.ChunkedArray:
    values = column.to_numpy()
    bad = ~(np.isfinite(values) & (values == np.round(values)))
    if bad.any():
        position = int(np.argmax(bad))
        problem = "is missing" if np.isnan(values[position]) else f"{values[position]!s} is not a whole number"
        raise DataError(f"{place.row(position)}: {name} {problem}", "ids are integers or text")
    return _int64(column, name, place)


def _int64(column: pa.ChunkedArray, name: str, place: _Place) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"{place.name}: {name} has a number beyond 64 bits: {error}") from None


def native_ids(dictionary: pa.Array) -> AnyArray:
    """Return ids as int64 when all of them are canonical decimal integers (not '007'), else as text."""
    if pa.types.is_integer(dictionary.type):
        return np.asarray(dictionary.to_numpy())
    try:
        numbers = dictionary.cast(pa.int64())
    except pa.ArrowInvalid:
        numbers = None
    if numbers is not None and pc.all(pc.equal(numbers.cast(dictionary.type), dictionary)).as_py():
        return np.asarray(numbers.to_numpy())
    return np.asarray(dictionary.to_numpy(zero_copy_only=False), dtype=object)


def _times(column: pa.ChunkedArray, log_format: LogFormat, place: _Place) -> tuple[AnyArray, Callable[[Any], Any]]:
    """Return times to sort by, and the function that turns them into seconds."""
    name = log_format.time_key
    if column.null_count:
        raise DataError(f"{place.row(_first(pc.is_null(column)))}: {name} is missing")
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_numpy(), _to_seconds(column.type.unit)
    if pa.types.is_integer(column.type):
        return _int64(column, name, place).to_numpy(), _to_seconds(log_format.time_unit)
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).to_numpy()
        if not np.isfinite(values).all():
            position = int(np.argmax(~np.isfinite(values)))
            raise DataError(f"{place.row(position)}: {name} {values[position]!s} is not a finite number")
        return values, _to_seconds(log_format.time_unit)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _times_from_text(column, log_format, place)
    raise DataError(f"{place.name}: {name} must hold numbers, ISO 8601 text or timestamps, got {column.type}")


def _times_from_text(
    column: pa.ChunkedArray, log_format: LogFormat, place: _Place
) -> tuple[AnyArray, Callable[[Any], Any]]:
    for number in (pa.int64(), pa.float64()):
        try:
            return _times(column.cast(number), log_format, place)
        except pa.ArrowInvalid:
            continue
    text = pd.Series(column.to_numpy(zero_copy_only=False), dtype=object)
    moments = pd.to_datetime(text.where(text.str.match(r"\s*\d")), format="ISO8601", utc=True, errors="coerce")
    is_number = pd.to_numeric(text, errors="coerce").notna()
    bad = moments.isna() & ~is_number
    if bad.any():
        position = int(np.argmax(bad.to_numpy()))
        raise DataError(
            f"{place.row(position)}: {log_format.time_key} {text[position]!r} is not a number or an ISO 8601 time",
            "write times as seconds (or name the --time-unit) or as 2014-04-01T10:00:00Z",
        )
    if is_number.any():
        position = int(np.argmax(is_number.to_numpy()))
        raise DataError(
            f"{place.row(position)}: {log_format.time_key} mixes numbers and ISO 8601 times, got {text[position]!r}",
            "write all times one way",
        )
    return moments.astype(np.int64).to_numpy(), _to_seconds(moments.dt.unit)


def _to_seconds(unit: str) -> Callable[[Any], Any]:
    if unit == "s":
        return lambda times: times
    return lambda times: times * SECONDS_PER_UNIT[unit]


def _assemble(
    session_codes: IntArray,
    session_ids: AnyArray,
    item_codes: IntArray,
    item_ids: AnyArray,
    times: AnyArray,
    seconds: Callable[[Any], Any],
) -> Sessions:
    by_time = np.argsort(times, kind="stable")
    first_event = np.full(len(session_ids), len(times), dtype=np.int64)
    # Reversed, so that the earliest event of a session is written last and stays.
    first_event[session_codes[by_time[::-1]]] = np.arange(len(times))[::-1]
    sessions_by_start = np.argsort(first_event, kind="stable")
    rank = np.empty_like(sessions_by_start)
    rank[sessions_by_start] = np.arange(len(rank))
    order = by_time[np.argsort(rank[session_codes[by_time]], kind="stable")]
    lengths = np.bincount(rank[session_codes], minlength=len(rank))
    return Sessions(
        item_index=item_codes[order].astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        times=seconds(times[order]),
        session_ids=session_ids[sessions_by_start],
        items=ItemVocabulary(item_ids),
    )


def _first(mask: pa.ChunkedArray) -> int:
    return int(np.argmax(mask.to_numpy()))
