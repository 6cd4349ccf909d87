"""Tables of item ids: what is read, and that only complete one-to-one mappings pass."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gru4rec.data.items import read_item_ids
from gru4rec.errors import DataError


def write(folder, frame, name="items.csv"):
    path = folder / name
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def message_of(path, num_items):
    with pytest.raises(DataError) as error:
        read_item_ids(path, num_items)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["items.csv", "items.tsv", "items.parquet", "ITEMS.CSV"])
@pytest.mark.parametrize(
    ("ids", "kind"), [([30, -10, 2**40], "i"), (["007", "7", "x,y"], "O"), (["30", "-10", "5"], "i")], ids=str
)
def test_ids_are_put_at_their_index(tmp_path, name, ids, kind):
    frame = pd.DataFrame({"name": ["u", "v", "w"], "item_id": ids, "iid": [2, 0, 1]})
    items = read_item_ids(str(write(tmp_path, frame, name)), 3)
    assert items.ids.dtype.kind == kind
    assert list(map(str, items.ids)) == [str(ids[1]), str(ids[2]), str(ids[0])]


@pytest.mark.parametrize("dtype", ["int32", "uint8", "category", "string"])
def test_a_parquet_file_may_hold_any_kind_of_index(tmp_path, dtype):
    frame = pd.DataFrame({"iid": pd.Series([1, 0]).astype(dtype), "item_id": pd.Series(["a", "b"], dtype="category")})
    assert read_item_ids(write(tmp_path, frame, "items.parquet"), 2).ids.tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("iid", "item_id", "problem"),
    [
        ([0, 1], ["a", "b"], "1 are missing, the first is iid 2"),
        ([], [], "3 are missing, the first is iid 0"),
        ([0, 1, 2, 3], list("abcd"), "iid '3' is not in 0 .. 2"),
        ([0, 1, -1], list("abc"), "iid '-1' is not in 0 .. 2"),
        ([0, 1, "x"], list("abc"), "iid 'x' is not in 0 .. 2"),
        ([0, 1, "9" * 30], list("abc"), f"iid '{'9' * 30}' is not in 0 .. 2"),
        ([0, 1, 2.5], list("abc"), "iid '0.0' is not in 0 .. 2"),
        ([0, 1, 2, 2], list("abcd"), "iid 2 has 2 rows"),
        ([0, 1, 1], list("abc"), "1 are missing, the first is iid 2; iid 1 has 2 rows"),
        ([2, 1, 0], list("aba"), "item_id a stands for iid 0, 2"),
        ([2, 1, 0], [5, 7, 7], "item_id 7 stands for iid 0, 1"),
    ],
    ids=str,
)
def test_a_mapping_that_is_not_one_to_one_is_refused(tmp_path, iid, item_id, problem):
    path = write(tmp_path, pd.DataFrame({"iid": iid, "item_id": item_id}))
    assert message_of(path, 3) == f"items.csv is not a one-to-one mapping of 3 items: {problem}"


@pytest.mark.parametrize("name", ["iid", "item_id"])
@pytest.mark.parametrize("kind", ["items.csv", "items.parquet"])
def test_a_missing_value_is_refused(tmp_path, kind, name):
    frame = pd.DataFrame({"iid": ["0", "1"], "item_id": ["a", "b"]})
    frame.loc[1, name] = None
    assert message_of(write(tmp_path, frame, kind), 2) == f"{kind}: {name} is missing in 1 of 2 rows"


@pytest.mark.parametrize("name", ["iid", "item_id"])
def test_a_missing_column_is_named(tmp_path, name):
    path = write(tmp_path, pd.DataFrame({"iid": [0], "item_id": [1]}).rename(columns={name: "other"}))
    assert message_of(path, 1).startswith(f"items.csv must have one column {name!r} (found: ")
    assert message_of(path, 1).endswith("; hint: name its columns iid and item_id")


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("iid,item_id,item_id\n0,a,b\n")
    assert message_of(path, 1).startswith("items.csv must have one column 'item_id' (found: iid, item_id, item_id)")


def test_numbers_with_a_point_are_no_ids(tmp_path):
    frame = pd.DataFrame({"iid": [0, 1], "item_id": np.array([1.5, 2.0])})
    assert message_of(write(tmp_path, frame, "items.parquet"), 2) == (
        "items.parquet: item_id must hold integers or text, got double"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv", None, "{path} does not exist or is not a file"),
        ("items.txt", b"iid,item_id\n", "items.txt is not a .csv, .tsv or .parquet file"),
        ("items.csv", b"", "items.csv cannot be read: it has no header"),
        ("items.csv", b"iid,item_id\n0,a,b\n", "items.csv cannot be read: CSV parse error: Expected 2 columns, got 3"),
        ("items.csv", b"iid,item_id\n0,\xff\n", "items.csv cannot be read: "),
        ("items.parquet", b"iid,item_id\n0,a\n", "items.parquet cannot be read: "),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert message_of(path, 1).startswith(message.format(path=path))
