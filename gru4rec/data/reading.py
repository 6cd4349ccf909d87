"""CSV, TSV, Parquet and DataFrames -> Sessions. Every problem is named by column and row; nothing is repaired silently.

Row numbers in messages are line numbers for text files (the header is row 1) and positions from 0 elsewhere.

A log is read batch by batch, and only codes are kept of the ids: memory is a small multiple of what is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gru4rec.data.parquet_files import open_parquet, read_schema
from gru4rec.data.sessions import AnyArray, IndexArray, ItemVocabulary, Sessions, order_events
from gru4rec.data.text_files import find_delimiter, read_header, record_line, text_batches
from gru4rec.errors import DataError, ParameterError
from gru4rec.files import shorten, unreadable_as

DELIMITERS = {".csv": ",", ".tsv": "\t"}
BATCH_ROWS = 2**17
TIME_CHARACTERS = 200
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

Batches = Callable[[], Iterator[list[pa.Array]]]
_Reading = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class Place:
    """Where a log comes from, for messages."""

    name: str
    text_file: tuple[Path, str] | None = None  # path and delimiter
    first_row: int = 0  # of a part of a log

    def row(self, position: int) -> str:
        """Name the row at a position in the table; for a text file, the line on which it begins."""
        row = self.first_row + position
        if self.text_file is not None:
            row = record_line(*self.text_file, row)
        return f"{self.name}: row {row}"


def read_log(source: str | Path | pd.DataFrame, log_format: LogFormat = DEFAULT_FORMAT) -> Sessions:
    """Read an event log.

    Parameters
    ----------
    source : path or DataFrame
        A file ending in .csv, .tsv (either may be compressed: .gz, .bz2, .zst, and have ; or | between columns) or
        .parquet, or a table in memory.
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
        return sessions_of(*_batches_of_frame(source, log_format), log_format)
    path = Path(source)
    with unreadable_as(DataError, path.name):
        return sessions_of(*batches_of_file(path, log_format), log_format)


def sessions_of(batches: Batches, place: Place, log_format: LogFormat) -> Sessions:
    """Return the sessions of batches of sessions, items and times, ids as codes into a dictionary of each batch."""
    columns = _columns(batches)
    if sum(map(len, columns[-1])) == 0:
        raise DataError(f"{place.name} has no events")
    sessions, session_ids = _ids(_taken(columns), log_format.session_key, place)
    items, item_ids = _sorted(*_ids(_taken(columns), log_format.item_key, place))
    times, seconds = _times(_taken(columns), log_format, place)
    pa.default_memory_pool().release_unused()
    order, by_start, offsets = order_events(sessions, times, len(session_ids))
    items = items[order]  # under the same name, so that the log's order is freed
    times = times[order]
    return Sessions(
        item_index=items,
        offsets=offsets,
        times=seconds(times),
        session_ids=session_ids[by_start],
        items=ItemVocabulary(item_ids),
    )


def _batches_of_frame(frame: pd.DataFrame, log_format: LogFormat) -> tuple[Batches, Place]:
    _check_columns(list(frame.columns), log_format, "DataFrame")
    try:
        table = pa.Table.from_pandas(frame[log_format.columns], preserve_index=False)
    except OverflowError:
        raise DataError(f"DataFrame: one of {', '.join(log_format.columns)} has a number beyond 64 bits") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"DataFrame: a column mixes types: {'; '.join(map(str, error.args))}", "make it all text or all numbers"
        ) from None
    _check_kinds(table.schema, log_format, "DataFrame")
    return lambda: _encoded(table.to_batches(BATCH_ROWS), log_format, "DataFrame"), Place("DataFrame")


