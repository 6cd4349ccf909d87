"""GRU4Rec written to be read: numpy in double precision, lists of lanes, no derivative by hand, nothing of gru4rec.

Gradients are central differences of the loss of a mini-batch. Sources: Hidasi et al. (ICLR 2016) for the network,
session-parallel mini-batches, BPR and TOP1; Hidasi & Karatzoglou (CIKM 2018) for negatives of one draw, BPR-max and
TOP1-max; Khrylchenko et al. (RecSys 2025) for the refined logQ correction; Duchi et al. (JMLR 2011) for Adagrad.

Shapes: K copies of the weights that differ in one number each, R rows of the mini-batch, H hidden size, C candidates.
Only one step of backpropagation through time: the state that comes into a mini-batch is a constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = dict[str, Array]
STEP = 1e-5  # of the differences: errors of about STEP ** 2 by their formula and 1e-16 / STEP by rounding


@dataclass(eq=False)
class Lane:
    """One of the parallel sessions: where it is, and the state of each layer after what it has seen."""

    session: list[int]
    hidden: list[Array]
    place: int = 0


@dataclass
class MiniBatch:
    """One event and its next of each lane, and the negatives drawn for all of them."""

    inputs: list[int]
    targets: list[int]
    hidden: list[Array]  # (R, H) of each layer, before the inputs
    negatives: list[int]


class GRU4Rec:
    """Trains on sessions, which are lists of items in the order of their start.

    `settings` has the attributes of HyperParameters; `draw` returns the next mini-batch's negatives.
    """

    def __init__(
        self, settings: Any, sessions: list[list[int]], weights: Weights, draw: Callable[[], list[int]]
    ) -> None:
        self.settings = settings
        self.sessions = sessions
        self.weights = {name: weight.copy() for name, weight in weights.items()}
        self.squares = {name: np.zeros_like(weight) for name, weight in weights.items()}
        self.velocity = {name: np.zeros_like(weight) for name, weight in weights.items()}
        self.draw = draw
        self.popularity = Counter(item for session in sessions for item in session)

    # --- session-parallel mini-batches -------------------------------------------------------------------------------

    def epoch(self) -> Iterator[float]:
        """Train a mini-batch at a time and yield its loss, summed over its rows."""
        waiting = [session for session in self.sessions if len(session) >= 2]
        lanes = [Lane(session, self.first_hidden()) for session in waiting[: self.settings.batch_size]]
        waiting = waiting[self.settings.batch_size :]
        while lanes:
            yield self.train(lanes)
            for lane in list(lanes):
                lane.place += 1
                if lane.place < len(lane.session) - 1:
                    continue
                if waiting:
                    lane.session, lane.place, lane.hidden = waiting.pop(0), 0, self.hidden_of_new_session(lane)
                else:
                    lanes.remove(lane)

    def first_hidden(self) -> list[Array]:
        return [np.zeros(self.settings.hidden_size) for _ in range(self.settings.num_layers)]

    def hidden_of_new_session(self, lane: Lane) -> list[Array]:
        """Return the state that the session starts from that takes over the lane."""
        return self.first_hidden()

    def train(self, lanes: list[Lane]) -> float:
        batch = MiniBatch(
            inputs=[lane.session[lane.place] for lane in lanes],
            targets=[lane.session[lane.place + 1] for lane in lanes],
            hidden=[np.array([lane.hidden[layer] for lane in lanes]) for layer in range(self.settings.num_layers)],
            negatives=self.draw(),
        )
        one_copy = {name: weight[np.newaxis] for name, weight in self.weights.items()}
        states = self.states(one_copy, batch)
        loss = float(self.loss(one_copy, batch)[0])
        gradients = {name: self.gradient(name, batch) for name in self.weights}
        for name, gradient in gradients.items():
            self.update(name, self.touched(name, batch), gradient)
        for row, lane in enumerate(lanes):
            lane.hidden = [state[0, row] for state in states]
        return loss

    # --- network -----------------------------------------------------------------------------------------------------

    def states(self, weights: Weights, batch: MiniBatch) -> list[Array]:
        """Return the new state of each layer, (K, R, H)."""
        table = weights["output_table" if self.settings.embedding == "tied" else "input_table"]
        below = table[:, batch.inputs]  # (K, R, columns of the table)
        states = []
        for layer, hidden in enumerate(batch.hidden):
            one_hot = self.settings.embedding == "none" and layer == 0
            # The product of a one-hot vector with a matrix is a row of the matrix.
            product = below if one_hot else below @ transposed(weights[f"gru.{layer}.input"])
            x_r, x_z, x_n = gates(product + weights[f"gru.{layer}.input_bias"][:, np.newaxis])
            w_r, w_z, w_n = (transposed(w) for w in np.split(weights[f"gru.{layer}.recurrent"], 3, axis=1))
            if one_hot:
                r, z = sigmoid(x_r + hidden @ w_r), sigmoid(x_z + hidden @ w_z)
                n = np.tanh(x_n + (r * hidden) @ w_n)
            else:
                b_r, b_z, b_n = gates(weights[f"gru.{layer}.recurrent_bias"][:, np.newaxis])
                r, z = sigmoid(x_r + hidden @ w_r + b_r), sigmoid(x_z + hidden @ w_z + b_z)
                n = np.tanh(x_n + r * (hidden @ w_n + b_n))
            below = (1 - z) * n + z * hidden
            states.append(below)
        return states

    def loss(self, weights: Weights, batch: MiniBatch) -> Array:
        """Return the loss summed over the rows, (K,)."""
        candidates = batch.targets + batch.negatives
        table, bias = weights["output_table"][:, candidates], weights["item_bias"][:, candidates]
        scores = self.states(weights, batch)[-1] @ transposed(table) + bias[:, np.newaxis]  # (K, R, C)
        corrections = [self.correction(batch, column) for column in range(len(candidates))]
        losses = []
        for row, target in enumerate(batch.targets):
            others = [
                column
                for column, item in enumerate(candidates)
                if column != row and not (self.settings.mask_targets and item == target)
            ]
            own, negatives = scores[:, row, row, np.newaxis], scores[:, row, others]  # (K, 1), (K, number of negatives)
            if self.settings.loss_fn == "cross-entropy":
                if self.settings.logq_correction == "published":
                    own = own - corrections[row]
                negatives = negatives - np.array([corrections[column] for column in others])
            losses.append(self.row_loss(own, negatives))
        return sum(losses)

    def correction(self, batch: MiniBatch, column: int) -> float:
        """Return what the logQ correction takes off the score of a candidate."""
        alpha, rows = self.settings.sample_alpha, len(batch.targets)
        item = (batch.targets + batch.negatives)[column]
        if self.settings.logq_correction == "published":
            frequency = self.popularity[item] if column < rows else self.popularity[item] ** alpha
        else:  # how often the item is expected among the other targets and the draws
            as_target = self.popularity[item] / sum(self.popularity.values())
            as_draw = self.popularity[item] ** alpha / sum(count**alpha for count in self.popularity.values())
            frequency = (rows - 1) * as_target + len(batch.negatives) * as_draw
        return self.settings.logq * float(np.log(frequency))

    def row_loss(self, own: Array, negatives: Array) -> Array:
        """Return the loss of one row, (K,), from the scores of its target and of its negatives."""
        name = self.settings.loss_fn
        if name == "cross-entropy":
            return -np.log(softmax(np.concatenate([own, negatives], axis=1))[:, 0])
        if name == "top1":
            return np.mean(sigmoid(negatives - own) + sigmoid(negatives**2), axis=1)
        if name == "bpr":
            return -np.mean(np.log(sigmoid(own - negatives)), axis=1)
        if name == "top1-max":
            return np.sum(softmax(negatives) * (sigmoid(negatives - own) + sigmoid(negatives**2)), axis=1)
        if name == "bpr-max":
            own, negatives = elu(own, self.settings.elu_param), elu(negatives, self.settings.elu_param)
            won = np.sum(softmax(negatives) * sigmoid(own - negatives), axis=1)
            penalty = np.sum(softmax(negatives) * negatives**2, axis=1)
            return -np.log(won) + self.settings.bpreg * penalty
        raise ValueError(name)

    # --- gradients and updates ---------------------------------------------------------------------------------------

    def divisor(self, batch: MiniBatch) -> float:
        """Return what the loss is divided by: the full batch size, also when fewer lanes are left."""
        return self.settings.batch_size

    def gradient(self, name: str, batch: MiniBatch) -> Array:
        """Differentiate by every number of a weight: two copies of the weight for each, a bit above and a bit below."""
        weight = self.weights[name]
        count = weight.size
        shifts = STEP * np.eye(count).reshape(count, *weight.shape)
        copies = {other: value[np.newaxis] for other, value in self.weights.items()}
        copies[name] = np.concatenate([weight + shifts, weight - shifts])
        losses = np.broadcast_to(self.loss(copies, batch), 2 * count) / self.divisor(batch)
        return ((losses[:count] - losses[count:]) / (2 * STEP)).reshape(weight.shape)

    def touched(self, name: str, batch: MiniBatch) -> list[int]:
        """Return the rows of a weight that the mini-batch moves: all of a GRU weight, of tables its items."""
        items = []
        if name == "input_table" or (name == "output_table" and self.settings.embedding == "tied"):
            items += batch.inputs
        if name in {"output_table", "item_bias"}:
            items += batch.targets + batch.negatives
        return list(range(len(self.weights[name]))) if name.startswith("gru.") else sorted(set(items))

    def update(self, name: str, rows: list[int], gradient: Array) -> None:
        """Take a step: the velocity decays, takes the scaled gradient, and is added to the weight."""
        step = self.settings.learning_rate * gradient[rows]
        if self.settings.optimization_algorithm == "adagrad":
            self.squares[name][rows] += gradient[rows] ** 2
            step = step / np.sqrt(self.squares[name][rows] + self.settings.epsilon)
        self.velocity[name][rows] = self.settings.momentum * self.velocity[name][rows] - step
        self.weights[name][rows] += self.velocity[name][rows]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    return np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True)


def elu(x: Array, param: float) -> Array:
    """Return ELU; the parameter 0 stands for leaving scores alone."""
    return np.where(x > 0, x, param * (np.exp(x) - 1)) if param else x


def transposed(matrices: Array) -> Array:
    return np.swapaxes(matrices, 1, 2)


def gates(x: Array) -> list[Array]:
    """Split (K, R, 3H) into the gates r, z, n."""
    return np.split(x, 3, axis=2)
