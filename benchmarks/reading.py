"""Reading of a large log: seconds and peak memory of `read_log`, beside pandas doing the same.

    python benchmarks/reading.py [--events 10000000] [--rounds 3] [--json FILE]

A log whose rows are in time order, so that sessions interleave, is written once with integers and once with text as
ids. Every reading happens in a fresh process with one thread, after a small log of the same kind has warmed its
imports; ours and pandas' alternate. pandas' way: `read_csv` or `read_parquet`, `sort_values` by session and time,
`factorize` of the items, sessions counted by `groupby`. Memory is what the process's peak gained over what it held
before, as a multiple of the arrays that `read_log` returns. Linux only, for its /proc/self.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from memory import peak_growth

from gru4rec.cli.output import print_table
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions

LOGS = {
    "parquet, integers": "integers.parquet",
    "csv, integers": "integers.csv",
    "parquet, text ids": "text.parquet",
    "csv, text ids": "text.csv",
    "csv, text ids, ISO times": "iso.csv",
}
NUM_ITEMS = 500_000
MEAN_LENGTH = 5
FIRST_SECOND, DAYS = 1_396_310_400, 180
SESSIONS_PER_PART = 100_000
WARM_UP_EVENTS = 1_000

Numbers = npt.NDArray[np.int64]


def event_parts(num_events: int, seed: int = 0) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """Yield session numbers, item numbers and seconds in time order, a part at a time.

    Lengths of sessions are geometric, popularity of items is Zipf's, a session's events are a minute apart on average.
    """
    random = np.random.default_rng(seed)
    popularity = np.cumsum(1 / np.arange(1, NUM_ITEMS + 1))
    item_of_rank = random.permutation(NUM_ITEMS)
    part_s = DAYS * 86_400 * SESSIONS_PER_PART * MEAN_LENGTH // max(num_events, SESSIONS_PER_PART * MEAN_LENGTH)
    left, waiting = num_events, np.empty((0, 3), dtype=np.int64)
    for part in range(1 + num_events):
        lengths = random.geometric(1 / MEAN_LENGTH, SESSIONS_PER_PART)
        sessions = np.repeat(part * SESSIONS_PER_PART + np.arange(SESSIONS_PER_PART), lengths)
        starts = FIRST_SECOND + part * part_s + np.sort(random.integers(part_s, size=SESSIONS_PER_PART))
        steps = np.arange(len(sessions)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        seconds = np.repeat(starts, lengths) + 60 * steps + random.integers(60, size=len(sessions))
        ranks = np.searchsorted(popularity, random.random(len(sessions)) * popularity[-1])
        events = np.concatenate([waiting, np.stack([sessions, item_of_rank[ranks], seconds], axis=1)])
        events = events[np.argsort(events[:, 2], kind="stable")]
        over = np.searchsorted(events[:, 2], FIRST_SECOND + (part + 1) * part_s)
        ready, waiting = events[: min(over, left)], events[over:]
        left -= len(ready)
        yield ready[:, 0], ready[:, 1], ready[:, 2]
        if left == 0:
            return


def integer_ids(numbers: Numbers, digits: int) -> pa.Array:
    """Return distinct integers of at most so many digits, in no order."""
    return pa.array(numbers * 7_368_787 % 10**digits)


def text_ids(numbers: Numbers) -> pa.Array:
    """Return distinct texts of 36 characters that look like UUIDs."""
    unique, places = np.unique(numbers, return_inverse=True)
    heads = unique * 2_654_435_761 % 2**32
    texts = [
        f"{head:08x}-{head >> 16:04x}-4{number & 0xFFF:03x}-8{head & 0xFFF:03x}-{number:012x}"
        for head, number in zip(heads.tolist(), unique.tolist(), strict=True)
    ]
    return pa.array(texts).take(pa.array(places))


def tables(num_events: int) -> Iterator[dict[str, pa.Table]]:
    """Yield a part of the log at a time, once with integers, once with text as ids, once with ISO times."""
    for sessions, items, seconds in event_parts(num_events):
        integers = {"SessionId": integer_ids(sessions, 9), "ItemId": integer_ids(items, 9), "Time": pa.array(seconds)}
        text = {"SessionId": text_ids(sessions), "ItemId": text_ids(items), "Time": pa.array(seconds)}
        moments = pa.array(np.datetime_as_string(seconds.astype("datetime64[s]"), timezone="UTC"))
        yield {"integers": pa.table(integers), "text": pa.table(text), "iso": pa.table(text | {"Time": moments})}


def write_logs(folder: Path, num_events: int) -> None:
    """Write all logs into a folder that exists."""
    writers: dict[str, Any] = {}
    for parts in tables(num_events):
        for file in LOGS.values():
            table = parts[Path(file).stem]
            if file not in writers and file.endswith(".csv"):
                writers[file] = pa.csv.CSVWriter(
                    folder / file, table.schema, write_options=pa.csv.WriteOptions(quoting_style="needed")
                )
            elif file not in writers:
                writers[file] = pa.parquet.ParquetWriter(folder / file, table.schema, compression="zstd")
            writers[file].write_table(table)
    for writer in writers.values():
        writer.close()


def read_with_pandas(path: Path) -> None:
    """Do what `read_log` does, by pandas' verbs."""
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    if not pd.api.types.is_numeric_dtype(frame["Time"]):
        frame["Time"] = pd.to_datetime(frame["Time"], format="ISO8601")
    frame = frame.sort_values(["SessionId", "Time"])
    pd.factorize(frame["ItemId"])
    np.cumsum(frame.groupby("SessionId", sort=False).size().to_numpy())


