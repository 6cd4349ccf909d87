"""Cornac's GRU4Rec with its defaults."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from cornac.data import SequentialDataset
from cornac.models import GRU4Rec
from exchange import Log, run_peer


def train(log: Log, epochs: int, seed: int) -> Any:
    rows = []
    for session, items in enumerate(log.sessions()):
        rows += [(0, session, int(item), len(rows) + place) for place, item in enumerate(items)]
    dataset = SequentialDataset.from_usit(rows, seed=seed)
    model = GRU4Rec(n_epochs=epochs, seed=seed, device="cpu", verbose=False).fit(dataset)
    return model, np.array([dataset.iid_map[item] for item in range(log.num_items)])


def score(trained: Any, items: np.ndarray) -> np.ndarray:
    model, columns = trained
    history = columns[items].tolist()
    return np.stack([model.score(0, history[: step + 1])[columns] for step in range(len(history))])


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_peer(version("cornac"), "cross-entropy", train, score)
