"""`read_log` against a plain Python reading of the same rows, and the message of everything it refuses."""

import datetime
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.data.reading import LogFormat, read_log
from gru4rec.errors import DataError, ParameterError

HEADER = "SessionId,ItemId,Time\n"
TEN = 1_396_346_400  # 2014-04-01T10:00:00Z, by `date -u -d 2014-04-01T10:00:00Z +%s`
NO_ID_HINT = "drop such rows or give them an id"
BAD_ID_HINT = "ids are integers or text"
BAD_TIME_HINT = "write times as seconds (or name the --time-unit) or as 2014-04-01T10:00:00Z"

LOG = [("b", 30, 5), ("a", 10, 2), ("b", 20, 4), ("c", 10, 9), ("a", 30, 7), ("a", 10, 3)]
READ = [("a", [10, 10, 30], [2, 3, 7]), ("b", [20, 30], [4, 5]), ("c", [10], [9])]


@pytest.fixture
def write(tmp_path):
    """A function: text -> a file in a fresh folder, compressed as its name says."""

    def written(text, name="log.csv"):
        path = tmp_path / name
        with pa.output_stream(path) as stream:
            stream.write(text.encode())
        return path

    return written


@pytest.fixture
def small_batches(monkeypatch):
    """Read a few rows at a time."""
    monkeypatch.setattr("gru4rec.data.reading.BATCH_ROWS", 3)
    monkeypatch.setattr("gru4rec.data.text_files.BLOCK_BYTES", 64)


@pytest.fixture
def save(tmp_path):
    """A function: a table and a kind -> the same log as DataFrame, CSV or Parquet."""

    def saved(table, kind):
        if kind == "frame":
            return table
        path = tmp_path / f"log.{kind}"
        if kind == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, row_group_size=7)
        return path

    return saved


def frame(**columns):
    """A log of two events whose columns are replaced by `columns`."""
    return pd.DataFrame({"SessionId": [1, 1], "ItemId": [5, 6], "Time": [1, 2]} | columns)


def row_by_row(rows):
    """The reference: sort by time, stably, and append each event to its session."""
    sessions = {}
    for session, item, time in sorted(rows, key=lambda row: row[2]):
        items, times = sessions.setdefault(session, ([], []))
        items.append(item)
        times.append(time)
    return [(session, items, times) for session, (items, times) in sessions.items()]


def message_of(source, *log_format):
    with pytest.raises(DataError) as error:
        read_log(source, *log_format)
    return str(error.value)


# What is read


@pytest.mark.parametrize(
    "name", ["log.csv", "log.tsv", "log.csv.gz", "log.tsv.bz2", "log.csv.zst", "LOG.CSV", "a.b.csv"]
)
def test_text_files_of_every_kind(write, unpack, name):
    delimiter = "\t" if ".tsv" in name else ","
    lines = [delimiter.join(map(str, row)) for row in [("SessionId", "ItemId", "Time"), *LOG]]
    assert unpack(read_log(write("\n".join(lines), name))) == READ


@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_what_is_between_columns_is_seen_in_the_header(write, unpack, name, delimiter):
    rows = [("SessionId", "ItemId", "Time"), ("1", '"a;b,c|d\te"', "5"), ("1", "x", "7"), ("2", "x", "bad")]
    text = "\n".join(map(delimiter.join, rows))
    good = write(text.replace("bad", "9"), name)
    assert unpack(read_log(good)) == [(1, ["a;b,c|d\te", "x"], [5, 7]), (2, ["x"], [9])]
    assert message_of(write(text, name)).startswith(f"{name}: row 4: Time 'bad' is not")


def test_a_path_may_be_a_string(write, unpack):
    assert unpack(read_log(str(write(HEADER + "a,1,2\n")))) == [("a", [1], [2])]


@pytest.mark.parametrize("options", [{}, {"row_group_size": 2}])
def test_parquet(tmp_path, unpack, options):
    path = tmp_path / "log.parquet"
    pd.DataFrame(LOG, columns=["SessionId", "ItemId", "Time"]).assign(Other=1.5).to_parquet(path, **options)
    assert unpack(read_log(path)) == READ


def test_dataframe_whose_index_means_nothing(unpack):
    table = pd.DataFrame(LOG, columns=["SessionId", "ItemId", "Time"], index=[3, 3, 1, 0, 9, 2])
    before = table.copy()
    assert unpack(read_log(table)) == READ
    pd.testing.assert_frame_equal(table, before)