def size_bytes(sessions: Sessions) -> int:
    """Return the size of all arrays of a log; ids that are text with their characters."""
    arrays = [sessions.item_index, sessions.offsets, sessions.times, sessions.session_ids, sessions.items.ids]
    texts = [array for array in arrays if array.dtype == object]
    return sum(array.nbytes for array in arrays) + sum(sys.getsizeof(text) for array in texts for text in array)


def measure_here(way: str, path: Path) -> dict[str, float]:
    """Read a log in this process, one way, and return what it took."""
    pa.set_cpu_count(1)
    read = read_log if way == "ours" else read_with_pandas
    read(path.with_stem(f"{path.stem}_small"))
    began, cpu_began = time.perf_counter(), time.process_time()
    sessions, peak = peak_growth(lambda: read(path))
    taken = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_began, "peak_bytes": peak}
    return taken | ({"arrays_bytes": size_bytes(sessions)} if sessions else {})


def measure(way: str, path: Path) -> dict[str, float]:
    """Return what `measure_here` does in a process of its own."""
    command = [sys.executable, __file__, "--measure", way, str(path)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def compare(path: Path, rounds: int) -> dict[str, float]:
    """Return the medians of rounds of both ways, in turn."""
    runs = [{way: measure(way, path) for way in ("ours", "pandas")} for _ in range(rounds)]
    ours, pandas = (
        {key: statistics.median(run[way][key] for run in runs) for key in runs[0][way]} for way in ("ours", "pandas")
    )
    return {
        "seconds": ours["seconds"],
        "CPU s": ours["cpu_s"],
        "pandas s": pandas["seconds"],
        "pandas/ours": statistics.median(run["pandas"]["seconds"] / run["ours"]["seconds"] for run in runs),
        "arrays MB": round(ours["arrays_bytes"] / 1e6),
        "peak/arrays": ours["peak_bytes"] / ours["arrays_bytes"],
        "pandas peak/arrays": pandas["peak_bytes"] / ours["arrays_bytes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure_here(options.measure[0], Path(options.measure[1]))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_logs(Path(folder), WARM_UP_EVENTS)
        for file in LOGS.values():
            path = Path(folder, file)
            path.rename(path.with_stem(f"{path.stem}_small"))
        write_logs(Path(folder), options.events)
        for name, file in LOGS.items():
            figures = compare(Path(folder, file), options.rounds)
            rows.append({"log": name, "events/s": round(options.events / figures["seconds"]), **figures})
    print(f"{options.events:,} events, 1 thread, medians of {options.rounds} rounds")
    print_table(rows, list(rows[0]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
