"""Ours beside the authors' GRU4Rec for PyTorch: the same numbers step by step, and the same accuracy over seeds.

    python benchmarks/parity_official.py --official FOLDER [--data FOLDER ...] [--seeds 5] [--epochs 5] [--json FILE]

FOLDER is a checkout of the authors' code (research only, so not part of this project); it is read and run where it
lies. Steps: its initial weights and its drawn negatives go into our trainer, dropout off, and the losses of the first
mini-batches and the weights after them are compared, in double precision: training amplifies rounding, so that after
200 mini-batches in single precision even another order of the same sums shows. Accuracy: both are trained with the same
settings and each their own draws, and one evaluator ranks every next item of the test log; the figures are means over
the seeds. One thread.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gru4rec.cli.output import note, print_table
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation import compute_ranks
from gru4rec.fitting import align_validation
from gru4rec.hyperparameters import HyperParameters
from gru4rec.metrics import compute_metrics
from gru4rec.nn.network import Network
from gru4rec.training import Trainer

DATA = Path(__file__).parents[2] / "shared/data"
BASE = {"layers": [100], "batch_size": 64, "n_sample": 2048, "sample_alpha": 0.5}
LOSSES: dict[str, dict[str, Any]] = {
    "bpr-max": {"loss": "bpr-max", "learning_rate": 0.05, "bpreg": 1.0, "elu_param": 0.5},
    "cross-entropy": {"loss": "cross-entropy", "learning_rate": 0.1, "logq": 1.0},
}
EMBEDDINGS: dict[str, dict[str, Any]] = {
    "tied": {"embedding": 0, "constrained_embedding": True},
    "separate": {"embedding": 100, "constrained_embedding": False},
    "none": {"embedding": 0, "constrained_embedding": False},
}
METRICS = ("recall@20", "mrr@20")


class EnoughStepsError(Exception):
    """Leaves the authors' training loop."""


class TorchForOfficial:
    """torch as the authors' code sees it: its single precision is `dtype`, and `tensor` takes a pandas Series."""

    dtype = torch.float32

    def __getattr__(self, name: str) -> Any:
        return self.dtype if name in {"float", "float32"} else getattr(torch, name)

    def tensor(self, data: Any, **options: Any) -> Tensor:
        return torch.tensor(data.to_numpy() if isinstance(data, pd.Series) else data, **options)


class Official:
    """The authors' code, made to run with current numpy and torch, over items that have our numbers.

    Parameters
    ----------
    folder : Path
        Checkout with gru4rec_pytorch.py.
    train : Sessions
    """

    def __init__(self, folder: Path, train: Sessions) -> None:
        self.module = _import(folder / "gru4rec_pytorch.py")
        self.torch = TorchForOfficial()
        self.module.torch = self.torch  # type: ignore[attr-defined]
        draw = self.module.GRU4RecModel._init_numpy_weights
        self.module.GRU4RecModel._init_numpy_weights = lambda model, shape: draw(model, shape).astype(
            "float64" if self.torch.dtype == torch.float64 else "float32"
        )
        # Times that follow our order of sessions, so that both lay them on the same lanes.
        session = np.repeat(np.arange(train.num_sessions), train.lengths)
        self.frame = pd.DataFrame({"SessionId": session, "ItemId": train.item_index, "Time": session})

    def train(
        self, parameters: dict[str, Any], seed: int, epochs: int, watch: Callable[..., None] | None = None
    ) -> Any:
        """Return the authors' object after training; `watch(model, targets_and_negatives, loss)` sees each loss."""
        model = self.module.GRU4Rec(**parameters, n_epochs=epochs, device=torch.device("cpu"))
        if watch is not None:
            loss_function = model.loss_function

            def watched(scores: Tensor, items: Tensor, rows: int) -> Tensor:
                loss: Tensor = loss_function(scores, items, rows)
                watch(model, items, loss.detach() / model.batch_size)
                return loss

            model.loss_function = watched
        torch.manual_seed(seed)
        with _numpy_seed(seed), contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(EnoughStepsError):
            model.fit(self.frame)
        return model


