"""Latency of a model's engines: PyTorch, and onnxruntime with tables in float32 and in bytes; one thread.

    python benchmarks/serving_engines.py [--rounds 7] [--json FILE]

One session of 10 items, and 64 of them at once, for the best 20 items. Random weights, since they do not change the
work. Times are CPU time of the calling thread, which does all of the work: what a call takes on a machine that has
nothing else to do. The engines alternate, so that all see the same machine; medians over the rounds of the median of a
round's calls, and the least time of all calls.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gru4rec.cli.output import note, print_table
from gru4rec.data.sessions import ItemVocabulary
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model import Model
from gru4rec.nn.network import Network, weight_shapes
from gru4rec.onnx_graph import Kind, build_graph
from gru4rec.onnx_parity import open_session

NUM_ITEMS = (5_000, 40_000, 200_000)
BATCHES = (1, 64)
HIDDEN_SIZE, STEPS, K = 100, 10, 20
ROUND_S = 0.5  # of calls, per engine
COLUMNS = ["items", "sessions", "engine", "median ms", "best ms", "of PyTorch"]


def make_model(num_items: int) -> Model:
    hyperparameters = HyperParameters(embedding="tied", hidden_size=HIDDEN_SIZE)
    generator = torch.Generator().manual_seed(0)
    shapes = weight_shapes(num_items, hyperparameters)
    weights = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    return Model(Network(num_items, hyperparameters, weights), ItemVocabulary(np.arange(num_items)))


def make_engines(model: Model, batch: int) -> dict[str, Callable[[], Any]]:
    """Return a call of each engine, which answers the same sessions."""
    items = np.random.default_rng(0).integers(0, len(model.items), (batch, STEPS))
    given = {"items": items, "lengths": np.full(batch, STEPS), "k": np.array([K])}
    histories = items.tolist()

    def run(kind: Kind) -> Callable[[], Any]:
        session = open_session(build_graph(model.network, kind).SerializeToString())
        return lambda: session.run(["ids", "scores"], given)

    return {
        "PyTorch": lambda: model.recommend_items(histories, K),
        "onnxruntime": run("model"),
        "onnxruntime, int8": run("int8"),
    }


def measure(engines: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median and the least time of each engine, in seconds."""
    times: dict[str, list[list[float]]] = {name: [] for name in engines}
    for call in engines.values():
        call()
    for _ in range(rounds):
        for name, call in engines.items():
            taken: list[float] = []
            while sum(taken) < ROUND_S:
                began = time.thread_time()
                call()
                taken.append(time.thread_time() - began)
            times[name].append(taken)
    return {
        name: (statistics.median(map(statistics.median, all_)), min(map(min, all_))) for name, all_ in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for num_items in NUM_ITEMS:
        model = make_model(num_items)
        for batch in BATCHES:
            found = measure(make_engines(model, batch), arguments.rounds)
            for engine, (median, least) in found.items():
                figures = {
                    "median ms": median * 1e3,
                    "best ms": least * 1e3,
                    "of PyTorch": median / found["PyTorch"][0],
                }
                rows.append({"items": num_items, "sessions": batch, "engine": engine, **figures})
        note(f"measured {num_items:,} items")
    print_table(rows, COLUMNS)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