def test_columns_may_have_other_names_and_any_order(write, unpack):
    path = write("ts,other,sku,visit\n2,x,20,a\n1,y,10,a\n")
    assert unpack(read_log(path, LogFormat("visit", "sku", "ts"))) == [("a", [10, 20], [1, 2])]


def test_quoted_values_may_hold_commas_quotes_and_line_ends(write, unpack):
    path = write(HEADER + '"1,2","say ""hi""",3\na,"two\nlines",4\n')
    assert unpack(read_log(path)) == [("1,2", ['say "hi"'], [3]), ("a", ["two\nlines"], [4])]


def test_line_ends_inside_values_survive_the_blocks_of_a_large_file(write):
    poem = "line\n" * 50  # Arrow reads text in blocks of 1 MiB: the first one ends inside a poem
    sessions = read_log(write(HEADER + f'1,"{poem}",2\n' * 5_000))
    assert (sessions.num_events, sessions.items.ids.tolist()) == (5_000, [poem])


@pytest.mark.parametrize("text", ["\ufeff" + HEADER + "a,1,2\n", (HEADER + "a,1,2\n").replace("\n", "\r\n")])
def test_byte_order_mark_and_windows_line_ends_mean_nothing(write, unpack, text):
    assert unpack(read_log(write(text))) == [("a", [1], [2])]


def test_arrays_have_the_documented_types():
    sessions = read_log(frame(Time=[1.5, 2.5]))
    assert [sessions.item_index.dtype, sessions.offsets.dtype, sessions.times.dtype] == [np.int32, np.int64, np.float64]


# Order


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=20))
def test_order_equals_the_row_by_row_reference(unpack, rows):
    assert unpack(read_log(pd.DataFrame(rows, columns=["SessionId", "ItemId", "Time"]))) == row_by_row(rows)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=15), st.randoms())
def test_shuffled_rows_with_distinct_times_give_the_same_sessions(unpack, pairs, random):
    rows = [(session, item, time) for time, (session, item) in enumerate(pairs)]
    shuffled = random.sample(rows, len(rows))
    first, second = (read_log(pd.DataFrame(each, columns=["SessionId", "ItemId", "Time"])) for each in (rows, shuffled))
    assert unpack(first) == unpack(second)
    assert first.items.ids.tolist() == second.items.ids.tolist() == sorted({item for _, item in pairs})


def test_equal_times_keep_the_order_of_the_file(write, unpack):
    path = write(HEADER + "b,3,7\na,2,7\nb,1,7\na,9,7\nb,2,7\n")
    assert unpack(read_log(path)) == [("b", [3, 1, 2], [7, 7, 7]), ("a", [2, 9], [7, 7])]


def test_times_one_nanosecond_apart_are_in_order(write, unpack):
    path = write(HEADER + "a,2,2014-04-01T10:00:00.000000002Z\na,1,2014-04-01T10:00:00.000000001Z\n")
    assert unpack(read_log(path))[0][1] == [1, 2]


# Batches


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
@pytest.mark.parametrize("in_time_order", [True, False])
@pytest.mark.parametrize("item", [int, "item-{}".format])
@pytest.mark.usefixtures("small_batches")
def test_a_log_of_many_batches_equals_the_row_by_row_reference(save, unpack, kind, in_time_order, item):
    random = np.random.default_rng(1)
    sessions = [
        f"s{number}" for number in np.arange(200) // 5 + random.integers(3, size=200)
    ]  # new ones in every batch
    items = [item(number) for number in random.integers(np.arange(200) + 1)]
    times = np.arange(200) // 2 if in_time_order else random.integers(50, size=200)
    rows = list(zip(sessions, items, times.tolist(), strict=True))
    read = read_log(save(pd.DataFrame(rows, columns=["SessionId", "ItemId", "Time"]), kind))
    assert unpack(read) == row_by_row(rows)
    assert read.items.ids.tolist() == sorted(set(items))


@pytest.mark.parametrize(
    ("late", "ids"), [("10", [9, 10]), ("010", ["010", "9"]), ("x", ["9", "x"]), ("-0", ["-0", "9"])]
)
@pytest.mark.usefixtures("small_batches")
def test_the_last_batch_decides_whether_ids_are_integers(write, late, ids):
    sessions = read_log(write(HEADER + "1,9,1\n" * 50 + f"1,{late},1\n"))
    assert sessions.items.ids.tolist() == ids
    assert np.bincount(sessions.item_index).tolist() == ([50, 1] if ids[0] in (9, "9") else [1, 50])


