"""What reading a Parquet file will take: its footer and page headers, decoded here.

pyarrow's own view of them is of no use with files from strangers: it ends the process on some that are damaged, and
repeats what the footer claims, while memory is taken for what the page headers say. Both are structures in Thrift's
compact protocol; the parts that are needed, by the numbers of their fields (parquet.thrift)::

    FileMetaData 3 num_rows, 4 row_groups      ColumnMetaData 5 num_values, 7 total_compressed_size,
    RowGroup     1 columns, 3 num_rows                        9 data_page_offset, 11 dictionary_page_offset
    ColumnChunk  3 meta_data                   PageHeader     2 uncompressed_page_size, 3 compressed_page_size
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
BITS = {I16: 16, I32: 32, I64: 64}
TAIL = b"PAR1"

Struct = dict[tuple[int, int], Any]
"""The fields of a structure by number and type: a field of another type than the expected one is none to readers."""


def measure_pages(path: Path, columns: Collection[int]) -> tuple[int, int]:
    """Return how many rows a file has, and how many bytes the pages of some of its columns have without compression.

    Columns are told by their place: what else the file calls them means nothing to pyarrow.

    Raises
    ------
    ValueError
        When the file has not the structure of a Parquet file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[-4:] != TAIL:
            raise ValueError("it does not end as a Parquet file does")
        metadata = _Reader(content, len(content) - 8 - int.from_bytes(content[-8:-4], "little")).struct()
        groups = _get(metadata, 4, LIST)
        values: Counter[int] = Counter()
        size = 0
        for group in groups:
            for place, column in enumerate(_get(group, 1, LIST)):
                if place in columns:
                    chunk = _get(column, 3, STRUCT)
                    values[place] += _get(chunk, 5, I64)
                    size += sum(_page_sizes(content, chunk))
    rows = max(_get(metadata, 3, I64), sum(_get(group, 3, I64) for group in groups), *values.values(), 0)
    return rows, size


def _page_sizes(content: mmap.mmap, chunk: Struct) -> Iterator[int]:
    """Yield the size of each page of a column chunk without compression."""
    first = _get(chunk, 9, I64)
    dictionary = chunk.get((11, I64), 0)
    position = dictionary if 0 < dictionary < first else first
    end = position + _get(chunk, 7, I64)
    while position < end:
        reader = _Reader(content, position)
        header = reader.struct()
        yield _get(header, 2, I32)
        position = reader.position + _get(header, 3, I32)


def _get(struct: Any, number: int, kind: int) -> Any:
    """Return a field: a list of structures or bytes, a structure, or a number that is not negative."""
    value = struct.get((number, kind)) if isinstance(struct, dict) else None
    if value is None or (isinstance(value, int) and value < 0):
        raise ValueError(f"its metadata has {value} in place of field {number}")
    return value


class _Reader:
    """Decodes what begins at a position; what it meets is as deep and as long as the content allows."""

    def __init__(self, content: mmap.mmap, position: int) -> None:
        if not 0 <= position < len(content):
            raise ValueError(f"its metadata points to byte {position:,} of {len(content):,}")
        self.position = position
        self._content = content

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while head := self._byte():
            number = _signed(number + (head >> 4), 16) if head >> 4 else self._number(16)
            kind = head & 15
            fields[number, kind] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in BITS:
            return self._number(BITS[kind])
        if kind in (TRUE, FALSE, BYTE):  # the first two in lists only
            return self._byte()
        if kind == DOUBLE:
            return self._bytes(8)
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind in (LIST, SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15) for _ in range(count)]
        if kind == MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(count)]
        if kind == STRUCT:
            return self.struct()
        raise ValueError(f"its metadata has a value of the unknown type {kind}")

    def _number(self, bits: int) -> int:
        value = self._varint() & ((1 << max(bits, 32)) - 1)
        return _signed((value >> 1) ^ -(value & 1), bits)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("its metadata has a number without end")

    def _byte(self) -> int:
        return int(self._bytes(1)[0])

    def _bytes(self, count: int) -> bytes:
        found = self._content[self.position : self.position + count]
        if len(found) < count:
            raise ValueError("its metadata is cut short")
        self.position += count
        return found


def _signed(value: int, bits: int) -> int:
    """Return the value of the last bits of a number, as two's complement.

    >>> _signed(2**16 + 5, 16), _signed(2**16 - 1, 16)
    (5, -1)
    """
    half = 1 << (bits - 1)
    return (value + half) % (2 * half) - half
