"""Records the learning curves of random configurations of the preset `full`, for benchmarks/search_efficiency.py.

    python benchmarks/record_curves.py [--count 150] [--data FOLDER] [--out FILE] [--part 0/1]

Each configuration is trained on train_tr for 10 epochs without any stopping; every epoch is validated on all sessions
of train_valid, and on a fixed quarter of them. Times are CPU seconds of one thread. The known-good points come first.
A line per configuration is added to the file; those that it holds already are left out, so that a recording can be
stopped and gone on with. `--part K/N` records every N-th, for several processes with a file of their own each.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions, sample_sessions
from gru4rec.errors import DivergedError
from gru4rec.fitting import align_validation
from gru4rec.hyperparameters import HyperParameters
from gru4rec.training import Trainer
from tuning.presets import PRESETS
from tuning.searcher import trial_seed
from tuning.space import RandomTrial

EPOCHS = 10
METRICS = ("recall@20", "mrr@20")
SHARE = 0.25
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "yoochoose_24h"


def configurations(count: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield source, seed and configuration: the known-good points, then `count` random ones."""
    space = PRESETS["full"]
    for number, point in enumerate(space.fitted_points()):
        yield "portfolio", trial_seed(1, number), {**space.fixed, **point}
    for number in range(count):
        yield "random", trial_seed(0, number), space.suggest(RandomTrial(number))


def record(config: dict[str, Any], seed: int, train: Sessions, validation: Sessions) -> dict[str, Any]:
    """Train a configuration; return its epochs, and why it diverged, if it did."""
    sample = sample_sessions(validation, int(SHARE * validation.num_sessions), seed=0)
    trainer = Trainer(HyperParameters.from_dict(config), train, seed=seed)
    epochs: list[dict[str, float]] = []
    try:
        for _ in range(EPOCHS):
            _, train_s = timed(trainer.train_epoch)
            metrics, validate_s = timed(lambda: trainer.validate(validation, METRICS))
            sampled, sample_validate_s = timed(lambda: trainer.validate(sample, METRICS[:1]))
            epochs.append(
                {
                    **{key: round(value, 6) for key, value in metrics.items()},
                    "sample recall@20": round(sampled["recall@20"], 6),
                    "train_s": round(train_s, 3),
                    "validate_s": round(validate_s, 3),
                    "sample_validate_s": round(sample_validate_s, 3),
                }
            )
    except DivergedError as error:
        return {"epochs": epochs, "diverged": str(error)}
    return {"epochs": epochs, "diverged": ""}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` returns, and its CPU seconds."""
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "curves" / "yoochoose_24h.ndjson")
    parser.add_argument("--part", default="0/1")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.data.is_dir():
        raise SystemExit(f"skipped: there is no {arguments.data}")
    train = read_log(arguments.data / "train_tr.parquet").with_own_items()
    validation = align_validation(read_log(arguments.data / "train_valid.parquet"), train)
    arguments.out.parent.mkdir(exist_ok=True)
    text = arguments.out.read_text(encoding="utf-8") if arguments.out.exists() else ""
    known = [json.loads(line)["config"] for line in text.splitlines()]
    part, parts = map(int, arguments.part.split("/"))
    for number, (source, seed, config) in enumerate(configurations(arguments.count)):
        if number % parts != part or config in known:
            continue
        line = {"source": source, "config": config, "seed": seed, **record(config, seed, train, validation)}
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        best = max((epoch["recall@20"] for epoch in line["epochs"]), default=0.0)
        seconds = sum(epoch["train_s"] + epoch["validate_s"] for epoch in line["epochs"])
        print(f"{source} {number}: {config['loss_fn']}, best recall@20 {best:.4f}, {seconds:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