@pytest.mark.parametrize(
    ("early", "late", "seconds"),
    [
        ("12", "13.5", [12.0, 13.5]),
        ("9007199254740993", "9007199254740993.0", [9007199254740992.0] * 2),  # 2^53 + 1 is no float64
        ("2014-04-01T10:00:00Z", "2014-04-01T10:00:00.250Z", [TEN, TEN + 0.25]),
        ("2014-04-01T10:00:00Z", "2014-04-01T10:00:00.000002500Z", [TEN, TEN + 2.5e-6]),
        ("2014-04-01T10:00:00Z", "20140401T100001Z", [TEN, TEN + 1]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
@pytest.mark.usefixtures("small_batches")
def test_the_last_batch_decides_what_text_times_are(save, kind, early, late, seconds):
    table = pd.DataFrame({"SessionId": 1, "ItemId": 2, "Time": [early] * 20 + [late]})
    times = read_log(save(table, kind)).times
    assert times.tolist() == pytest.approx([seconds[0]] * 20 + [seconds[1]], rel=0, abs=5e-7)


@pytest.mark.parametrize(
    ("column", "early", "late", "problem"),
    [
        ("SessionId", "1", None, "SessionId is missing"),
        ("ItemId", "x", None, "ItemId is missing"),
        ("Time", "1", None, "Time is missing"),
        ("Time", "1", "inf", "Time inf is not a finite number"),
        ("Time", "1", "yesterday", "Time 'yesterday' is not a number"),
        ("Time", "2014-04-01", "yesterday", "Time 'yesterday' is not a number"),
        ("Time", "2014-04-01", None, "Time is missing"),
        ("Time", "2014-04-01", "2014", "Time mixes numbers and ISO 8601 times, got '2014'"),
    ],
)
@pytest.mark.parametrize(("kind", "first_row"), [("csv", 2), ("parquet", 0), ("frame", 0)])
@pytest.mark.usefixtures("small_batches")
def test_a_bad_value_in_a_late_batch_is_named_with_its_row(save, kind, first_row, column, early, late, problem):
    table = pd.DataFrame({"SessionId": "1", "ItemId": "2", "Time": "3"}, index=range(50))
    table[column] = [early] * 40 + [late] + [early] * 8 + [late]
    assert f": row {first_row + 40}: {problem}" in message_of(save(table, kind))


@pytest.mark.parametrize("kind", ["parquet", "frame"])
@pytest.mark.usefixtures("small_batches")
def test_a_fraction_in_a_late_batch_is_named_with_its_row(save, kind):
    table = pd.DataFrame({"SessionId": 1, "ItemId": [7.0] * 40 + [5.5, 6.5, 5.5], "Time": 3})
    assert "row 40: ItemId 5.5 is not a whole number" in message_of(save(table, kind))


@pytest.mark.usefixtures("small_batches")
def test_a_late_float_names_the_early_time_that_only_an_integer_could_be(write):
    path = write(HEADER + "1,2,0x10\n" + "1,2,3\n" * 50 + "1,2,4.5\n")
    assert message_of(path).startswith("log.csv: row 2: Time '0x10' is not a number")


@pytest.mark.usefixtures("small_batches")
def test_problems_come_in_the_order_of_columns_and_a_ragged_row_first(write):
    rows = "1,,3\n" + "1,2,3\n" * 50 + ",2,3\n"
    assert message_of(write(HEADER + rows)).startswith("log.csv: row 53: SessionId is missing")
    assert message_of(write(HEADER + rows + "1,2\n")).startswith("log.csv: row 54: expected 3 columns, got 2")


# Ids


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (["b", "a"], ["a", "b"]),
        (["10", "9"], [9, 10]),
        (["-3", "0"], [-3, 0]),
        (["007", "7"], ["007", "7"]),
        (["+7", "8"], ["+7", "8"]),
        (["7", "x"], ["7", "x"]),
        (["7.0", "8"], ["7.0", "8"]),
        (["0x10", "8"], ["0x10", "8"]),
        (["99999999999999999999", "8"], ["8", "99999999999999999999"]),
        (["NA", "null"], ["NA", "null"]),
        (["Ärger", "zoo"], ["zoo", "Ärger"]),
    ],
)
def test_ids_in_text_files_are_integers_only_when_all_are_canonical(write, values, ids):
    items = read_log(write(HEADER + "".join(f"1,{value},{time}\n" for time, value in enumerate(values)))).items.ids
    assert items.tolist() == ids
    assert items.dtype == (np.int64 if isinstance(ids[0], int) else object)


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        ([7.0, 5.0], [5, 7]),
        (["007", "7"], ["007", "7"]),
        (np.array([7, 5], dtype=np.int8), [5, 7]),
        (np.array([7, 5], dtype=object), [5, 7]),
        (pd.array([7, 5], dtype="Int64"), [5, 7]),
        (pd.Categorical(["b", "a"]), ["a", "b"]),
        (pd.Categorical([7, 5]), [5, 7]),
        (pd.Categorical([7, 5], categories=[5, 6, 7]), [5, 7]),
        (pd.Categorical(np.array([7, 5], dtype=np.int32)), [5, 7]),
    ],
)
@pytest.mark.parametrize("key", ["SessionId", "ItemId"])
def test_ids_in_dataframes(key, column, ids):
    sessions = read_log(frame(**{key: column}))
    found = sessions.items.ids if key == "ItemId" else sessions.session_ids
    assert sorted(found.tolist()) == ids
    assert found.dtype == (np.int64 if isinstance(ids[0], int) else object)


