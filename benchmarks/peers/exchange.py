"""What a peer's environment reads and writes: numpy alone, so that it runs beside any version of anything.

The exchange folder holds train.npz and test.npz (`item_index`, `offsets`: session s has the items item_index[offsets[s]
.. offsets[s + 1] - 1], numbered from 0 by training items), and then ranks.npy and peer.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Train = Callable[["Log", int, int], Any]
"""(training log, epochs, seed) -> trained model."""
Score = Callable[[Any, np.ndarray], np.ndarray]
"""(model, items of one session, shape (events,)) -> score of every item after each event, shape (events, num_items)."""


class Log(NamedTuple):
    item_index: np.ndarray
    offsets: np.ndarray
    num_items: int

    def sessions(self) -> Iterator[np.ndarray]:
        """Yield the items of each session."""
        for begin, end in zip(self.offsets[:-1], self.offsets[1:]):
            yield self.item_index[begin:end]


def read_exchange(folder: Path, part: str) -> Log:
    with np.load(folder / f"{part}.npz") as arrays:
        return Log(arrays["item_index"], arrays["offsets"], int(arrays["num_items"]))


def run_peer(version: str, settings: str, train: Train, score: Score) -> None:
    """Be a peer's script: train, rank the next item of every step of the test sessions, write both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    began = time.process_time()
    model = train(read_exchange(options.folder, "train"), options.epochs, options.seed)
    seconds = time.process_time() - began
    ranks = []
    for items in read_exchange(options.folder, "test").sessions():
        scores = score(model, items[:-1])
        own = np.take_along_axis(scores, items[1:, None].astype(np.int64), axis=1)
        ranks.append((scores >= own).sum(axis=1))  # whatever ties with the target ranks before it
    np.save(options.folder / "ranks.npy", np.concatenate(ranks))
    report = {"version": version, "settings": settings, "cpu_s": seconds}
    (options.folder / "peer.json").write_text(json.dumps(report), encoding="utf-8")
