"""The floor: what a mini-batch of the published algorithm cannot do without, with the fastest torch calls for it.

    python benchmarks/floor.py [--hidden 100] [--batch 64] [--negatives 2048] [--items 5000]

Gather the rows of N targets and K negatives, all different; three products with that matrix (scores, gradient of the
states, gradient of the rows); one softmax over the scores; five products of the GRU (inputs, recurrence, and the
gradients of the inputs and of both weights); Adagrad on the touched rows and on the GRU's weights. Left out, and so to
be made up for: gates, losses and their gradients, drawing negatives, finding repeated items, biases, batches, Python.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch


def make_floor(hidden: int, batch: int, negatives: int, items: int) -> Callable[[], None]:
    """Return the function that does the work of one mini-batch."""
    candidates = min(batch + negatives, items)
    table, squares = torch.randn(items, hidden), torch.ones(items, hidden)
    input_weight, recurrent_weight = torch.randn(3 * hidden, hidden), torch.randn(3 * hidden, hidden)
    weight_squares = torch.ones(2, 3 * hidden, hidden)
    states, gates = torch.randn(batch, hidden), torch.randn(batch, 3 * hidden)
    draws = [torch.randperm(items)[:candidates] for _ in range(16)]
    number = 0

    def mini_batch() -> None:
        nonlocal number
        rows = draws[number % len(draws)]
        number += 1
        gathered = table.index_select(0, rows)
        gradient = torch.softmax(states @ gathered.T, dim=1)
        gradient @ gathered
        d_rows = gradient.T @ states
        states @ input_weight.T
        states @ recurrent_weight.T
        gates @ input_weight
        for weight, weight_square in zip((input_weight, recurrent_weight), weight_squares, strict=True):
            d_weight = gates.T @ states
            weight.addcmul_(d_weight, weight_square.addcmul_(d_weight, d_weight).pow(-0.5), value=-1e-9)
        scale = squares.index_add_(0, rows, d_rows * d_rows).index_select(0, rows).pow_(-0.5)
        table.index_add_(0, rows, d_rows.mul_(scale).mul_(-1e-9))

    return mini_batch


def seconds_of(work: Callable[[], None], times: int) -> float:
    """Return the CPU seconds of one call, over `times` calls."""
    began = time.process_time()
    with torch.inference_mode():
        for _ in range(times):
            work()
    return (time.process_time() - began) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("hidden", 100), ("batch", 64), ("negatives", 2048), ("items", 5000), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    floor = make_floor(options.hidden, options.batch, options.negatives, options.items)
    seconds = statistics.median(seconds_of(floor, 200) for _ in range(options.rounds))
    print(f"{1000 * seconds:.3f} ms per mini-batch, {options.batch / seconds:,.0f} targets per CPU-second")


if __name__ == "__main__":
    main()