def test_both_zeros_are_one_id():
    sessions = read_log(frame(ItemId=[0.0, -0.0]))
    assert (sessions.items.ids.tolist(), sessions.item_index.tolist()) == ([0], [0, 0])


# Times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", 12),
        ("-12", -12),
        ("12.25", 12.25),
        ("1e3", 1000.0),
        ("2014-04-01T10:00:00Z", TEN),
        ("2014-04-01 10:00:00", TEN),
        ("2014-04-01T12:00:00+02:00", TEN),
        ("2014-04-01T10:00:00.250Z", TEN + 0.25),
        ("2014-04-01", TEN - 10 * 3600),
        ("9999-01-01", 253_370_764_800),  # by `date -u -d 9999-01-01 +%s`
    ],
)
def test_times_in_text(write, text, seconds):
    assert read_log(write(f"{HEADER}1,2,{text}\n")).times.tolist() == [seconds]


def test_iso_times_of_several_shapes_in_one_column(write, unpack):
    path = write(
        HEADER
        + "1,4,2014-04-01T10:00:00.5Z\n1,3,2014-04-01T10:00+00:00\n1,2,2014-04-01T11:00:00+02:00\n1,1,2014-04-01\n"
    )
    assert unpack(read_log(path)) == [(1, [1, 2, 3, 4], [TEN - 36_000, TEN - 3600, TEN, TEN + 0.5])]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_timestamps_are_seconds_since_1970_utc(unit, zone):
    moments = pd.Series(pd.to_datetime(["2014-04-01T10:00:00Z", "2014-04-01T10:00:02Z"])).dt.tz_convert(zone)
    times = read_log(frame(Time=moments.dt.as_unit(unit))).times
    assert times.tolist() == pytest.approx([TEN, TEN + 2], abs=1e-6, rel=0)


