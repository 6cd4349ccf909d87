"""What a Parquet file takes is what its pages hold, whatever its footer claims."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from gru4rec.data.parquet_files import open_parquet
from gru4rec.data.parquet_pages import measure_pages
from gru4rec.errors import DataError

ROWS = 300_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.parquet"


@pytest.fixture
def table():
    random_numbers = np.random.default_rng(0).random(ROWS)
    return pa.table({"a": np.arange(ROWS), "b": [str(row % 1000) for row in range(ROWS)], "c": random_numbers})


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("columns", [{0}, {1, 2}, set()], ids=str)
def test_an_honest_file_has_what_its_footer_says(path, table, codec, version, columns):
    pa.parquet.write_table(table, path, compression=codec, data_page_version=version, row_group_size=100_000)
    metadata = pa.parquet.ParquetFile(path).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    claimed = sum(group.column(place).total_uncompressed_size for group in groups for place in columns)
    rows, size = measure_pages(path, columns)
    assert rows == ROWS
    assert 0.99 * claimed <= size <= claimed  # which counts the page headers too


def varint(value):
    """A number as Thrift writes it, by hand: zigzag, 7 bits a byte, the lowest first."""
    value, digits = 2 * value, []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def test_a_footer_that_lies_about_a_bomb_does_not_help_it(path):
    pa.parquet.write_table(pa.table({"a": ["x" * 10**8]}), path, compression="zstd", write_statistics=False)
    true = varint(pa.parquet.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size)
    lie = bytes([10 | 128, *[128] * (len(true) - 2), 0])  # 5, in as many bytes
    path.write_bytes(path.read_bytes().replace(true, lie))
    assert pa.parquet.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size == 5
    with pytest.raises(DataError, match="holds more than 200 times as much"), open_parquet(path, ["a"]):
        pass  # nothing was read yet


def test_rows_are_the_most_that_any_part_claims(path):
    pa.parquet.write_table(pa.table({"a": [1, 2, 3]}), path, compression="none", write_statistics=False)
    content = path.read_bytes()
    footer = content.index(b"parquet-cpp") - 1
    places = [place for place in range(4, footer) if content[place : place + 2] == b"\x16\x06"]  # an i64, 3
    assert len(places) == 3  # of the file, the row group, the column chunk
    for place in places:
        path.write_bytes(content[: place + 1] + b"\x08" + content[place + 2 :])
        assert measure_pages(path, {0})[0] == 4


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1PAR1", b"\xff\xff\xff\xffPAR1", b"\0" * 99], ids=repr)
def test_what_has_no_footer_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError):
        measure_pages(path, {0})


def test_changed_bytes_are_refused_or_counted(path):
    pa.parquet.write_table(pa.table({"a": [1, 2, 3]}), path)
    content, chance = path.read_bytes(), random.Random(0)
    for _ in range(3000):
        changed = bytearray(content)
        changed[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(changed)
        try:
            rows, size = measure_pages(path, {0})
        except ValueError:
            continue
        assert rows >= 0 <= size


def test_a_damaged_column_chunk_does_not_end_the_process(path):
    """Asked for a column chunk whose histogram of levels has another size, pyarrow calls abort."""
    pa.parquet.write_table(pa.table({"a": pa.array([1, 2, 3], pa.int64())}), path)
    content, paths = path.read_bytes(), []
    for place in range(content.index(b"parquet-cpp")):
        paths.append(path.with_name(str(place)))
        paths[-1].write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
    script = (
        "import sys; from pathlib import Path; from gru4rec.data.parquet_files import read_table\n"
        "for name in sys.argv[1:]:\n    try: read_table(Path(name))\n    except Exception: pass"
    )
    ended = subprocess.run([sys.executable, "-c", script, *map(str, paths)], capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
