"""Written tables against their text spelled out, and against what `read_log` makes of them."""

from __future__ import annotations

import pandas as pd
import pytest

from gru4rec.data.reading import read_log
from gru4rec.data.writing import write_log, write_parts
from gru4rec.errors import DataError

TABLE = pd.DataFrame({"SessionId": [1, 1], "ItemId": ["a,b", 'say "hi"\t'], "Time": [5, 6]}, index=[7, 7])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.csv", 'SessionId,ItemId,Time\n1,"a,b",5\n1,"say ""hi""\t",6\n'),
        ("log.tsv", 'SessionId\tItemId\tTime\n1\ta,b\t5\n1\t"say ""hi""\t"\t6\n'),
        ("LOG.CSV", 'SessionId,ItemId,Time\n1,"a,b",5\n1,"say ""hi""\t",6\n'),
    ],
)
def test_text(tmp_path, name, text):
    write_log(TABLE, tmp_path / name)
    assert (tmp_path / name).read_bytes().decode() == text


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.parquet"])
@pytest.mark.parametrize("ids", [["007", "7", "ä"], [7, -3, 2**62], ["a,b", 'x"y', "p\tq"]], ids=str)
def test_what_was_written_can_be_read(tmp_path, name, ids):
    frame = pd.DataFrame({"SessionId": [3, 3, 4], "ItemId": ids, "Time": [0.125, 1.1, 1e9 + 1 / 3]})
    write_log(frame, str(tmp_path / name))
    sessions = read_log(tmp_path / name)
    assert sessions.items.decode(sessions.item_index).tolist() == ids
    assert sessions.times.tolist() == frame["Time"].tolist()
    assert sessions.session_ids.tolist() == [3, 4]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_parquet_keeps_no_index(tmp_path):
    write_log(TABLE, tmp_path / "log.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "log.parquet"), TABLE.reset_index(drop=True))


def test_the_table_is_left_alone(tmp_path):
    before = TABLE.copy()
    write_log(TABLE, tmp_path / "log.csv")
    pd.testing.assert_frame_equal(TABLE, before)


def test_an_earlier_file_is_replaced(tmp_path):
    for frame in (TABLE, TABLE.iloc[:1]):
        write_log(frame, tmp_path / "log.csv")
    assert len(pd.read_csv(tmp_path / "log.csv")) == 1


@pytest.mark.parametrize("name", ["log.txt", "log", "log.csv.gz", "csv"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(DataError) as error:
        write_log(TABLE, tmp_path / name)
    assert str(error.value) == f"{tmp_path / name} must end in .csv, .tsv or .parquet"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_a_failure_leaves_the_earlier_file(tmp_path, name):
    def parts():
        yield TABLE
        raise OSError("no space")

    write_log(TABLE, tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(OSError, match="no space"):
        write_parts(parts(), tmp_path / name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: before}


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.parquet"])
def test_parts_are_one_table(tmp_path, name):
    """The first part is empty, so the kind of its texts has to be known without them."""
    texts = TABLE.astype({"SessionId": object}).assign(SessionId=["s", "s"])
    write_parts([texts[:0], texts[:1], texts[1:]], tmp_path / name)
    sessions = read_log(tmp_path / name)
    assert sessions.items.decode(sessions.item_index).tolist() == TABLE["ItemId"].tolist()
    assert sessions.times.tolist() == [5, 6]