def test_dates_are_midnights():
    days = [datetime.date(1970, 1, 2), datetime.date(1970, 1, 3)]
    assert read_log(frame(Time=days)).times.tolist() == [86_400, 172_800]


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)])
@pytest.mark.parametrize("convert", [int, float, str])
def test_time_unit_scales_numbers(unit, per_second, convert):
    column = [convert(3 * per_second // 2 if per_second > 1 else 2), convert(7 * per_second)]
    times = read_log(frame(Time=column), LogFormat(time_unit=unit)).times
    assert times.tolist() == pytest.approx([1.5 if per_second > 1 else 2, 7], rel=1e-12)


def test_time_unit_does_not_change_timestamps():
    moments = pd.to_datetime(["1970-01-01T00:00:05", "1970-01-01T00:00:06"])
    assert read_log(frame(Time=moments), LogFormat(time_unit="ms")).times.tolist() == pytest.approx([5, 6])


@pytest.mark.parametrize("convert", [int, str])
def test_integer_seconds_stay_integers(convert):
    times = read_log(frame(Time=[convert(2**53 + 1), convert(2**53 + 2)])).times
    assert times.tolist() == [2**53 + 1, 2**53 + 2]


def test_short_floats_become_float64():
    assert read_log(frame(Time=np.array([1.5, 2.5], dtype=np.float32))).times.dtype == np.float64


# What is refused


def test_unknown_time_unit():
    with pytest.raises(ParameterError, match=r"^time_unit must be one of s, ms, us, ns, got 'min'"):
        LogFormat(time_unit="min")


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_a_path_without_a_file(tmp_path, name):
    assert message_of(tmp_path / name) == f"{tmp_path / name} does not exist or is not a file"


def test_an_empty_file(write):
    path = write("")
    assert message_of(path) == f"{path} is empty"


def test_a_header_without_events(write):
    assert message_of(write(HEADER)) == "log.csv has no events"


@pytest.mark.parametrize("text", ["\n\n", HEADER.strip()])
def test_a_file_without_a_whole_line_names_itself(write, text):
    assert message_of(write(text)).startswith("log.csv ")


def test_a_table_without_rows():
    assert message_of(frame().iloc[:0]) == "DataFrame has no events"


@pytest.mark.parametrize("name", ["log.txt", "log", "log.gz", "log.csv.zip"])
def test_a_file_of_another_kind(write, name):
    assert message_of(write(HEADER + "1,2,3\n", name)) == f"{name} is not a .csv, .tsv or .parquet file"


@pytest.mark.parametrize("name", ["log.parquet", "log.csv.gz"])
def test_a_damaged_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"neither parquet nor gzip")
    assert message_of(tmp_path / name).startswith(f"{name} cannot be read: ")


def test_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(HEADER.encode() + b"1,\xe9,3\n")
    assert re.match("log.csv cannot be read: .*UTF8", message_of(path))


@pytest.mark.parametrize(
    ("header", "missing", "flag"),
    [
        ("visit,ItemId,Time", "SessionId", "--session-key"),
        ("SessionId,sku,Time", "ItemId", "--item-key"),
        ("SessionId,ItemId,ts", "Time", "--time-key"),
        ("SessionId:ItemId:Time", "SessionId", "--session-key"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
def test_a_missing_column(write, tmp_path, header, missing, flag, kind):
    columns = header.split(",")
    table = pd.DataFrame([range(len(columns))], columns=columns)
    if kind == "csv":
        source, name = write(table.to_csv(index=False)), "log.csv"
    elif kind == "parquet":
        source, name = tmp_path / "log.parquet", "log.parquet"
        table.to_parquet(source)
    else:
        source, name = table, "DataFrame"
    wanted = f"{name} has no column '{missing}' (found: {', '.join(columns)}); hint: say which it is with {flag}"
    assert message_of(source) == wanted


def test_a_column_label_that_is_not_text_is_another_column():
    numbered = pd.DataFrame([[1, 2, 3]])
    assert message_of(numbered, LogFormat("0", "1", "2")).startswith("DataFrame has no column '0' (found: 0, 1, 2)")


@pytest.mark.parametrize("kind", ["csv", "frame"])
def test_a_column_that_is_there_twice(write, kind):
    table = pd.DataFrame([[1, 2, 3, 4]], columns=["SessionId", "ItemId", "Time", "ItemId"])
    source = write(table.to_csv(index=False)) if kind == "csv" else table
    assert "'ItemId'" in message_of(source)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("1,2,3\n,5,6\n", f"SessionId is missing; hint: {NO_ID_HINT}"),
        ("1,2,3\n1,,6\n", f"ItemId is missing; hint: {NO_ID_HINT}"),
        ("1,2,3\n1,NaN,6\n", f"ItemId is missing; hint: {NO_ID_HINT}"),
        ("1,2,3\n1,5,\n", "Time is missing"),
        ("1,2,3\n1,5,nan\n", "Time is missing"),
        ("1,2,3\n1,5,inf\n", "Time inf is not a finite number"),
        ("1,2,3\n1,5,-inf\n", "Time -inf is not a finite number"),
        ("1,2,3\n1,5,yesterday\n", f"Time 'yesterday' is not a number or an ISO 8601 time; hint: {BAD_TIME_HINT}"),
        ("1,2,2014-04-01\n1,5,1/4/14\n", f"Time '1/4/14' is not a number or an ISO 8601 time; hint: {BAD_TIME_HINT}"),
        ("1,2,2014-04-01\n1,5,now\n", f"Time 'now' is not a number or an ISO 8601 time; hint: {BAD_TIME_HINT}"),
        ("1,2,2014-04-01\n1,5,today\n", f"Time 'today' is not a number or an ISO 8601 time; hint: {BAD_TIME_HINT}"),
    ],
)
def test_a_bad_value_in_a_text_file_is_named_with_its_line(write, rows, problem):
    assert message_of(write(HEADER + rows)) == f"log.csv: row 3: {problem}"


@pytest.mark.parametrize(
    "before", ["1,2,3\n" * 250_000, "1,2,3\n\n\n", '1,"a\nb",3\n'], ids=["many", "blank", "quoted"]
)
def test_rows_of_text_files_are_lines(write, before):
    line = HEADER.count("\n") + before.count("\n") + 1
    assert message_of(write(HEADER + before + "1,,6\n")).startswith(f"log.csv: row {line}: ItemId is missing")


@pytest.mark.parametrize(("row", "found"), [("1,5", ["1", "5"]), ("1,5,6,7", ["1", "5", "6", "7"])])
def test_a_ragged_row_is_named_with_its_line(write, row, found):
    message = message_of(write(f"{HEADER}1,2,3\n{row}\n"))
    assert message == f"log.csv: row 3: expected 3 columns, got {len(found)}: {found}"


@pytest.mark.parametrize("number", ["1396321200", "1000", "2014", "20140401"])
def test_numbers_and_iso_times_in_one_column(write, number):
    message = message_of(write(f"{HEADER}1,2,{number}\n1,5,2014-04-01T10:00:00Z\n"))
    assert re.match("log.csv: .*Time mixes numbers and ISO 8601 times", message)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"ItemId": [5, np.nan]}, f"row 1: ItemId is missing; hint: {NO_ID_HINT}"),
        ({"ItemId": ["a", None]}, f"row 1: ItemId is missing; hint: {NO_ID_HINT}"),
        ({"SessionId": pd.array([None, 5], dtype="Int64")}, f"row 0: SessionId is missing; hint: {NO_ID_HINT}"),
        ({"ItemId": [5, 5.5]}, f"row 1: ItemId 5.5 is not a whole number; hint: {BAD_ID_HINT}"),
        ({"ItemId": pd.Categorical([5, 5.5])}, f"row 1: ItemId 5.5 is not a whole number; hint: {BAD_ID_HINT}"),
        ({"ItemId": [5, np.inf]}, f"row 1: ItemId inf is not a whole number; hint: {BAD_ID_HINT}"),
        ({"ItemId": [True, False]}, "ItemId must hold integers or text, got bool"),
        ({"ItemId": pd.to_timedelta([1, 2])}, "ItemId must hold integers or text, got duration[ns]"),
        ({"Time": [1, np.nan]}, "row 1: Time is missing"),
        ({"Time": pd.to_datetime(["2014-04-01", None])}, "row 1: Time is missing"),
        ({"Time": [1, np.inf]}, "row 1: Time inf is not a finite number"),
        ({"Time": ["1", "x"]}, f"row 1: Time 'x' is not a number or an ISO 8601 time; hint: {BAD_TIME_HINT}"),
        ({"Time": [True, False]}, "Time must hold numbers, ISO 8601 text or timestamps, got bool"),
    ],
)
def test_a_bad_value_in_a_dataframe_is_named_with_its_position(columns, problem):
    assert message_of(frame(**columns)) == f"DataFrame: {problem}"


