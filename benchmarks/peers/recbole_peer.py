"""RecBole's GRU4Rec with its defaults: cross-entropy over all items, on every prefix of every session."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exchange import Log, run_peer
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import GRU4Rec
from recbole.trainer import Trainer
from recbole.utils import init_seed


def train(log: Log, epochs: int, seed: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        lines = ["session_id:token\titem_id:token\ttimestamp:float"]
        row = 0
        for session, items in enumerate(log.sessions()):
            for item in items:
                lines.append(f"{session}\t{item}\t{row}")
                row += 1
        path = Path(folder) / "log" / "log.inter"
        path.parent.mkdir()
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        config = Config(
            model="GRU4Rec",
            dataset="log",
            config_dict={
                "data_path": folder, "checkpoint_dir": folder, "epochs": epochs, "seed": seed, "use_gpu": False,
                "show_progress": False, "USER_ID_FIELD": "session_id", "load_col": {"inter": ["session_id", "item_id", "timestamp"]},
                # Everything trains: the test sessions are others.
                "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": "none", "mode": "full"},
                "train_neg_sample_args": None,
            },
        )  # fmt: skip
        init_seed(seed, reproducibility=True)
        dataset = create_dataset(config)
        train_data, _, _ = data_preparation(config, dataset)
        model = GRU4Rec(config, train_data.dataset)
        Trainer(config, model).fit(train_data, valid_data=None, saved=False, verbose=False)
    tokens = train_data.dataset.field2id_token["item_id"]
    columns = np.zeros(log.num_items, dtype=np.int64)
    for column, token in enumerate(tokens[1:], start=1):  # 0 pads
        columns[int(token)] = column
    return model.eval(), columns


@torch.inference_mode()
def score(trained: Any, items: np.ndarray) -> np.ndarray:
    model, columns = trained
    sequence = torch.from_numpy(columns[items]).unsqueeze(0)
    states = model.dense(model.gru_layers(model.item_embedding(sequence))[0])[0]
    return (states @ model.item_embedding.weight.T).numpy()[:, columns]


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_peer(version("recbole"), "cross-entropy", train, score)
