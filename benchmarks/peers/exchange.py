"""What the scripts of the peers share: what they read and write, and the one evaluator.

It needs numpy alone, so that it runs beside whatever a peer needs. A peer's script runs in the exchange folder: it
reads run.json (a `Run`) and train.npz (a `Log`), trains, and writes report.json; where there is a test.npz, too, it
ranks, and writes ranks.npy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Run:
    """What a peer is told; all else is its default. `settings` are under the peer's own names."""

    loss: str
    epochs: int
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)


class Log(NamedTuple):
    """Session s has the items item_index[offsets[s]] .. item_index[offsets[s + 1] - 1], in order.

    Items are numbered 0 .. num_items - 1, and each occurs in the training log.
    """

    item_index: np.ndarray
    offsets: np.ndarray
    num_items: int

    def sessions(self) -> Iterator[np.ndarray]:
        """Yield the items of each session."""
        yield from np.split(self.item_index, self.offsets[1:-1])

    def session_of_event(self) -> np.ndarray:
        """Return the place of each event's session."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


Score = Callable[[np.ndarray], np.ndarray]
"""Items of one session, shape (events,) -> score of every item after each event, shape (events, num_items)."""
Train = Callable[[], Score]


def rank_next_items(score: Score, log: Log) -> np.ndarray:
    """Return the rank of the next item of every step among all items, from 1; ties and NaN count against the model."""
    ranks = []
    for items in log.sessions():
        scores = score(items[:-1])
        own = np.take_along_axis(scores, items[1:, None].astype(np.int64), axis=1)
        ranks.append(log.num_items - (scores < own).sum(axis=1))
    return np.concatenate(ranks)


def write_log(path: Path, log: Log) -> None:
    np.savez(path, item_index=log.item_index, offsets=log.offsets, num_items=log.num_items)


def read_log(path: Path) -> Log:
    with np.load(path) as arrays:
        return Log(arrays["item_index"], arrays["offsets"], int(arrays["num_items"]))


def run_peer(package: str, prepare: Callable[[Log, Run], Train]) -> None:
    """Be a peer's script; `prepare` brings the log to the peer's form, and only what it returns is timed."""
    run = Run(**json.loads(Path("run.json").read_text(encoding="utf-8")))
    train = prepare(read_log(Path("train.npz")), run)
    began = time.process_time()
    score = train()
    report = {"version": version(package), "cpu_s": time.process_time() - began}
    if Path("test.npz").exists():
        np.save("ranks.npy", rank_next_items(score, read_log(Path("test.npz"))))
    Path("report.json").write_text(json.dumps(report), encoding="utf-8")
