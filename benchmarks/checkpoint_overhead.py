"""What checkpoints cost a trial: seconds of its epochs with a checkpoint after each, beside those of saving it.

    python benchmarks/checkpoint_overhead.py [--epochs 5] [--folder FOLDER] [--json FILE]

A trial without its search, one thread, Adagrad, on a generated log of 30,000 items whose epochs take five seconds and
more. The share is the median time of writing one (state copied, serialised, SHA-256, written, flushed to the disk,
renamed, older ones removed) in that of an epoch with its validation. FOLDER is where they are written, by default in
the folder for temporary files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch

from gru4rec.cli.output import print_table
from gru4rec.data.reading import read_log
from gru4rec.data.splitting import split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.stopping import StoppingRule
from tuning.checkpoints import Checkpoints
from tuning.search import make_task
from tuning.search_data import SearchData
from tuning.space import Space
from tuning.spec import SearchSpec
from tuning.trainable import GRU4RecTrainable

ITEMS, EVENTS = 30_000, 150_000
SIZES = {100: {"batch_size": 64, "num_negatives": 512}, 512: {"batch_size": 64, "num_negatives": 512}}


class TimedTrial(GRU4RecTrainable):
    """Notes how long saving takes."""

    def _save(self, record: dict[str, Any]) -> dict[str, int]:
        began = time.perf_counter()
        news = super()._save(record)
        self.saving_s = time.perf_counter() - began
        return news


def measure(hidden_size: int, data: SearchData, epochs: int, folder: str) -> dict[str, Any]:
    """Train a trial; return the medians."""
    spec = SearchSpec(Space((), {}), max_epochs=epochs + 1, criterion=StoppingRule("recall@20", epochs + 1))
    trial = TimedTrial.__new__(TimedTrial)
    config = {"loss_fn": "cross-entropy", "embedding": "tied", "hidden_size": hidden_size, "seed": 1, "trial": 0}
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints:
        trial.setup({**config, **SIZES[hidden_size]}, make_task(spec, data), Checkpoints(checkpoints))
        seconds, saving, size = [], [], 0
        for _ in range(epochs):
            record = trial.step()
            seconds.append(record["epoch_seconds"])
            saving.append(trial.saving_s)
            size = record["checkpoint_bytes"]
    epoch_s, saving_s = statistics.median(seconds), statistics.median(saving)
    return {
        "hidden size": hidden_size,
        "epoch s": epoch_s,
        "checkpoint MB": size / 1e6,
        "writing it s": saving_s,
        "share": saving_s / (epoch_s + saving_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folder")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)  # a trial asks it for its node
    log = read_log(generate_log(EVENTS // 5, ITEMS, seed=1))
    train, validation = split_time_share(log, 0.02)
    print(f"{train.num_events:,} events, {train.num_items:,} items; {torch.get_num_threads()} thread", flush=True)
    rows = [measure(size, SearchData(train, validation), options.epochs, options.folder) for size in SIZES]
    print_table(rows, list(rows[0]))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
