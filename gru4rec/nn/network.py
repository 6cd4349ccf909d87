"""The network: item embedding -> dropout -> GRU layers -> scores by the output table and item bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gru4rec.hyperparameters import HyperParameters
from gru4rec.nn.gru import GRUTape, GRUWeights, gru_backward, gru_forward


@dataclass
class WindowTape:
    """What the backward pass needs to know of the forward pass of a window."""

    embedding_dropout: Tensor | None  # (N, D)
    layers: list[GRUTape]


class Network:
    """Weights and passes of GRU4Rec. D is the embedding size, H the hidden size.

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
            GRUWeights(
                *(weights[f"gru.{layer}.{part}"] for part in ("input", "recurrent", "input_bias", "recurrent_bias"))
            )
            for layer in range(hyperparameters.num_layers)
        ]

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
        states = self.input_table.index_select(0, items)  # (N, D)
        embedding_dropout = _dropout_mask(states.shape, self.hyperparameters.embedding_dropout, dropout, states)
        if embedding_dropout is not None:
            states *= embedding_dropout
        tapes = []
        for layer, state in zip(self.layers, hidden, strict=True):
            shape = (len(items), state.shape[1])
            mask = _dropout_mask(shape, self.hyperparameters.hidden_dropout, dropout, states)
            states, tape = gru_forward(layer, states, starts, state, rows_per_step, mask)
            tapes.append(tape)
        return states, WindowTape(embedding_dropout, tapes)

    def backward(self, tape: WindowTape, d_states: Tensor) -> tuple[Tensor, list[GRUWeights]]:
        """Return the gradient of the embedded inputs, shape (N, D), and of each layer's weights.

        Parameters
        ----------
        d_states : Tensor, shape (N, H)
            Gradient of what `forward` returned; overwritten.
        """
        gradients = []
        for layer, layer_tape in zip(reversed(self.layers), reversed(tape.layers), strict=True):
            d_states, gradient = gru_backward(layer, layer_tape, d_states)
            gradients.append(gradient)
        if tape.embedding_dropout is not None:
            d_states *= tape.embedding_dropout
        return d_states, gradients[::-1]

    def scores(self, states: Tensor) -> Tensor:
        """Return the score of every item, shape (N, num_items), for states of shape (N, H)."""
        return torch.addmm(self.item_bias, states, self.output_table.T)


def weight_shapes(num_items: int, hyperparameters: HyperParameters) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight. The three gates of a GRU weight are stacked in its first axis."""
    size, width = hyperparameters.hidden_size, hyperparameters.embedding_size
    shapes: dict[str, tuple[int, ...]] = {}
    if hyperparameters.embedding == "separate":
        shapes["input_table"] = (num_items, width)
    for layer in range(hyperparameters.num_layers):
        shapes[f"gru.{layer}.input"] = (3 * size, width if layer == 0 else size)
        shapes[f"gru.{layer}.recurrent"] = (3 * size, size)
        shapes[f"gru.{layer}.input_bias"] = shapes[f"gru.{layer}.recurrent_bias"] = (3 * size,)
    shapes["output_table"] = (num_items, size)
    shapes["item_bias"] = (num_items,)
    return shapes


def initial_weights(num_items: int, hyperparameters: HyperParameters, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw weights as published: uniform in +-sqrt(6 / (rows + columns)) for tables and each gate, zero biases."""
    weights = {}
    for name, shape in weight_shapes(num_items, hyperparameters).items():
        weights[name] = torch.zeros(shape, device=generator.device)
        if len(shape) == 2:
            rows = hyperparameters.hidden_size if name.startswith("gru.") else shape[0]
            bound = math.sqrt(6.0 / (rows + shape[1]))
            weights[name].uniform_(-bound, bound, generator=generator)
    return weights


def _dropout_mask(shape: Sequence[int], rate: float, generator: torch.Generator | None, like: Tensor) -> Tensor | None:
    if generator is None or rate == 0.0:
        return None
    keep = 1.0 - rate
    return torch.empty(*shape, dtype=like.dtype, device=like.device).bernoulli_(keep, generator=generator).div_(keep)
