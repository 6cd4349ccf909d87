"""recpack's GRU4Rec, with its defaults but for what the run sets and keep_last.

Without keep_last, recpack fails with torch from 2.6 on.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import torch
from exchange import Log, Run, Score, Train, run_peer
from recpack.algorithms import GRU4RecNegSampling
from recpack.matrix import InteractionMatrix


def prepare(log: Log, run: Run) -> Train:
    # Row numbers as times keep the order of events whose whole seconds tie.
    rows = {"session": log.session_of_event(), "item": log.item_index, "row": np.arange(len(log.item_index))}
    matrix = InteractionMatrix(pd.DataFrame(rows), item_ix="item", user_ix="session", timestamp_ix="row")
    validation = matrix.users_in([0])  # it insists on some; with keep_last it decides nothing
    estimator = GRU4RecNegSampling(
        loss_fn=run.loss, max_epochs=run.epochs, keep_last=True, seed=run.seed, **run.settings
    )

    def train() -> Score:
        module = estimator.fit(matrix, (validation, validation)).model_.eval()

        @torch.inference_mode()
        def score(items: np.ndarray) -> np.ndarray:
            scores, _ = module(torch.from_numpy(items).long().unsqueeze(0), module.init_hidden(1))
            return scores[0, :, :-1].numpy()  # the last column stands for padding

        return score

    return train


if __name__ == "__main__":
    logging.getLogger("recpack").setLevel(logging.WARNING)
    run_peer("recpack", prepare)
