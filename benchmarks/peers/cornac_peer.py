"""Cornac's GRU4Rec, with its defaults but for what the run sets."""

from __future__ import annotations

import numpy as np
import torch
from cornac.data import SequentialDataset
from cornac.models import GRU4Rec
from exchange import Log, Run, Score, Train, run_peer


def prepare(log: Log, run: Run) -> Train:
    events = zip(log.session_of_event().tolist(), log.item_index.tolist(), strict=True)
    dataset = SequentialDataset.from_sit([(*event, row) for row, event in enumerate(events)], seed=run.seed)
    columns = np.array([dataset.iid_map[item] for item in range(log.num_items)])
    model = GRU4Rec(loss=run.loss, n_epochs=run.epochs, seed=run.seed, **run.settings)
    torch.manual_seed(run.seed)

    def train() -> Score:
        model.fit(dataset)

        def score(items: np.ndarray) -> np.ndarray:
            history = columns[items].tolist()
            return np.stack([model.score(0, history[:events])[columns] for events in range(1, len(history) + 1)])

        return score

    return train


if __name__ == "__main__":
    run_peer("cornac", prepare)