def our_weights(model: Any) -> dict[str, Tensor]:
    """Return copies of the weights of the authors' model under our names, items under our numbers."""
    network, ours = model.model, torch.from_numpy(model.data_iterator.itemidmap.index.to_numpy(copy=True)).argsort()
    weights = {"output_table": network.Wy.weight[ours], "item_bias": network.By.weight[ours, 0]}
    if hasattr(network, "E"):
        weights["input_table"] = network.E.weight[ours]
    first = 0
    if hasattr(network, "GE"):  # gates n, r, z; their update gate is one minus ours
        n, r, z = network.GE.Wx0.weight[ours].chunk(3, dim=1)
        n_bias, r_bias, z_bias = network.GE.Bh0.chunk(3)
        recurrent_r, recurrent_z = network.GE.Wrz0.chunk(2, dim=1)
        weights["input_table"] = torch.cat([r, -z, n], dim=1)
        weights["gru.0.input_bias"] = torch.cat([r_bias, -z_bias, n_bias])
        weights["gru.0.recurrent"] = torch.cat([recurrent_r.T, -recurrent_z.T, network.GE.Wh0.T])
        first = 1
    for layer, cell in enumerate(network.G, start=first):
        weights[f"gru.{layer}.input"], weights[f"gru.{layer}.recurrent"] = cell.weight_ih, cell.weight_hh
        weights[f"gru.{layer}.input_bias"], weights[f"gru.{layer}.recurrent_bias"] = cell.bias_ih, cell.bias_hh
    return {name: weight.detach().clone() for name, weight in weights.items()}


def compare_steps(official: Official, train: Sessions, parameters: dict[str, Any], num_steps: int) -> dict[str, float]:
    """Return the largest relative difference of the losses of the first mini-batches, and of the weights after them."""
    losses: list[float] = []
    negatives: list[Tensor] = []
    weights: list[dict[str, Tensor]] = []

    def watch(model: Any, items: Tensor, loss: Tensor) -> None:
        if len(losses) in {0, num_steps}:
            weights.append(our_weights(model))
        if len(losses) == num_steps:
            raise EnoughStepsError
        losses.append(float(loss))
        numbers = torch.from_numpy(model.data_iterator.itemidmap.index.to_numpy(copy=True))
        negatives.append(numbers[items[model.batch_size :].long()].long())

    with _double_precision(official):
        official.train(parameters, seed=0, epochs=1, watch=watch)
    before, after = weights

    hyperparameters = HyperParameters.from_official(parameters)
    trainer = Trainer(hyperparameters, train, seed=0)
    trainer.network = Network(train.num_items, hyperparameters, before)
    replay = iter(negatives)
    trainer._negatives.draw = lambda count: next(replay)  # type: ignore[method-assign]
    hidden = trainer.network.initial_hidden(parameters["batch_size"])
    batch_size = parameters["batch_size"]
    ours = [
        float(trainer._update(step, trainer._lanes_per_step[step : step + 1], hidden)) / batch_size
        for step in range(num_steps)
    ]
    return {
        "losses": max(abs(a - b) / abs(b) for a, b in zip(ours, losses, strict=True)),
        "weights": max(
            float((weight - after[name]).norm() / after[name].norm())
            for name, weight in trainer.network.weights.items()
        ),
    }


def compare_accuracy(
    official: Official, train: Sessions, test: Sessions, parameters: dict[str, Any], seed: int, epochs: int
) -> dict[str, dict[str, float]]:
    """Return figures of both after training with the same settings."""
    hyperparameters = HyperParameters.from_official(parameters)
    began = time.process_time()
    theirs = official.train(parameters, seed, epochs)
    their_seconds = time.process_time() - began
    began = time.process_time()
    trainer = Trainer(hyperparameters, train, seed=seed)
    for _ in range(epochs):
        trainer.train_epoch()
    our_seconds = time.process_time() - began
    networks = {
        "authors": (Network(train.num_items, hyperparameters, our_weights(theirs)), their_seconds),
        "ours": (trainer.network, our_seconds),
    }
    return {
        name: compute_metrics(compute_ranks(network, test).ranks, METRICS) | {"cpu_s": seconds}
        for name, (network, seconds) in networks.items()
    }


