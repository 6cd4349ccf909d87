"""Training speed: targets per second of CPU time, beside the matrix products that a step cannot do without.

    python benchmarks/train_step.py [--data FOLDER] [--json FILE]

Reads train_full.parquet from FOLDER (default: ../shared/data/yoochoose_24h), or generates a log when there is none.
Ours and the products alternate, so that both see the same machine; medians over the rounds. One thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from gru4rec.cli.output import print_table
from gru4rec.data.reading import read_log
from gru4rec.data.synthetic import generate_log
from gru4rec.hyperparameters import HyperParameters
from gru4rec.training import Trainer

SETTINGS = [
    {"loss_fn": "cross-entropy", "hidden_size": 128, "num_negatives": 1024, "learning_rate": 0.1},
    {"loss_fn": "bpr-max", "hidden_size": 128, "num_negatives": 1024, "learning_rate": 0.05},
    {"loss_fn": "cross-entropy", "hidden_size": 100, "num_negatives": 2048, "learning_rate": 0.1},
    {"loss_fn": "bpr-max", "hidden_size": 100, "num_negatives": 2048, "learning_rate": 0.05},
]
SHARED = {"embedding": "tied", "batch_size": 64, "clipnorm": None}


def products_s(hyperparameters: HyperParameters, steps: int) -> float:
    """Return the CPU seconds of the matrix products alone: scores and their two gradients, GRU and its two."""
    rows, size = hyperparameters.batch_size, hyperparameters.hidden_size
    states, table = torch.randn(rows, size), torch.randn(rows + int(hyperparameters.num_negatives), size)
    weight, gates = torch.randn(3 * size, size), torch.randn(rows, 3 * size)
    began = time.process_time()
    for _ in range(steps):
        scores = states @ table.T
        scores @ table
        scores.T @ states
        for _ in range(2):  # input and recurrent weights
            states @ weight.T
            gates @ weight
            gates.T @ states
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/yoochoose_24h")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    log = options.data / "train_full.parquet"
    found = log.is_file()
    if not found:
        print(f"{log} is not there: a generated log is used instead")
    train = read_log(log if found else generate_log(20_000, 5_000)).with_own_items()
    rows = []
    for setting in SETTINGS:
        hyperparameters = HyperParameters(**SHARED, **setting)
        trainer = Trainer(hyperparameters, train, seed=0)
        trainer.train_epoch()  # warm-up
        ours, limit = [], []
        for _ in range(options.rounds):
            began = time.process_time()
            trainer.train_epoch()
            ours.append(time.process_time() - began)
            limit.append(products_s(hyperparameters, train.num_targets // hyperparameters.batch_size))
        seconds = statistics.median(ours)
        rows.append(
            {
                "loss": hyperparameters.loss_fn,
                "hidden": hyperparameters.hidden_size,
                "batch": hyperparameters.batch_size,
                "negatives": hyperparameters.num_negatives,
                "targets/CPU-s": round(train.num_targets / seconds),
                "ms/mini-batch": 1000 * seconds * hyperparameters.batch_size / train.num_targets,
                "products/ours": statistics.median(a / b for a, b in zip(limit, ours, strict=True)),
            }
        )
    print(f"{train.num_targets:,} targets, {train.num_items:,} items, 1 thread, median of {options.rounds} epochs")
    print_table(rows, list(rows[0]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
