"""On real logs, where they are: ../shared/data beside the project. Figures are those of its README."""

from __future__ import annotations

from pathlib import Path

import pytest

from gru4rec.baselines import markov_ranks
from gru4rec.data.reading import read_log
from gru4rec.hyperparameters import HyperParameters
from gru4rec.metrics import compute_metrics
from gru4rec.training import Trainer

DATA = Path(__file__).parents[3] / "shared/data"
METRICS = ["recall@20", "mrr@20"]
HYPERPARAMETERS = HyperParameters(
    loss_fn="bpr-max", embedding="tied", hidden_size=100, num_negatives=1024, batch_size=64, learning_rate=0.05,
    clipnorm=None,
)  # fmt: skip


@pytest.fixture(scope="module", params=["yoochoose_24h", "serenade_toy"])
def parts(request):
    folder = DATA / request.param
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    train = read_log(folder / "train_full.parquet").with_own_items()
    return request.param, train, read_log(folder / "test.parquet").with_items_of(train.items)[0]


def test_the_markov_baseline_is_the_recorded_one(parts):
    name, train, test = parts
    recall, mrr = {"yoochoose_24h": (0.611, 0.355), "serenade_toy": (0.426, 0.275)}[name]
    figures = compute_metrics(markov_ranks(train, test), METRICS)
    # The recorded table keeps 20 successors, ties by order; ours ranks all items, ties by popularity.
    assert figures["recall@20"] == pytest.approx(recall, abs=0.01)
    assert figures["mrr@20"] == pytest.approx(mrr, abs=0.01)


def test_three_epochs_beat_the_markov_baseline(parts):
    _, train, test = parts
    trainer = Trainer(HYPERPARAMETERS, train, seed=0)
    for _ in range(3):
        trainer.train_epoch()
    ours = trainer.validate(test, METRICS)
    baseline = compute_metrics(markov_ranks(train, test), METRICS)
    assert ours["recall@20"] > baseline["recall@20"] + 0.08
    assert ours["mrr@20"] > baseline["mrr@20"] + 0.01