def summarise(figures: list[dict[str, dict[str, float]]], labels: dict[str, str]) -> dict[str, Any]:
    """Return the row of a table: means over seeds, and the difference in standard errors of the authors' mean."""
    row: dict[str, Any] = {**labels, "seeds": len(figures)}
    for metric in METRICS:
        authors, ours = ([figure[name][metric] for figure in figures] for name in ("authors", "ours"))
        row[f"authors {metric}"], row[f"ours {metric}"] = statistics.mean(authors), statistics.mean(ours)
        if len(figures) > 1:
            row[f"error {metric}"] = statistics.stdev(authors) / len(authors) ** 0.5
    row["times faster"] = statistics.median(figure["authors"]["cpu_s"] / figure["ours"]["cpu_s"] for figure in figures)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, help="checkout of the authors' GRU4Rec for PyTorch")
    parser.add_argument("--data", type=Path, nargs="+", default=[DATA / "yoochoose_24h", DATA / "serenade_toy"])
    parser.add_argument("--steps", type=int, default=200, help="mini-batches to compare")
    parser.add_argument("--seeds", type=int, default=5, help="0 leaves the accuracy out")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps: list[dict[str, Any]] = []
    accuracy: dict[tuple[str, str, str], list[dict[str, dict[str, float]]]] = {}
    for folder in options.data:
        train = read_log(folder / "train_full.parquet")
        train = train.select_sessions(train.lengths >= 2).with_own_items()
        test = align_validation(read_log(folder / "test.parquet"), train)
        official = Official(options.official, train)
        for loss, embedding, parameters in _settings():
            differences = compare_steps(official, train, {**parameters, "momentum": 0.1}, options.steps)
            steps.append({"data": folder.name, "loss": loss, "embedding": embedding, **differences})
        print_table([{**row, **{k: f"{row[k]:.1e}" for k in ("losses", "weights")}} for row in steps], list(steps[0]))
        for seed in range(options.seeds):
            for loss, embedding, parameters in _settings():
                if embedding == "none":
                    continue
                figures = compare_accuracy(official, train, test, parameters, seed, options.epochs)
                accuracy.setdefault((folder.name, loss, embedding), []).append(figures)
                note(f"{folder.name} {loss} {embedding} seed {seed}: {figures}")
                if options.json:
                    raw = [{"settings": key, "figures": value} for key, value in accuracy.items()]
                    options.json.write_text(json.dumps({"steps": steps, "accuracy": raw}, indent=2), encoding="utf-8")
    if accuracy:
        rows = [
            summarise(value, dict(zip(("data", "loss", "embedding"), key, strict=True)))
            for key, value in accuracy.items()
        ]
        print_table(rows, list(rows[0]))


def _settings() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for loss, loss_parameters in LOSSES.items():
        for embedding, embedding_parameters in EMBEDDINGS.items():
            yield loss, embedding, {**BASE, **loss_parameters, **embedding_parameters}


@contextlib.contextmanager
def _double_precision(official: Official) -> Iterator[None]:
    official.torch.dtype = torch.float64
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        official.torch.dtype = torch.float32
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Let the authors' initial weights, which always seed numpy with 42, follow our seed."""
    real = np.random.seed
    np.random.seed = lambda *_: real(seed)  # type: ignore[assignment]
    try:
        yield
    finally:
        np.random.seed = real  # type: ignore[assignment]


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        sys.exit(f"error: {path} is not there; hint: --official names a checkout of the authors' code")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
