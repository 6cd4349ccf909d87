"""recpack's GRU4Rec with its defaults; the loss is the first argument."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from exchange import Log, run_peer
from recpack.algorithms import GRU4RecNegSampling
from recpack.matrix import InteractionMatrix


def train(log: Log, epochs: int, seed: int) -> Any:
    rows = {
        "session": np.repeat(np.arange(len(log.offsets) - 1), np.diff(log.offsets)),
        "item": log.item_index,
        "row": np.arange(len(log.item_index)),
    }
    matrix = InteractionMatrix(pd.DataFrame(rows), item_ix="item", user_ix="session", timestamp_ix="row")
    estimator = GRU4RecNegSampling(loss_fn=LOSS, max_epochs=epochs, keep_last=True, seed=seed)
    validation = matrix.users_in([0])  # it insists on some; with keep_last, without which it fails, it decides nothing
    estimator.fit(matrix, (validation, validation))
    return estimator.model_.eval()


@torch.inference_mode()
def score(model: Any, items: np.ndarray) -> np.ndarray:
    scores, _ = model(torch.from_numpy(items).long().unsqueeze(0), model.init_hidden(1))
    return scores[0, :, :-1].numpy()  # the last column stands for padding


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("recpack").setLevel(logging.WARNING)
    LOSS = sys.argv.pop(1)
    run_peer(version("recpack"), LOSS, train, score)
