"""Accuracy beside recpack: both libraries with the documented defaults, on the same matrices, ranked by one evaluator.

    make bench-compat
    python benchmarks/recpack_accuracy.py [--data FOLDER] [--json FILE]

Trains on train_full.parquet, five epochs, and ranks the next item of every step of the sessions of test.parquet among
all items of the training log; a tied item ranks above the target. "updates" counts the mini-batches of all epochs:
recpack's hold those of 512 sessions that reach one and the same step, so most of them are small. FOLDER (default:
../shared/data) holds the logs; those that are not there are skipped. It needs recpack, so it runs in .venv-compat. One
thread.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import recpack.algorithms
import torch
from recpack.matrix import InteractionMatrix
from torch import Tensor

import gru4rec
from gru4rec.cli.output import print_table
from gru4rec.data.batching import lay_sessions
from gru4rec.data.interactions import read_interactions
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import ItemVocabulary, Sessions
from gru4rec.metrics import compute_metrics

LOGS = ("serenade_toy", "yoochoose_24h")
LOSSES = ("bpr", "bpr-max")
METRICS = ("recall@20", "mrr@20")

Scorer = Callable[[Tensor], Tensor]
"""Item columns of one session, shape (events,) -> score of every column after each event, shape (events, columns)."""


@dataclass(frozen=True)
class Library:
    """How to use one of the two libraries.

    Parameters
    ----------
    estimator : class
    make_scorer : callable
        Fitted estimator -> scorer.
    count_updates : callable
        (fitted estimator, training sessions) -> updates of the weights in all epochs.
    """

    estimator: Any
    make_scorer: Callable[[Any], Scorer]
    count_updates: Callable[[Any, Sessions], int]


def recpack_scorer(fitted: Any) -> Scorer:
    module = fitted.model_.eval()
    # The last column stands for padding.
    return lambda items: module(items.unsqueeze(0), module.init_hidden(1))[0][0, :, :-1]


def our_scorer(fitted: Any) -> Scorer:
    network = fitted.model_.network
    if not np.array_equal(fitted.model_.items.ids, np.arange(network.num_items)):
        raise ValueError("the model's items are not the columns of the matrix")

    def score(items: Tensor) -> Tensor:
        starts = torch.arange(len(items)) == 0
        states, _ = network.forward(items, starts, network.initial_hidden(1), [1] * len(items))
        return network.scores(states)

    return score


def recpack_updates(fitted: Any, _: Sessions) -> int:
    return int(max(state["step"] for state in fitted.optimizer.state.values()))


def our_updates(fitted: Any, train: Sessions) -> int:
    return lay_sessions(train, fitted.batch_size).num_steps * len(fitted.history_)


LIBRARIES = {
    "recpack": Library(recpack.algorithms.GRU4RecNegSampling, recpack_scorer, recpack_updates),
    "ours": Library(gru4rec.GRU4RecNegSampling, our_scorer, our_updates),
}


def rank_next_items(score: Scorer, sessions: Sessions) -> np.ndarray:
    """Return the rank of the next item of every step, from 1; whatever ties with it ranks before it."""
    ranks = []
    with torch.inference_mode():
        for begin, end in zip(sessions.offsets[:-1], sessions.offsets[1:], strict=True):
            items = torch.from_numpy(sessions.item_index[begin:end]).long()
            scores = score(items[:-1])
            ranks.append((scores >= scores.gather(1, items[1:].unsqueeze(1))).sum(1).numpy())
    return np.concatenate(ranks)


def read_matrix(path: Path) -> tuple[InteractionMatrix, ItemVocabulary]:
    """Return a log as a matrix of sessions and items, and the item id of each column."""
    log = pd.read_parquet(path)
    columns, item_ids = pd.factorize(log["ItemId"], sort=True)
    # Events of a session are in order; row numbers as times keep it where whole seconds tie.
    rows = {"session": pd.factorize(log["SessionId"])[0], "item": columns, "row": np.arange(len(log))}
    matrix = InteractionMatrix(pd.DataFrame(rows), item_ix="item", user_ix="session", timestamp_ix="row")
    return matrix, ItemVocabulary(np.asarray(item_ids))


def compare(folder: Path, seed: int) -> list[dict[str, Any]]:
    train, items = read_matrix(folder / "train_full.parquet")
    test, _ = read_log(folder / "test.parquet").with_items_of(items)
    test = test.select_sessions(test.lengths >= 2)
    validation = train.users_in([0])  # recpack insists on some; with keep_last it decides nothing
    rows = []
    for loss in LOSSES:
        for name, library in LIBRARIES.items():
            estimator = library.estimator(loss_fn=loss, keep_last=True, seed=seed)
            began = time.process_time()
            estimator.fit(train, (validation, validation))
            seconds = time.process_time() - began
            ranks = rank_next_items(library.make_scorer(estimator), test)
            rows.append(
                {
                    "log": folder.name,
                    "loss": loss,
                    "library": name,
                    **compute_metrics(ranks, METRICS),
                    "training CPU-s": seconds,
                    "updates": library.count_updates(estimator, read_interactions(train)),
                }
            )
            print(f"{len(rows)} of {len(LOSSES) * len(LIBRARIES)} on {folder.name} done", file=sys.stderr)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("recpack").setLevel(logging.WARNING)
    rows = []
    for name in LOGS:
        if (options.data / name).is_dir():
            rows += compare(options.data / name, options.seed)
        else:
            print(f"{options.data / name} is not there: skipped")
    if rows:
        print_table(rows, list(rows[0]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
