"""A log in parts: together they are what `read_log` returns, whatever the size of the batches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.data import reading, text_files
from gru4rec.data.reading import read_log
from gru4rec.data.reading_parts import read_parts
from gru4rec.errors import DataError


def write(frame, path):
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def log_of(lengths, names):
    sessions = np.repeat(np.array(names[: len(lengths)], dtype=object), lengths)
    total = len(sessions)
    return pd.DataFrame(
        {"SessionId": sessions, "ItemId": [f"i{place % 3}" for place in range(total)], "Time": range(total)}
    )


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=8),
    kind=st.sampled_from(["numbers", "text", "mixed"]),
    suffix=st.sampled_from([".csv", ".parquet"]),
    size=st.sampled_from([1, 3, 8, 1000]),
)
def test_the_parts_are_the_log(tmp_path_factory, unpack, lengths, kind, suffix, size):
    names = {"numbers": [*range(8)], "text": [*"abcdefgh"], "mixed": ["1", "2", "a", "4", "5", "b", "7", "8"]}[kind]
    path = write(log_of(lengths, names), tmp_path_factory.mktemp("log") / f"log{suffix}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BATCH_ROWS", size)
        patch.setattr(text_files, "BLOCK_BYTES", 40 * size)
        parts = list(read_parts(path))
    whole = read_log(path)
    assert [session for part in parts for session in unpack(part)] == unpack(whole)
    assert {part.session_ids.dtype for part in parts} == {whole.session_ids.dtype}
    if size == 1 and suffix == ".parquet":
        assert len(parts) == len(lengths)


def test_sessions_that_are_scattered_are_read_whole(tmp_path, unpack, monkeypatch):
    monkeypatch.setattr(reading, "BATCH_ROWS", 2)
    frame = pd.DataFrame({"SessionId": [1, 1, 2, 1, 2, 3], "ItemId": [5, 6, 5, 7, 8, 9], "Time": range(6)})
    (part,) = read_parts(write(frame, tmp_path / "log.parquet"))
    assert unpack(part) == [(1, [5, 6, 7], [0, 1, 3]), (2, [5, 8], [2, 4]), (3, [9], [5])]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(("column", "value"), [("SessionId", None), ("ItemId", None), ("Time", "yesterday")])
def test_a_bad_row_is_named_as_read_log_names_it(tmp_path, monkeypatch, suffix, column, value):
    frame = log_of([2] * 5, [*"abcde"]).astype({"Time": str})
    frame.loc[7, column] = value
    path = write(frame, tmp_path / f"log{suffix}")
    with pytest.raises(DataError) as expected:
        read_log(path)
    monkeypatch.setattr(reading, "BATCH_ROWS", 2)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 60)
    with pytest.raises(DataError) as found:
        list(read_parts(path))
    assert str(found.value) == str(expected.value)


def test_an_empty_log_is_refused(tmp_path):
    path = write(log_of([], []), tmp_path / "log.csv")
    with pytest.raises(DataError, match=r"^log\.csv has no events$"):
        list(read_parts(path))
