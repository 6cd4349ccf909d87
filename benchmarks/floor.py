"""The floor: what a mini-batch of the published algorithm cannot do without, with the fastest torch calls for it.

    python benchmarks/floor.py [--hidden 100] [--batch 64] [--negatives 2048] [--items 5000]

Gather the rows of N targets and K negatives, all different; three products with that matrix (scores, gradient of the
states, gradient of the rows); one softmax over the scores; five products of the GRU (inputs, recurrence, and the
gradients of the inputs and of both weights); Adagrad on the touched rows and on the GRU's weights. Left out, and so to
be made up for: gates, losses and their gradients, drawing negatives, finding repeated items, biases, batches, Python.

There are two floors: with torch's own products, and with those of `gru4rec.nn.products`, which are faster on some
processors. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gru4rec.cli.output import print_table
from gru4rec.device import denormals_as_zero
from gru4rec.nn import products


class Products(NamedTuple):
    """The three products of a layer: x @ weight.T, d_output @ weight, d_output.T @ x."""

    linear: Callable[[Tensor, Tensor], Tensor]
    input_gradient: Callable[[Tensor, Tensor], Tensor]
    weight_gradient: Callable[[Tensor, Tensor], Tensor]


PRODUCTS = {
    "torch": Products(lambda x, weight: x @ weight.T, torch.mm, lambda d_output, x: d_output.T @ x),
    "ours": Products(products.linear, products.input_gradient, products.weight_gradient),
}


def make_floor(hidden: int, batch: int, negatives: int, items: int, by: Products) -> Callable[[], None]:
    """Return the function that does the work of one mini-batch."""
    table, squares = torch.randn(items, hidden), torch.ones(items, hidden)
    gru_weights, gru_squares = torch.randn(2, 3 * hidden, hidden), torch.ones(2, 3 * hidden, hidden)
    states, gates = torch.randn(batch, hidden), torch.randn(batch, 3 * hidden)
    draws = [torch.randperm(items)[: batch + negatives] for _ in range(16)]
    number = 0

    def mini_batch() -> None:
        nonlocal number
        rows = draws[number % len(draws)]
        number += 1
        gathered = table.index_select(0, rows)
        gradient = torch.softmax(by.linear(states, gathered), dim=1)
        by.input_gradient(gradient, gathered)
        d_rows = by.weight_gradient(gradient, states)
        by.input_gradient(gates, gru_weights[0])
        for weight, square in zip(gru_weights, gru_squares, strict=True):
            by.linear(states, weight)
            d_weight = by.weight_gradient(gates, states)
            weight.addcmul_(d_weight, square.addcmul_(d_weight, d_weight).pow(-0.5), value=-1e-9)
        scale = squares.index_add_(0, rows, d_rows * d_rows).index_select(0, rows).pow_(-0.5)
        table.index_add_(0, rows, d_rows.mul_(scale).mul_(-1e-9))

    return mini_batch


def seconds_of(work: Callable[[], None], least_seconds: float = 0.1) -> float:
    """Return the CPU seconds of one call, of as many as take `least_seconds`."""
    calls = 0
    began = time.process_time()
    with torch.inference_mode(), denormals_as_zero():
        while time.process_time() - began < least_seconds:
            work()
            calls += 1
    return (time.process_time() - began) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("hidden", 100), ("batch", 64), ("negatives", 2048), ("items", 5000), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = (options.hidden, options.batch, options.negatives, options.items)
    floors = {name: make_floor(*size, by) for name, by in PRODUCTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in floors}
    for _ in range(options.rounds):
        for name, floor in floors.items():
            seconds[name].append(seconds_of(floor))
    rows = [
        {"products": name, "ms/mini-batch": 1000 * median, "targets/CPU-s": round(options.batch / median)}
        for name, median in ((name, statistics.median(values)) for name, values in seconds.items())
    ]
    print_table(rows, list(rows[0]))


if __name__ == "__main__":
    main()
