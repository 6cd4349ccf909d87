"""The one trainer: `fit` and every trial of a search drive these verbs, an epoch at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gru4rec.data.batching import lay_sessions
from gru4rec.data.negatives import NegativeSampler
from gru4rec.data.sessions import Sessions
from gru4rec.device import denormals_as_zero
from gru4rec.errors import DataError, DivergedError, ParameterError
from gru4rec.evaluation import compute_ranks
from gru4rec.hyperparameters import HyperParameters, Integer
from gru4rec.metrics import compute_metrics
from gru4rec.nn.distinct import Distinct, DistinctRows
from gru4rec.nn.network import Network, initial_weights
from gru4rec.nn.optimizers import make_optimizer
from gru4rec.nn.scoring import ScoreGradients, make_scorer

STEPS_BETWEEN_LOSS_CHECKS = 256


@dataclass(frozen=True)
class EpochResult:
    """One pass over the training log.

    Parameters
    ----------
    epoch : int
        From 1.
    loss : float
        Mean over the targets.
    num_targets : int
    seconds : float
        Wall-clock time.
    """

    epoch: int
    loss: float
    num_targets: int
    seconds: float


class Trainer:
    """Trains one model.

    Parameters
    ----------
    hyperparameters : HyperParameters
    train : Sessions
        In order of their start, over a vocabulary of just their own items (`Sessions.with_own_items`).
    seed : int
        Same seed, data, machine and number of threads: same bits.
    device : str or torch.device

    Raises
    ------
    ParameterError
        When the seed is no whole number, or negative.
    DataError
        When no session has two events, or the vocabulary holds items that never occur.
    """

    def __init__(
        self, hyperparameters: HyperParameters, train: Sessions, *, seed: int, device: str | torch.device = "cpu"
    ) -> None:
        if expected := Integer(0).problem(seed):
            raise ParameterError(f"seed must be {expected}, got {seed!r}")
        counts = train.item_counts()
        if train.num_targets == 0:
            raise DataError(
                f"no session of the training log has two events or more ({train.num_sessions:,} sessions)",
                "is --session-key the column of the visit, not of the event?",
            )
        if not counts.all():
            raise DataError("the training log's vocabulary holds items that never occur in it; use with_own_items()")
        self.hyperparameters = hyperparameters
        self.device = torch.device(device)
        self.epoch = 0
        self._generators = {
            name: torch.Generator(self.device).manual_seed(int(seeds.generate_state(1, np.uint64)[0]) >> 1)
            for name, seeds in zip(
                ("weights", "dropout", "negatives"), np.random.SeedSequence(seed).spawn(3), strict=True
            )
        }
        self.network = Network(
            train.num_items,
            hyperparameters,
            initial_weights(train.num_items, hyperparameters, self._generators["weights"]),
        )
        self._optimizer = make_optimizer(hyperparameters)
        popularity = torch.from_numpy(counts).to(self.device)
        self._negatives = NegativeSampler(popularity, hyperparameters.sample_alpha, self._generators["negatives"])
        self._distinct = DistinctRows(train.num_items, self.device)
        self._score = make_scorer(hyperparameters, popularity, self._negatives, self._distinct)
        grid = lay_sessions(train, hyperparameters.batch_size)
        self._inputs = torch.from_numpy(grid.inputs).to(self.device)
        self._targets = torch.from_numpy(grid.targets).to(self.device)
        self._starts = torch.from_numpy(grid.starts).to(self.device)
        self._lanes_per_step = grid.lanes_per_step.tolist()

    @torch.inference_mode()
    @denormals_as_zero()
    def train_epoch(self, max_mini_batches: int | None = None) -> EpochResult:
        """Pass once over the training log, or over its first `max_mini_batches` mini-batches: to see what it costs.

        Raises
        ------
        DivergedError
            When the loss of a mini-batch is not finite.
        """
        began = time.perf_counter()
        self.epoch += 1
        self._negatives.start_epoch()
        hidden = self.network.initial_hidden(self._inputs.shape[1])
        losses: list[Tensor] = []
        total, num_targets, mini_batches, bptt = 0.0, 0, 0, self.hyperparameters.bptt
        for first in range(0, len(self._lanes_per_step), bptt):
            rows_per_step = self._lanes_per_step[first : first + bptt]
            if self.hyperparameters.num_negatives == 0 and sum(rows_per_step) < 2:
                break  # the last lane alone has no negatives left
            if mini_batches == max_mini_batches:
                break
            losses.append(self._update(first, rows_per_step, hidden))
            num_targets += sum(rows_per_step)
            mini_batches += 1
            if len(losses) == STEPS_BETWEEN_LOSS_CHECKS:
                total += self._checked_sum(losses, mini_batches)
        if losses:
            total += self._checked_sum(losses, mini_batches)
        return EpochResult(self.epoch, total / max(num_targets, 1), num_targets, time.perf_counter() - began)

    def validate(self, validation: Sessions, metrics: Iterable[str] = ("recall@20", "mrr@20")) -> dict[str, float]:
        """Rank the true next item of every step among all items.

        Parameters
        ----------
        validation : Sessions
            Over the vocabulary of the training log (`Sessions.with_items_of`).
        metrics : iterable of str
            Keys such as 'recall@20'.

        Raises
        ------
        DataError
            When no session has two events.
        DivergedError
            When scores are not finite.
        """
        return compute_metrics(compute_ranks(self.network, validation).ranks, metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all that the next epoch depends on: go on from it with `load_state_dict`."""
        return {
            "epoch": self.epoch,
            "weights": {name: weight.clone() for name, weight in self.network.weights.items()},
            "optimizer": {name: state.clone() for name, state in self._optimizer.state.items()},
            "generators": {name: generator.get_state() for name, generator in self._generators.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state: the epochs that follow are those of an uninterrupted training, bit for bit."""
        self.epoch = state["epoch"]
        for name, weight in self.network.weights.items():
            weight.copy_(state["weights"][name])
        self._optimizer.state = {name: tensor.to(self.device).clone() for name, tensor in state["optimizer"].items()}
        for name, generator in self._generators.items():
            generator.set_state(state["generators"][name].cpu())

    def _update(self, first: int, rows_per_step: list[int], hidden: list[Tensor]) -> Tensor:
        """Forward, backward and step on one window of N rows; return its summed loss.

        H hidden size, D columns of the input table.
        """
        network, optimizer = self.network, self._optimizer
        items = _prefixes(self._inputs, first, rows_per_step).long()  # (N,)
        targets = _prefixes(self._targets, first, rows_per_step).long()  # (N,)
        starts = _prefixes(self._starts, first, rows_per_step)  # (N,)

        states, tape = network.forward(items, starts, hidden, rows_per_step, self._generators["dropout"])  # (N, H)
        scored = self._score(network, states, targets, items if network.tied else items[:0])
        d_embedded, d_layers = network.backward(tape, scored.d_states)  # (N, D)

        gradients = self._table_gradients(items, d_embedded, scored)
        gradients += [Gradient(name, None, value) for name, value in d_layers.items()]
        if self.hyperparameters.clipnorm is not None:
            clip_norm([gradient.value for gradient in gradients], self.hyperparameters.clipnorm)
        for name, touched, value in gradients:
            if touched is None:
                optimizer.update(name, network.weights[name], value)
            else:
                rows, _, is_first = touched
                optimizer.update_rows(name, network.weights[name], rows, value, is_first)
        return scored.loss

    def _table_gradients(self, items: Tensor, d_embedded: Tensor, scored: ScoreGradients) -> list[Gradient]:
        """Return the gradients of item tables and item bias, one entry per touched row."""
        touched = scored.touched
        gradients = [
            Gradient("output_table", touched, scored.d_table),
            Gradient("item_bias", None if touched is None else touched.first(len(scored.d_bias)), scored.d_bias),
        ]
        if self.network.tied:
            scored.d_table.index_add_(0, scored.input_places, d_embedded)
            return gradients
        inputs = self._distinct.find(items)
        return [Gradient("input_table", inputs, inputs.sum(d_embedded)), *gradients]

    def _checked_sum(self, losses: list[Tensor], mini_batches: int) -> float:
        """Return the sum of the losses of the last mini-batches and empty the list.

        Looking at them rarely keeps a device busy. `mini_batches` counts those of the epoch so far.
        """
        values = torch.stack(losses).double().cpu()
        losses.clear()
        if not bool(values.isfinite().all()):
            bad = int(values.isfinite().logical_not().nonzero()[0])
            mini_batch = mini_batches - len(values) + bad + 1
            raise DivergedError(
                f"loss became {values[bad].item()} in epoch {self.epoch}, mini-batch {mini_batch} "
                f"(learning_rate={self.hyperparameters.learning_rate:g}, momentum={self.hyperparameters.momentum:g})",
                "lower learning_rate or momentum",
            )
        return float(values.sum())


class Gradient(NamedTuple):
    """The gradient of one weight, of the rows that were touched only where given."""

    name: str
    touched: Distinct | None
    value: Tensor


def clip_norm(gradients: list[Tensor], bound: float) -> None:
    """Scale gradients in place so that their common l2 norm is at most `bound`."""
    norm = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]).norm()
    factor = (bound / (norm + 1e-12)).clamp_max(1.0)
    for gradient in gradients:
        gradient.mul_(factor)


def _prefixes(grid: Tensor, first: int, rows_per_step: list[int]) -> Tensor:
    """Return the first rows_per_step[t] columns of row first + t of the grid, one after the other."""
    if len(rows_per_step) == 1:
        return grid[first, : rows_per_step[0]]
    return torch.cat([grid[first + step, :rows] for step, rows in enumerate(rows_per_step)])