def batches_of_file(path: Path, log_format: LogFormat) -> tuple[Batches, Place]:
    """Return a function that reads a file's batches for `sessions_of`, and the place to name in messages."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in {".gz", ".bz2", ".zst"}]
    kind = suffixes[-1].lower() if suffixes else ""
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    if kind == ".parquet":
        schema = read_schema(path)
        _check_columns(schema.names, log_format, path.name)
        _check_kinds(schema, log_format, path.name)
        return lambda: _parquet_batches(path, log_format), Place(path.name)
    if kind in DELIMITERS:
        text_file = (path, find_delimiter(path, DELIMITERS[kind]))
        _check_columns(read_header(*text_file), log_format, path.name)
        return lambda: text_batches(*text_file, log_format.columns), Place(path.name, text_file)
    raise DataError(f"{path.name} is not a .csv, .tsv or .parquet file")


def _parquet_batches(path: Path, log_format: LogFormat) -> Iterator[list[pa.Array]]:
    with open_parquet(path, log_format.columns) as file:
        yield from _encoded(file.iter_batches(BATCH_ROWS, columns=log_format.columns), log_format, path.name)


def _check_columns(found: list[str], log_format: LogFormat, name: str) -> None:
    for key, flag in zip(log_format.columns, ("--session-key", "--item-key", "--time-key"), strict=True):
        if key not in found:
            listed = shorten(", ".join(map(str, found)))
            raise DataError(f"{name} has no column {key!r} (found: {listed})", f"say which it is with {flag}")
        if found.count(key) > 1:
            raise DataError(f"{name} has {found.count(key)} columns {key!r}", "rename or drop all but one")


def _check_kinds(schema: pa.Schema, log_format: LogFormat, name: str) -> None:
    """Refuse columns that hold something else, before they are read."""
    for key in log_format.columns:
        kind, types = schema.field(key).type, pa.types
        plain = kind.value_type if types.is_dictionary(kind) else kind
        known = types.is_integer(plain) or types.is_floating(plain) or _is_text(plain) or types.is_null(plain)
        if key != log_format.time_key and not known:
            raise DataError(f"{name}: {key} must hold integers or text, got {kind}")
        if not (known or types.is_timestamp(plain) or types.is_date(plain)):
            raise DataError(f"{name}: {key} must hold numbers, ISO 8601 text or timestamps, got {kind}")


def _encoded(batches: Iterable[pa.RecordBatch], log_format: LogFormat, name: str) -> Iterator[list[pa.Array]]:
    """Yield sessions, items and times of each batch, ids as codes into a dictionary of the batch."""
    for batch in batches:
        *ids, times = (batch.column(key) for key in log_format.columns)
        yield [*map(encode_ids, ids), _written_out(times, f"{name}: {log_format.time_key}")]


def encode_ids(column: pa.Array) -> pa.Array:
    """Return ids as codes into a dictionary of those that occur."""
    if not pa.types.is_dictionary(column.type):
        return column if pa.types.is_null(column.type) else column.dictionary_encode()
    if column.dictionary.null_count:
        return column.dictionary_decode().dictionary_encode()
    used = column.indices.dictionary_encode()  # the dictionary may have ids that do not occur
    return pa.DictionaryArray.from_arrays(used.indices, column.dictionary.take(used.dictionary))


def _written_out(times: pa.Array, place: str) -> pa.Array:
    """Return times that are codes into a dictionary as they are without one."""
    if not pa.types.is_dictionary(times.type):
        return times
    if _is_text(times.type.value_type):
        longest = pc.max(pc.binary_length(times.dictionary)).as_py() or 0
        if longest > TIME_CHARACTERS:  # repeated by a short code, it would fill the memory
            raise DataError(f"{place} has a text of {longest:,} bytes, which is no time")
    return times.dictionary_decode()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _columns(batches: Batches) -> list[list[pa.Array]]:
    """Return the batches of each column; times that are text as integers, floats or moments, if all of them are."""
    readings: list[_Reading] = [
        lambda text: text.cast(pa.int64()),
        lambda text: text.cast(pa.float64()),
        _moments,
        lambda text: text,
    ]
    columns = None
    while columns is None:
        columns = _columns_with(batches(), readings.pop(0))
    return columns


def _columns_with(batches: Iterator[list[pa.Array]], read_text: _Reading) -> list[list[pa.Array]] | None:
    """Return the batches of each column, or None when not all times that are text can be read in this way."""
    columns: list[list[pa.Array]] = [[], [], []]
    for batch in batches:
        if _is_text(batch[-1].type):
            try:
                batch[-1] = read_text(batch[-1])
            except ValueError:  # ArrowInvalid is one
                return None
        for chunks, column in zip(columns, batch, strict=True):
            chunks.append(column)
    return columns if len({times.type for times in columns[-1]}) <= 1 else None


def _moments(text: pa.Array) -> pa.Array:
    """Return ISO 8601 times as timestamps; raise ValueError when one is none, or when it could be a number."""
    if not pc.all(pc.match_substring_regex(text, r"^\s*\d{4}-\d")).as_py():
        raise ValueError
    moments = pa.array(pd.to_datetime(_text(text), format="ISO8601", utc=True))
    return pa.concat_arrays([moments])  # a copy in memory of Arrow's, which `_taken` can return to the system


def _taken(columns: list[list[pa.Array]]) -> pa.ChunkedArray:
    """Return the next column, no longer held by `columns`; what an earlier one held goes back to the system."""
    pa.default_memory_pool().release_unused()
    return pa.chunked_array(columns.pop(0))


def _ids(column: pa.ChunkedArray, name: str, place: Place) -> tuple[IndexArray, AnyArray]:
    """Return codes into the unique ids, and those ids (int64 or str objects)."""
    if column.null_count:
        position = _first(pc.is_null(column))
        raise DataError(f"{place.row(position)}: {name} is missing", "drop such rows or give them an id")
    ids = pa.chunked_array([chunk.dictionary for chunk in column.chunks])
    if pa.types.is_floating(ids.type):
        _check_whole_numbers(ids.to_numpy(), column, name, place)
    codes, unique = _unique(ids if _is_text(ids.type) else _int64(ids, name, place))
    return _by_row(codes, column), unique


def _check_whole_numbers(ids: AnyArray, column: pa.ChunkedArray, name: str, place: Place) -> None:
    bad = ~(np.isfinite(ids) & (ids == np.round(ids)))
    if bad.any():
        position, value = int(np.argmax(_by_row(bad, column))), ids[np.argmax(bad)]
        problem = "is missing" if np.isnan(value) else f"{value!s} is not a whole number"
        raise DataError(f"{place.row(position)}: {name} {problem}", "ids are integers or text")


def _int64(column: pa.ChunkedArray, name: str, place: Place) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"{place.name}: {name} has a number beyond 64 bits: {error}") from None


def _unique(ids: pa.ChunkedArray) -> tuple[IndexArray, AnyArray]:
    """Return codes into the unique ids, and those ids, for ids of which several may be equal."""
    numbers = [part for part in map(as_integers, ids.chunks) if part is not None]
    if len(numbers) == ids.num_chunks:
        codes, unique = pd.factorize(np.concatenate(numbers))
        return codes.astype(np.int32), unique
    chunks = ids.dictionary_encode().chunks
    pa.default_memory_pool().release_unused()  # the hash table, before a str per id is made
    return np.concatenate([chunk.indices.to_numpy() for chunk in chunks]), _text(chunks[0].dictionary)


def _by_row(values: AnyArray, column: pa.ChunkedArray) -> AnyArray:
    """Return the value of each row's id; there is one for each entry of the chunks' dictionaries, in turn."""
    by_row = np.empty(len(column), dtype=values.dtype)
    row = entry = 0
    for chunk in column.chunks:
        by_row[row : row + len(chunk)] = values[entry:][chunk.indices.to_numpy()]
        row, entry = row + len(chunk), entry + len(chunk.dictionary)
    return by_row


def _sorted(codes: IndexArray, ids: AnyArray) -> tuple[IndexArray, AnyArray]:
    """Return codes into the sorted ids, and those."""
    order = np.argsort(ids)
    rank = np.empty_like(codes, shape=len(ids))
    rank[order] = np.arange(len(ids))
    return rank[codes], ids[order]


def native_ids(ids: pa.Array) -> AnyArray:
    """Return ids as int64 when all of them are canonical decimal integers (not '007'), else as text."""
    numbers = as_integers(ids)
    return _text(ids) if numbers is None else numbers


def as_integers(ids: pa.Array) -> AnyArray | None:
    """Return ids as int64 when all of them are canonical decimal integers, else None."""
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy())
    try:
        numbers = ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    is_canonical = pc.all(pc.equal(numbers.cast(ids.type), ids)).as_py()
    return np.asarray(numbers.to_numpy()) if is_canonical else None


def _text(ids: pa.Array) -> AnyArray:
    return np.asarray(ids.to_numpy(zero_copy_only=False), dtype=object)


def _times(column: pa.ChunkedArray, log_format: LogFormat, place: Place) -> tuple[AnyArray, Callable[[Any], Any]]:
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
    if _is_text(column.type):
        return _times_from_text(column, log_format, place)
    raise DataError(f"{place.name}: {name} must hold numbers, ISO 8601 text or timestamps, got {column.type}")


def _times_from_text(
    column: pa.ChunkedArray, log_format: LogFormat, place: Place
) -> tuple[AnyArray, Callable[[Any], Any]]:
    """Return times as `_times` does, where `_columns` could not: unusual forms, and what has to be refused."""
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


def _first(mask: pa.ChunkedArray) -> int:
    return int(np.argmax(mask.to_numpy()))
