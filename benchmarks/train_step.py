"""Training speed: targets per second of CPU time beside the floor of `floor.py`, and the authors' code where given.

    python benchmarks/train_step.py [--official FOLDER] [--quick] [--rounds 5] [--json FILE]

A mini-batch of full lanes, tied embeddings, negatives drawn with popularity ** 0.5, on generated logs whose items are
about as unequal as a shop's. Ours and the floors alternate, so that all see the same machine; medians over the rounds.
"floor/ours" is the floor with torch's own products, "(our products)" that with the faster ones that ours uses; both
score a column for each candidate, where ours scores each distinct item once. FOLDER is a checkout of the authors'
GRU4Rec for PyTorch, which is read and run where it lies. --quick leaves most sizes out. One thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from floor import PRODUCTS, make_floor, seconds_of
from parity_official import EnoughStepsError, Official

from gru4rec.cli.output import note, print_table
from gru4rec.data.sessions import ItemVocabulary, Sessions
from gru4rec.hyperparameters import SAMPLED_LOSSES, HyperParameters
from gru4rec.training import Trainer

EVENTS_PER_SESSION = 5
SIZES = [{"hidden": 100, "batch": 64, "negatives": 2048}, {"hidden": 512, "batch": 128, "negatives": 2048}]
OFFICIAL_STEPS = 100

Size = dict[str, int]
Row = dict[str, Any]


def make_log(num_items: int, num_events: int = 400_000) -> Sessions:
    """Return sessions in which every item occurs, popularity falling with the power 0.8 of its rank."""
    random = np.random.default_rng(0)
    shares = (1.0 + np.arange(num_items)) ** -0.8
    drawn = random.choice(num_items, max(num_events - num_items, 0), p=shares / shares.sum())
    items = random.permutation(np.concatenate([np.arange(num_items), drawn])).astype(np.int32)
    items = items[: len(items) // EVENTS_PER_SESSION * EVENTS_PER_SESSION]
    offsets = np.arange(0, len(items) + 1, EVENTS_PER_SESSION)
    sessions = np.arange(len(offsets) - 1)
    times = np.repeat(sessions, EVENTS_PER_SESSION)
    return Sessions(items, offsets, times, sessions, ItemVocabulary(np.arange(num_items))).with_own_items()


def make_step(loss: str, size: Size, train: Sessions) -> Callable[[], None]:
    """Return the function that trains on one mini-batch."""
    hyperparameters = HyperParameters(
        loss_fn=loss, hidden_size=size["hidden"], batch_size=size["batch"], num_negatives=size["negatives"],
        embedding="tied", learning_rate=0.05, clipnorm=None,
    )  # fmt: skip
    trainer = Trainer(hyperparameters, train, seed=0)
    full = [step for step, lanes in enumerate(trainer._lanes_per_step) if lanes == size["batch"]]
    steps, hidden = itertools.cycle(full), trainer.network.initial_hidden(size["batch"])

    def step() -> None:
        trainer._update(next(steps), [size["batch"]], hidden)

    return step


def measure(train: Sessions, size: Size, losses: tuple[str, ...], rounds: int) -> Iterator[Row]:
    """Yield a row for each loss."""
    work = {loss: make_step(loss, size, train) for loss in losses}
    floors = {f"floor {name}": make_floor(*size.values(), train.num_items, by) for name, by in PRODUCTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in [*work, *floors]}
    for number in range(rounds + 1):
        for name, function in [*work.items(), *floors.items()]:
            if number == 0:
                seconds_of(function)  # warm-up
            else:
                seconds[name].append(seconds_of(function))
    for loss in losses:
        median = statistics.median(seconds[loss])
        yield {
            "loss": loss,
            "items": train.num_items,
            **size,
            "targets/CPU-s": round(size["batch"] / median),
            "ms/mini-batch": 1000 * median,
            "floor/ours": ratio(seconds["floor torch"], seconds[loss]),
            "(our products)": ratio(seconds["floor ours"], seconds[loss]),
        }


def ratio(some: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(some, others, strict=True))


def beside_authors(folder: Path, train: Sessions, size: Size, loss: str, rounds: int) -> Row:
    """Return a row with the authors' time for a mini-batch over ours."""
    official, step = Official(folder, train), make_step(loss, size, train)
    parameters: dict[str, Any] = {
        "layers": [size["hidden"]], "batch_size": size["batch"], "n_sample": size["negatives"], "sample_alpha": 0.5,
        "loss": loss, "learning_rate": 0.05, "embedding": 0, "constrained_embedding": True,
        **({"bpreg": 1.0, "elu_param": 0.5} if loss == "bpr-max" else {"logq": 1.0}),
    }  # fmt: skip
    theirs, ours = [], []
    seconds_of(step)
    for _ in range(rounds):
        theirs.append(_authors_seconds(official, parameters))
        ours.append(seconds_of(step, 0.3))
    median = statistics.median(theirs)
    return {
        "loss": loss,
        "items": train.num_items,
        **size,
        "authors targets/CPU-s": round(size["batch"] / median),
        "ours": round(size["batch"] / statistics.median(ours)),
        "times faster": ratio(theirs, ours),
    }


def _authors_seconds(official: Official, parameters: dict[str, Any]) -> float:
    """Return the CPU seconds of one of their mini-batches."""
    moments: list[float] = []

    def watch(*_: Any) -> None:
        moments.append(time.process_time())
        if len(moments) > OFFICIAL_STEPS:
            raise EnoughStepsError

    official.train(parameters, seed=0, epochs=1, watch=watch)
    warm = OFFICIAL_STEPS // 10
    return (moments[-1] - moments[warm]) / (len(moments) - 1 - warm)


def sizes(quick: bool) -> list[Size]:
    if quick:
        return SIZES
    axes = itertools.product((100, 256, 512), (32, 64, 128, 512), (0, 512, 2048))
    return [dict(zip(("hidden", "batch", "negatives"), values, strict=True)) for values in axes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="checkout of the authors' GRU4Rec for PyTorch")
    parser.add_argument("--quick", action="store_true", help="two sizes only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        rows: list[Row] = []
        authors: list[Row] = []
        for num_items in (5_000, 50_000, 500_000):
            train = make_log(num_items)
            for size in sizes(options.quick):
                losses = SAMPLED_LOSSES if size in SIZES else ("cross-entropy", "bpr-max")
                rows.extend(measure(train, size, losses, options.rounds))
                note(f"{num_items:,} items, {size}")
            if options.official and num_items <= 50_000:
                with torch.inference_mode(False):
                    authors += [
                        beside_authors(options.official, train, size, loss, options.rounds)
                        for size in SIZES
                        for loss in ("cross-entropy", "bpr-max")
                    ]
    print(f"1 thread, medians of {options.rounds} rounds")
    print_table(rows, list(rows[0]))
    if authors:
        print_table(authors, list(authors[0]))
    else:
        print("the authors' code is left out: --official names a checkout of it")
    if options.json:
        options.json.write_text(json.dumps({"steps": rows, "authors": authors}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
