"""Evaluation speed: ranked targets per second of CPU time, beside the matrix products that it cannot do without.

    python benchmarks/evaluate.py [--official FOLDER] [--rounds 5] [--json FILE]

Generated logs and random weights, since neither changes the work. Ours, the products and the authors' evaluation
alternate, so that all see the same machine; medians over the rounds. The products are those of the scores and of the
GRU, once by torch.mm and once by what ours uses, into tiles that are thrown away. FOLDER is a checkout of the authors'
GRU4Rec for PyTorch, which is read and run where it lies, with our weights; its recall@20 must be ours. One thread.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from memory import peak_growth
from torch import Tensor

from gru4rec.cli.output import note, print_table
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import ItemVocabulary, Sessions
from gru4rec.data.synthetic import generate_log
from gru4rec.evaluation import ITEMS_PER_TILE, ROWS_PER_TILE, compute_ranks
from gru4rec.hyperparameters import HyperParameters
from gru4rec.metrics import compute_metrics
from gru4rec.model import Model
from gru4rec.nn.network import Network, weight_shapes
from gru4rec.nn.products import linear

# Items, hidden size, sessions: about a second a round.
SETTINGS = [
    (5_000, 100, 6_000),
    (50_000, 100, 1_500),
    (500_000, 100, 300),
    (5_000, 512, 2_000),
    (50_000, 512, 600),
    (500_000, 512, 300),
]
OFFICIAL_ITEMS, OFFICIAL_BATCH = 50_000, 512  # the most items, and what the authors take by default
Product = Callable[[Tensor, Tensor, Tensor], Any]


def make_network(num_items: int, hidden_size: int) -> Network:
    """Return a network of random normal weights, so that no two items are equal."""
    hyperparameters = HyperParameters(embedding="tied", hidden_size=hidden_size)
    generator = torch.Generator().manual_seed(0)
    shapes = weight_shapes(num_items, hyperparameters)
    weights = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    return Network(num_items, hyperparameters, weights)


def make_sessions(num_sessions: int, num_items: int) -> Sessions:
    """Return generated sessions whose items lie anywhere in a vocabulary of `num_items`."""
    own = read_log(generate_log(num_sessions, num_items)).with_own_items()
    places = np.random.default_rng(0).permutation(num_items).astype(np.int32)
    return replace(own, item_index=places[own.item_index], items=ItemVocabulary(np.arange(num_items)))


def products(network: Network, num_targets: int, product: Product) -> None:
    """Compute the products of that many targets: scores, and the gates from the input and from the state."""
    table, bias = network.output_table, network.item_bias
    gates = [
        (network.weights[f"gru.0.{part}"], network.weights[f"gru.0.{part}_bias"]) for part in ("input", "recurrent")
    ]
    tiles = [*zip(table.split(ITEMS_PER_TILE), bias.split(ITEMS_PER_TILE), strict=True), *gates]
    with torch.inference_mode():
        for states in torch.randn(num_targets, table.shape[1]).split(ROWS_PER_TILE):
            for weight, weight_bias in tiles:
                product(states, weight, weight_bias)


def by_mm(states: Tensor, weight: Tensor, _: Tensor) -> Tensor:
    return torch.mm(states, weight.T)


def official_evaluation(folder: Path, network: Network, sessions: Sessions) -> Callable[[], float]:
    """Return the authors' evaluation of our weights, which returns recall@20."""
    sys.path.insert(0, str(folder))
    evaluation, module = importlib.import_module("evaluation"), importlib.import_module("gru4rec_pytorch")
    size = network.hyperparameters.hidden_size
    model = module.GRU4Rec(layers=[size], batch_size=OFFICIAL_BATCH, device=torch.device("cpu"))
    model.model = module.GRU4RecModel(network.num_items, layers=[size])
    theirs = {"Wy.weight": network.output_table, "By.weight": network.item_bias.unsqueeze(1)}
    for part, name in {"input": "ih", "recurrent": "hh"}.items():
        theirs[f"G.0.weight_{name}"] = network.weights[f"gru.0.{part}"]
        theirs[f"G.0.bias_{name}"] = network.weights[f"gru.0.{part}_bias"]
    model.model.load_state_dict(theirs)
    items = np.arange(network.num_items)
    model.data_iterator = SimpleNamespace(itemidmap=pd.Series(items.astype(np.int32), index=items))
    model.error_during_train = False
    session = np.repeat(np.arange(sessions.num_sessions), sessions.lengths)
    frame = pd.DataFrame({"SessionId": session, "ItemId": sessions.item_index, "Time": session})

    def evaluate() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            recall, _ = evaluation.batch_eval(model, frame, cutoff=[20], batch_size=OFFICIAL_BATCH)
        return float(recall[20])

    return evaluate


def cpu_s(run: Callable[[], Any]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def measure(num_items: int, hidden_size: int, num_sessions: int, rounds: int, official: Path | None) -> dict[str, Any]:
    """Return a row of the table. It wants a fresh process: what others left of the memory would hide its growth."""
    torch.set_num_threads(1)
    network, sessions = make_network(num_items, hidden_size), make_sessions(num_sessions, num_items)
    model, targets = Model(network, sessions.items), sessions.num_targets
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: compute_ranks(network, sessions),
        "top": lambda: model.best_items(sessions, 20),
        "mm": lambda: products(network, targets, by_mm),
        "fastest": lambda: products(network, targets, linear),
    }
    growth = {name: peak_growth(runs[name])[1] / 2**20 for name in ("ours", "top")}
    if official is not None and num_items <= OFFICIAL_ITEMS and hidden_size == 100:
        runs["authors"] = official_evaluation(official, network, sessions)
        _check_same_recall(runs["authors"](), compute_metrics(compute_ranks(network, sessions).ranks, ["recall@20"]))
    seconds = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            seconds[name] += [cpu_s(run)] * (number > 0)  # the first round is a warm-up

    def ratio(a: str, b: str) -> float | None:
        return statistics.median(x / y for x, y in zip(seconds[a], seconds[b], strict=True)) if a in runs else None

    return {
        "items": num_items,
        "hidden": hidden_size,
        "targets": targets,
        "targets/CPU-s": round(targets / statistics.median(seconds["ours"])),
        "mm/ours": ratio("mm", "ours"),
        "fastest/ours": ratio("fastest", "ours"),
        "MiB": growth["ours"],
        "authors targets/CPU-s": round(targets / statistics.median(seconds["authors"])) if "authors" in runs else None,
        "times faster": ratio("authors", "ours"),
        "top-20/CPU-s": round(sessions.num_sessions / statistics.median(seconds["top"])),
        "top-20 MiB": growth["top"],
    }


def _check_same_recall(theirs: float, ours: dict[str, float]) -> None:
    if abs(theirs - ours["recall@20"]) > 1e-3:
        sys.exit(f"error: the authors' recall@20 is {theirs:.4f} and ours {ours['recall@20']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="checkout of the authors' GRU4Rec for PyTorch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for setting in SETTINGS:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            rows.append(process.apply(measure, (*setting, options.rounds, options.official)))
        note(f"{len(rows)} of {len(SETTINGS)}: {rows[-1]}")
    print(f"1 thread, median of {options.rounds} rounds")
    print_table(rows, list(rows[0]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