def test_nan_in_parquet_is_a_missing_id(tmp_path):
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(pa.table({"SessionId": [1, 1], "ItemId": [1.0, float("nan")], "Time": [1, 2]}), path)
    assert message_of(path) == "log.parquet: row 1: ItemId is missing; hint: ids are integers or text"


@pytest.mark.parametrize("values", [[5, "a"], ["a", 5]])
@pytest.mark.parametrize("key", ["SessionId", "ItemId"])
def test_a_dataframe_column_of_int_and_str(key, values):
    message = message_of(frame(**{key: np.array(values, dtype=object)}))
    assert message.startswith("DataFrame: a column mixes types: ")
    assert key in message
    assert message.endswith("hint: make it all text or all numbers")


@pytest.mark.parametrize(
    ("key", "column"),
    [
        ("ItemId", np.array([5, 2**63], dtype=np.uint64)),
        ("ItemId", np.array([5, 2**70], dtype=object)),
        ("ItemId", [5.0, 1e19]),
        ("Time", np.array([5, 2**63], dtype=np.uint64)),
    ],
    ids=["uint64", "long", "float", "time"],
)
def test_integers_beyond_64_bits(key, column):
    assert key in message_of(frame(**{key: column}))


# --- files that are damaged on purpose -------------------------------------------------------------------------------

