"""One GRU layer over a window of steps, forward and backward by hand.

Two variants, as in the authors' code. Layers on embedded inputs are those of torch.nn.GRUCell, where the reset gate
acts after the recurrent product::

    r = sigmoid(x W_ir + h W_hr + b)      z = sigmoid(x W_iz + h W_hz + b)
    n = tanh(x W_in + b_in + r * (h W_hn + b_hn))
    h' = (1 - z) * n + z * h

The first layer on one-hot inputs is that of the paper (Hidasi et al., ICLR 2016, section 3), after Cho et al. (2014):
the reset gate acts before the product, n = tanh(x W_in + b_in + (r * h) W_hn), and there are no recurrent biases.

The products of the inputs, x W_i + b_i, come from outside: one-hot inputs need no product.

A window holds `rows_per_step[t]` rows at step t, never more than at step t - 1, all steps one after the other in one
matrix of N = sum(rows_per_step) rows. H is the hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gru4rec.nn.products import input_gradient, linear, weight_gradient

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input  # (gradient, y): gradient * y * (1 - y)
_tanh_backward = torch.ops.aten.tanh_backward.grad_input  # (gradient, y): gradient * (1 - y * y)


@dataclass
class GRUWeights:
    """Recurrent weights of one layer, the gates r, z, n stacked in this order."""

    recurrent: Tensor  # (3H, H)
    recurrent_bias: Tensor | None  # (3H,); None where the reset gate acts before the product


class GRUTape(NamedTuple):
    """What the backward pass needs to know of the forward pass."""

    previous: Tensor  # (N, H) hidden state before each row, zero where a session starts
    gates: Tensor  # (N, 3H) r, z, n
    recurrent_n: Tensor  # (N, H) what the reset gate multiplied: h W_hn + b_hn, or h
    continues: Tensor  # (N, 1) 0 where a session starts, else 1
    dropout: Tensor | None  # (N, H) the mask that multiplied the new states
    rows_per_step: Sequence[int]


def gru_forward(
    weights: GRUWeights,
    gates: Tensor,
    starts: Tensor,
    hidden: Tensor,
    rows_per_step: Sequence[int],
    dropout: Tensor | None = None,
) -> tuple[Tensor, GRUTape]:
    """Run a window through the layer.

    Parameters
    ----------
    gates : Tensor, shape (N, 3H)
        Products of the inputs, with their bias; overwritten.
    starts : Tensor of bool, shape (N,)
        Where a session starts; the hidden state is zero there.
    hidden : Tensor, shape (lanes, H)
        State before the window; overwritten with the state after it.
    rows_per_step : sequence of int
    dropout : Tensor, shape (N, H), optional
        Mask that multiplies the new states, which are carried on with it.

    Returns
    -------
    Tensor, shape (N, H)
        The state after each row.
    GRUTape
    """
    size, reset_after = hidden.shape[1], weights.recurrent_bias is not None
    continues = (~starts).to(gates.dtype).unsqueeze(1)
    previous, states = (gates.new_empty(len(gates), size) for _ in range(2))
    recurrent_n = torch.empty_like(previous) if reset_after else previous
    first = 0
    for rows in rows_per_step:
        step = slice(first, first + rows)
        h = torch.mul(hidden[:rows], continues[step], out=previous[step])
        rz, n = torch.split(gates[step], [2 * size, size], dim=1)
        if reset_after:
            products = linear(h, weights.recurrent, weights.recurrent_bias)  # (rows, 3H)
            rz.add_(products[:, : 2 * size]).sigmoid_()
            n.addcmul_(rz[:, :size], products[:, 2 * size :]).tanh_()
            recurrent_n[step] = products[:, 2 * size :]
        else:
            rz.addmm_(h, weights.recurrent[: 2 * size].T).sigmoid_()
            n.addmm_(rz[:, :size] * h, weights.recurrent[2 * size :].T).tanh_()
        new = torch.lerp(n, h, rz[:, size:], out=states[step])  # n + z * (h - n)
        if dropout is not None:
            new.mul_(dropout[step])
        hidden[:rows] = new
        first += rows
    return states, GRUTape(previous, gates, recurrent_n, continues, dropout, rows_per_step)


def gru_backward(weights: GRUWeights, tape: GRUTape, d_states: Tensor) -> tuple[Tensor, GRUWeights]:
    """Return the gradient of the products of the inputs, shape (N, 3H), and of the recurrent weights.

    Parameters
    ----------
    d_states : Tensor, shape (N, H)
        Gradient of the states that `gru_forward` returned; overwritten.
    """
    size, reset_after = d_states.shape[1], weights.recurrent_bias is not None
    weight_rz, weight_n = torch.split(weights.recurrent, [2 * size, size])
    r = tape.gates[:, :size]
    d_gates = torch.empty_like(tape.gates)  # (N, 3H) of the pre-activations
    d_recurrent = torch.empty_like(tape.gates) if reset_after else d_gates  # (N, 3H) of the recurrent products
    last = len(d_states)
    carried: Tensor | None = None  # gradient of the state before the step that comes next
    for rows in reversed(tape.rows_per_step):
        step = slice(last - rows, last)
        d, h = d_states[step], tape.previous[step]
        if carried is not None:
            d[: len(carried)] += carried
        if tape.dropout is not None:
            d.mul_(tape.dropout[step])
        r_step, z, n = torch.split(tape.gates[step], size, dim=1)
        d_r, d_z, d_n = torch.split(d_gates[step], size, dim=1)
        _tanh_backward(torch.addcmul(d, d, z, value=-1), n, grad_input=d_n)  # of d (1 - z)
        _sigmoid_backward((h - n).mul_(d), z, grad_input=d_z)
        last -= rows
        if reset_after:
            _sigmoid_backward(d_n * tape.recurrent_n[step], r_step, grad_input=d_r)
            d_recurrent[step, : 2 * size] = d_gates[step, : 2 * size]
            torch.mul(d_n, r_step, out=d_recurrent[step, 2 * size :])
            if last:
                carried = input_gradient(d_recurrent[step], weights.recurrent).addcmul_(d, z)
                carried.mul_(tape.continues[step])
        else:
            d_reset = d_n @ weight_n  # (rows, H) of r * h
            _sigmoid_backward(d_reset * h, r_step, grad_input=d_r)
            if last:
                carried = (d * z).addcmul_(d_reset, r_step).addmm_(d_gates[step, : 2 * size], weight_rz)
                carried.mul_(tape.continues[step])
    if reset_after:
        return d_gates, GRUWeights(weight_gradient(d_recurrent, tape.previous), d_recurrent.sum(0))
    d_weight = torch.empty_like(weights.recurrent)
    torch.mm(d_gates[:, : 2 * size].T, tape.previous, out=d_weight[: 2 * size])
    torch.mm(d_gates[:, 2 * size :].T, r * tape.previous, out=d_weight[2 * size :])
    return d_gates, GRUWeights(d_weight, None)
