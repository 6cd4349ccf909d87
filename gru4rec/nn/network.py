"""The network: item embedding -> dropout -> GRU layers -> scores by the output table and item bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gru4rec.hyperparameters import HyperParameters
from gru4rec.nn.gru import GRUTape, GRUWeights, gru_backward, gru_forward
from gru4rec.nn.products import input_gradient, linear, weight_gradient


@dataclass
class WindowTape:
    """What the backward pass needs to know of the forward pass of a window."""

    inputs: list[Tensor | None]  # (N, I) input of each layer; None where it is one-hot
    embedding_dropout: Tensor | None  # (N, D)
    layers: list[GRUTape]


class Network:
    """Weights and passes of GRU4Rec. H is the hidden size, D the number of columns of the input table.

    Parameters
    ----------
    num_items : int
    hyperparameters : HyperParameters
    weights : dict of str to Tensor
        As `weights` of another network, or from `initial_weights`.
    """

    def __init__(self, num_items: int, hyperparameters: HyperParameters, weights: dict[str, Tensor]) -> None:
        self.num_items = num_items
        self.hyperparameters = hyperparameters
        self.weights = weights
        self.output_table = weights["output_table"]  # (num_items, H)
        self.item_bias = weights["item_bias"]  # (num_items,)
        self.input_table = weights.get("input_table", self.output_table)  # (num_items, D)
        self.layers = [
            GRUWeights(weights[f"gru.{layer}.recurrent"], weights.get(f"gru.{layer}.recurrent_bias"))
            for layer in range(hyperparameters.num_layers)
        ]

    @property
    def tied(self) -> bool:
        """Whether one table is both the input and the output table."""
        return self.input_table is self.output_table

    @property
    def device(self) -> torch.device:
        return self.output_table.device

    def initial_hidden(self, lanes: int) -> list[Tensor]:
        """Return the zero state of each layer, shape (lanes, H)."""
        size = self.hyperparameters.hidden_size
        return [self.output_table.new_zeros(lanes, size) for _ in self.layers]

    def forward(
        self,
        items: Tensor,
        starts: Tensor,
        hidden: list[Tensor],
        rows_per_step: Sequence[int],
        dropout: torch.Generator | None = None,
    ) -> tuple[Tensor, WindowTape]:
        """Run a window of N rows; see `gru4rec.nn.gru` for its layout.

        Parameters
        ----------
        items : Tensor of int, shape (N,)
        starts : Tensor of bool, shape (N,)
        hidden : list of Tensor, shape (lanes, H)
            State of each layer; overwritten with the state after the window.
        rows_per_step : sequence of int
        dropout : torch.Generator, optional
            Source of the dropout masks; None switches dropout off.

        Returns
        -------
        Tensor, shape (N, H)
            State of the last layer after each row.
        WindowTape
        """
        hyperparameters = self.hyperparameters
        states = self.input_table.index_select(0, items)  # (N, D)
        one_hot = hyperparameters.embedding == "none"
        embedding_dropout = None
        if not one_hot:
            embedding_dropout = _dropout_mask(states.shape, hyperparameters.embedding_dropout, dropout, states)
            if embedding_dropout is not None:
                states *= embedding_dropout
        inputs: list[Tensor | None] = []
        tapes = []
        for layer, (weights, state) in enumerate(zip(self.layers, hidden, strict=True)):
            bias = self.weights[f"gru.{layer}.input_bias"]
            if one_hot and layer == 0:  # the state of this layer stands for the embedding, as in the authors' code
                inputs.append(None)
                gates, rate = states.add_(bias), hyperparameters.embedding_dropout
            else:
                inputs.append(states)
                gates = linear(states, self.weights[f"gru.{layer}.input"], bias)  # (N, 3H)
                rate = hyperparameters.hidden_dropout
            mask = _dropout_mask((len(items), state.shape[1]), rate, dropout, states)
            states, tape = gru_forward(weights, gates, starts, state, rows_per_step, mask)
            tapes.append(tape)
        return states, WindowTape(inputs, embedding_dropout, tapes)

    def backward(self, tape: WindowTape, d_states: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the gradient of the gathered rows of the input table, shape (N, D), and of the GRU weights by name.

        Parameters
        ----------
        d_states : Tensor, shape (N, H)
            Gradient of what `forward` returned; overwritten.
        """
        gradients: dict[str, Tensor] = {}
        for layer in reversed(range(len(self.layers))):
            d_gates, recurrent = gru_backward(self.layers[layer], tape.layers[layer], d_states)
            gradients[f"gru.{layer}.input_bias"] = d_gates.sum(0)
            gradients[f"gru.{layer}.recurrent"] = recurrent.recurrent
            if recurrent.recurrent_bias is not None:
                gradients[f"gru.{layer}.recurrent_bias"] = recurrent.recurrent_bias
            inputs = tape.inputs[layer]
            if inputs is None:
                return d_gates, gradients
            gradients[f"gru.{layer}.input"] = weight_gradient(d_gates, inputs)
            d_states = input_gradient(d_gates, self.weights[f"gru.{layer}.input"])
        if tape.embedding_dropout is not None:
            d_states *= tape.embedding_dropout
        return d_states, gradients

    def scores(self, states: Tensor) -> Tensor:
        """Return the score of every item, shape (N, num_items), for states of shape (N, H)."""
        return linear(states, self.output_table, self.item_bias)


def weight_shapes(num_items: int, hyperparameters: HyperParameters) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight.

    The three gates r, z, n are stacked in the first axis of a GRU weight, and in the columns of the input table where
    that is the first layer's input weight (embedding 'none').
    """
    size, one_hot = hyperparameters.hidden_size, hyperparameters.embedding == "none"
    shapes: dict[str, tuple[int, ...]] = {}
    if hyperparameters.embedding != "tied":
        shapes["input_table"] = (num_items, hyperparameters.embedding_size)
    for layer in range(hyperparameters.num_layers):
        if layer > 0 or not one_hot:
            shapes[f"gru.{layer}.input"] = (3 * size, size if layer else hyperparameters.embedding_size)
        shapes[f"gru.{layer}.recurrent"] = (3 * size, size)
        shapes[f"gru.{layer}.input_bias"] = (3 * size,)
        if layer > 0 or not one_hot:
            shapes[f"gru.{layer}.recurrent_bias"] = (3 * size,)
    shapes["output_table"] = (num_items, size)
    shapes["item_bias"] = (num_items,)
    return shapes


def initial_weights(num_items: int, hyperparameters: HyperParameters, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw weights as published: uniform in +-sqrt(6 / (rows + columns)) for tables and each gate, zero biases."""
    weights = {}
    for name, shape in weight_shapes(num_items, hyperparameters).items():
        weights[name] = torch.zeros(shape, device=generator.device)
        if len(shape) == 2:
            rows, columns = shape
            if name.startswith("gru."):
                rows = hyperparameters.hidden_size
            elif name == "input_table" and hyperparameters.embedding == "none":
                columns = hyperparameters.hidden_size
            bound = math.sqrt(6.0 / (rows + columns))
            weights[name].uniform_(-bound, bound, generator=generator)
    return weights


def _dropout_mask(shape: Sequence[int], rate: float, generator: torch.Generator | None, like: Tensor) -> Tensor | None:
    if generator is None or rate == 0.0:
        return None
    keep = 1.0 - rate
    uniform = torch.rand(*shape, dtype=like.dtype, device=like.device, generator=generator)
    # 1 / keep where the number is not below the rate, else 0; bernoulli_ takes three times as long.
    return uniform.add_(keep).floor_().div_(keep)