ROW = b"1,1,1\n"
EXPANDS = "bytes and holds more than 200 times as much"


def test_a_header_that_is_not_utf8(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"SessionId,Item\xe9,Time\n1,2,3\n")
    assert message_of(path).startswith("log.csv has no column 'ItemId' (found: SessionId, Item\ufffd, Time)")


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zst"])
@pytest.mark.parametrize("content", [ROW * 4 * 10**6, b"\n" * 24 * 10**6], ids=["events", "blank lines"])
def test_a_compressed_file_that_expands_beyond_measure(tmp_path, suffix, content):
    path = tmp_path / f"log{suffix}"
    with pa.output_stream(path, compression="detect") as stream:
        stream.write(HEADER.encode() + content)
    assert EXPANDS in message_of(path)


@pytest.mark.parametrize("where", ["header", "row"])
def test_a_line_without_end(tmp_path, where):
    path = tmp_path / "log.csv"
    path.write_bytes((HEADER.encode() if where == "row" else b"") + b"a" * (2**23 + 1))
    assert message_of(path) == "log.csv has a line of more than 4,194,304 characters"


def test_a_value_without_end(write):
    assert message_of(write(HEADER + '1,"' + "a\n" * 10**6)).startswith("log.csv: row 2: field larger than field limit")


@pytest.mark.parametrize("names", [[f"a{number}" for number in range(10**5)], ["a" * 10**5]], ids=["many", "long"])
def test_a_header_is_named_as_far_as_a_message_goes(write, names):
    message = message_of(write(",".join(names) + "\n"))
    assert message.startswith("log.csv has no column 'SessionId' (found: a")
    assert message.endswith(" ...); hint: say which it is with --session-key")
    assert len(message) < 1000


def test_a_row_of_very_many_values(write):
    message = message_of(write(HEADER + "1," * 10**5 + "\n"))
    assert message.startswith("log.csv: row 2: expected 3 columns, got 100001: ['1', '1', ")
    assert len(message) < 1000


def test_a_parquet_file_of_very_many_equal_rows(tmp_path):
    ones = np.ones(5 * 10**6, dtype=np.int64)
    pa.parquet.write_table(pa.table(dict.fromkeys(["SessionId", "ItemId", "Time"], ones)), tmp_path / "log.parquet")
    assert EXPANDS in message_of(tmp_path / "log.parquet")


def test_a_parquet_file_of_a_very_long_value(tmp_path):
    table = pa.table({"SessionId": ["a" * 2 * 10**7], "ItemId": [1], "Time": [1]})
    pa.parquet.write_table(table, tmp_path / "log.parquet", compression="zstd")
    assert EXPANDS in message_of(tmp_path / "log.parquet")


def repeated(text, count):
    return pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), [text])


def write_repeated(path, **changed):
    """Write a log of 50,000 events; text in it stands in the file once."""
    count = 50_000
    ones = np.ones(count, dtype=np.int64)
    columns = dict.fromkeys(["SessionId", "ItemId", "Time"], ones) | {
        name: repeated(text, count) for name, text in changed.items()
    }
    pa.parquet.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    return path


def test_a_long_id_repeated_by_a_short_code_does_not_fill_the_memory(tmp_path):
    sessions = read_log(write_repeated(tmp_path / "log.parquet", ItemId="x" * 2**20))  # 52 GB, written out
    assert (sessions.num_events, sessions.num_items) == (50_000, 1)


def test_a_long_time_repeated_by_a_short_code_is_refused(tmp_path):
    path = write_repeated(tmp_path / "log.parquet", Time="1" * 2**20)
    assert message_of(path) == "log.parquet: Time has a text of 1,048,576 bytes, which is no time"


@pytest.mark.parametrize("kind", [pa.bool_(), pa.binary(), pa.list_(pa.int64()), pa.decimal128(5)], ids=str)
@pytest.mark.parametrize("key", ["SessionId", "ItemId", "Time"])
def test_columns_of_another_kind_are_refused_before_they_are_read(tmp_path, key, kind):
    columns = dict.fromkeys(["SessionId", "ItemId", "Time"], pa.array([1])) | {key: pa.nulls(1, kind)}
    pa.parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    assert message_of(tmp_path / "log.parquet").startswith(f"log.parquet: {key} must hold ")
