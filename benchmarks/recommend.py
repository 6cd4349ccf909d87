"""Recommendations for a file of sessions, end to end, beside the matrix products that they cannot do without.

    python benchmarks/recommend.py [--rounds 5] [--json FILE]
    python benchmarks/recommend.py --memory 1000000

End to end is what `gru4rec recommend MODEL in.parquet --out out.parquet` does once the model is loaded: read, run the
GRU, score all items, find the best 20, write. The products of the scores are those of the last states with the item
table, by torch.mm of 256 states at a time and by what ours uses, into memory that is thrown away; the faster counts.
Those of the GRU are of all events with its two matrices, by torch.mm of 256 events at a time. All take turns, so that
they see the same machine; medians of CPU time over the rounds, one thread. Generated logs, random weights.

With --memory: how much memory so many sessions take at their highest, and a tenth of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from memory import peak_growth
from torch import Tensor

from gru4rec.cli.output import note, print_table
from gru4rec.data.reading_parts import read_parts
from gru4rec.data.sessions import ItemVocabulary
from gru4rec.data.writing import write_parts
from gru4rec.evaluation import score_tiles
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model import Model
from gru4rec.nn.network import Network, weight_shapes
from gru4rec.top_items import ROWS_PER_TILE, SCORES_PER_TILE

# Items, hidden size, sessions: about a second a round.
SETTINGS = [
    (5_000, 100, 20_000),
    (40_000, 100, 5_000),
    (200_000, 100, 1_000),
    (5_000, 512, 5_000),
    (40_000, 512, 1_000),
    (200_000, 512, 250),
]
K, MEAN_LENGTH, TORCH_ROWS = 20, 4, 256


def make_model(num_items: int, hidden_size: int) -> Model:
    """Return a model of random weights."""
    hyperparameters = HyperParameters(embedding="tied", hidden_size=hidden_size)
    generator = torch.Generator().manual_seed(0)
    shapes = weight_shapes(num_items, hyperparameters)
    weights = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    items = ItemVocabulary(np.arange(num_items))
    return Model(Network(num_items, hyperparameters, weights), items, support=np.ones(num_items, dtype=np.int64))


def write_sessions(path: Path, num_sessions: int, num_items: int) -> int:
    """Write a log of sessions of geometric length; return the number of its events."""
    generator = np.random.default_rng(0)

    def parts() -> Any:
        for first in range(0, num_sessions, 100_000):
            count = min(100_000, num_sessions - first)
            lengths = generator.geometric(1 / MEAN_LENGTH, count)
            total = int(lengths.sum())
            sessions = np.repeat(np.arange(first, first + count), lengths)
            items = generator.integers(0, num_items, total)
            yield pd.DataFrame({"SessionId": sessions, "ItemId": items, "Time": sessions.astype(float)})

    write_parts(parts(), path)
    return int(pd.read_parquet(path, columns=["SessionId"]).shape[0])


def recommend_file(model: Model, source: Path, target: Path) -> None:
    """Do what the command does once the model is loaded."""
    write_parts((model.recommend(part, K).table for part in read_parts(source)), target)


def multiply(model: Model, states: Tensor) -> None:
    """Take the products by torch.mm."""
    for block in states.split(TORCH_ROWS):
        block @ model.network.output_table.T


def multiply_gru(model: Model, events: Tensor) -> None:
    """Take the products of the GRU by torch.mm."""
    for block in events.split(TORCH_ROWS):
        block @ model.network.weights["gru.0.input"].T
        block @ model.network.weights["gru.0.recurrent"].T


def multiply_tiles(model: Model, states: Tensor) -> None:
    """Take the products as ours does."""
    for block in states.split(ROWS_PER_TILE):
        for _ in score_tiles(model.network, block, SCORES_PER_TILE // len(block)):
            pass


def measure(num_items: int, hidden_size: int, num_sessions: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return a row of the table."""
    model, source = make_model(num_items, hidden_size), folder / "in.parquet"
    num_events = write_sessions(source, num_sessions, num_items)
    states, events = torch.randn(num_sessions, hidden_size), torch.randn(num_events, hidden_size)
    works: dict[str, Callable[[], None]] = {
        "torch.mm": lambda: multiply(model, states),
        "tiles": lambda: multiply_tiles(model, states),
        "gru": lambda: multiply_gru(model, events),
        "end to end": lambda: recommend_file(model, source, folder / "out.parquet"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        for round_ in range(rounds + 1):
            for name, work in works.items():
                began = time.process_time()
                work()
                if round_ > 0:  # the first warms up
                    seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    product = min(medians["torch.mm"], medians["tiles"])
    return {
        "items": num_items,
        "hidden": hidden_size,
        "sessions": num_sessions,
        "events": num_events,
        **{f"{name}, us a session": 1e6 * median / num_sessions for name, median in medians.items()},
        "of the products of scores": product / medians["end to end"],
        "of all products": (product + medians["gru"]) / medians["end to end"],
    }


def measure_memory(num_sessions: int, folder: Path) -> list[dict[str, Any]]:
    """Return by how much recommending raises the resident memory, for a tenth of the sessions and for all."""
    model, rows = make_model(5_000, 100), []
    for count in (num_sessions // 10, num_sessions):
        source, target = folder / "in.parquet", folder / "out.parquet"
        write_sessions(source, count, 5_000)
        began = time.perf_counter()
        _, grown = peak_growth(lambda source=source, target=target: recommend_file(model, source, target))
        rows.append(
            {
                "sessions": count,
                "in, MB": source.stat().st_size / 1e6,
                "out, MB": target.stat().st_size / 1e6,
                "peak above start, MB": grown / 1e6,
                "seconds": time.perf_counter() - began,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, metavar="SESSIONS")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            rows = measure_memory(arguments.memory, Path(folder))
        else:
            rows = []
            for setting in SETTINGS:
                rows.append(measure(*setting, arguments.rounds, Path(folder)))
                note(str(rows[-1]))
    print_table(rows, list(rows[0]))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
