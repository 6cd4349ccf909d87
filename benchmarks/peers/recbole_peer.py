"""RecBole's GRU4Rec: cross-entropy over all items after every prefix of every session.

Its defaults hold but for what the run sets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from exchange import Log, Run, Score, Train, run_peer
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import GRU4Rec
from recbole.trainer import Trainer
from recbole.utils import init_seed

LOSSES = {"cross-entropy": "CE"}


def prepare(log: Log, run: Run) -> Train:
    config = Config(
        model="GRU4Rec",
        dataset="sessions",
        config_dict={
            "data_path": ".",
            "checkpoint_dir": ".",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            # The test log is apart, so all sessions are for training; without validation no epoch is the best one.
            "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": "none", "mode": "full"},
            "loss_type": LOSSES[run.loss],
            "train_neg_sample_args": None,  # as this loss wants it
            "epochs": run.epochs,
            "seed": run.seed,
            "use_gpu": False,
            "show_progress": False,
            **run.settings,
        },
    )
    write_sessions(Path("sessions/sessions.inter"), log)
    init_seed(run.seed, reproducibility=True)
    dataset = create_dataset(config)
    batches, _, _ = data_preparation(config, dataset)
    model = GRU4Rec(config, batches.dataset)
    columns = np.array([dataset.token2id("item_id", str(item)) for item in range(log.num_items)])

    def train() -> Score:
        Trainer(config, model).fit(batches, saved=False, verbose=False)
        model.eval()

        @torch.inference_mode()
        def score(items: np.ndarray) -> np.ndarray:
            prefixes = padded_prefixes(columns[items], config["MAX_ITEM_LIST_LENGTH"])
            lengths = torch.from_numpy((prefixes > 0).sum(axis=1))
            batch = Interaction({model.ITEM_SEQ: torch.from_numpy(prefixes), model.ITEM_SEQ_LEN: lengths})
            return model.full_sort_predict(batch).numpy()[:, columns]

        return score

    return train


def write_sessions(path: Path, log: Log) -> None:
    """Write the log as RecBole reads it; row numbers as times keep the order of events whose whole seconds tie."""
    path.parent.mkdir()
    events = zip(log.session_of_event(), log.item_index, strict=True)
    lines = [f"{session}\t{item}\t{row}\n" for row, (session, item) in enumerate(events)]
    path.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(lines), encoding="utf-8")


def padded_prefixes(items: np.ndarray, longest: int) -> np.ndarray:
    """Return the last `longest` items up to each event, shape (events, longest), 0 behind them."""
    prefixes = np.zeros((len(items), longest), dtype=np.int64)
    for end in range(1, len(items) + 1):
        prefix = items[max(0, end - longest) : end]
        prefixes[end - 1, : len(prefix)] = prefix
    return prefixes


if __name__ == "__main__":
    run_peer("recbole", prepare)
