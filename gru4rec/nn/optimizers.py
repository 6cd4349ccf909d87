"""Adagrad and SGD, with momentum, on whole tensors and on the touched rows of item tables.

Adagrad: Duchi et al. (JMLR 2011); with momentum as in the authors' GRU4Rec: the velocity decays by `momentum`, takes
the scaled gradient, and is added to the parameter. A row that a mini-batch does not touch keeps its velocity and its
place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gru4rec.errors import ParameterError, unknown_name
from gru4rec.hyperparameters import HyperParameters


class Optimizer:
    """Updates parameters in place; one `state` tensor per parameter and kind, created on first use.

    Parameters
    ----------
    learning_rate : float
    momentum : float
    epsilon : float
        See `HyperParameters`.
    """

    def __init__(self, learning_rate: float, momentum: float, epsilon: float) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.epsilon = epsilon
        self.state: dict[str, Tensor] = {}

    def update(self, name: str, parameter: Tensor, gradient: Tensor) -> None:
        """Update a whole parameter. `gradient` may be overwritten."""
        change = self._change(name, parameter, gradient, None)
        if self.momentum:
            change = self._state("velocity", name, parameter).mul_(self.momentum).add_(change)
        parameter.add_(change)

    def update_rows(self, name: str, table: Tensor, rows: Tensor, gradient: Tensor) -> None:
        """Update the rows of a table.

        Parameters
        ----------
        rows : Tensor of int64, shape (count,)
            Without duplicates.
        gradient : Tensor, shape (count, ...)
            May be overwritten.
        """
        change = self._change(name, table, gradient, rows)
        if self.momentum:
            velocity = self._state("velocity", name, table)
            change.add_(velocity.index_select(0, rows), alpha=self.momentum)
            velocity.index_copy_(0, rows, change)
        table.index_add_(0, rows, change)

    def _change(self, name: str, parameter: Tensor, gradient: Tensor, rows: Tensor | None) -> Tensor:
        """Return what a step without momentum adds to the parameter, or to its `rows`."""
        raise NotImplementedError

    def _state(self, kind: str, name: str, parameter: Tensor) -> Tensor:
        key = f"{kind}.{name}"
        if key not in self.state:
            self.state[key] = torch.zeros_like(parameter)
        return self.state[key]


class SGD(Optimizer):
    """Plain gradient descent."""

    def _change(self, name: str, parameter: Tensor, gradient: Tensor, rows: Tensor | None) -> Tensor:
        return gradient.mul_(-self.learning_rate)


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all their squares so far."""

    def _change(self, name: str, parameter: Tensor, gradient: Tensor, rows: Tensor | None) -> Tensor:
        squares = self._state("squares", name, parameter)
        if rows is None:
            scale = squares.addcmul_(gradient, gradient).add(self.epsilon)
        else:
            scale = squares.index_select(0, rows).addcmul_(gradient, gradient)
            squares.index_copy_(0, rows, scale)
            scale.add_(self.epsilon)
        return gradient.div_(scale.sqrt_()).mul_(-self.learning_rate)


def make_optimizer(hyperparameters: HyperParameters) -> Optimizer:
    """Return the optimizer that the hyperparameters name."""
    kinds: dict[str, type[Optimizer]] = {"adagrad": Adagrad, "sgd": SGD}
    name = hyperparameters.optimization_algorithm
    if name not in kinds:
        raise ParameterError(unknown_name(name, kinds, "optimization_algorithm"))
    return kinds[name](hyperparameters.learning_rate, hyperparameters.momentum, hyperparameters.epsilon)


def sum_duplicate_rows(rows: Tensor, gradient: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row once, with the sum of its gradients.

    Parameters
    ----------
    rows : Tensor of int64, shape (count,)
    gradient : Tensor, shape (count, ...)
    slots : Tensor of int64, shape (num_rows_of_the_table,)
        Scratch space of any content; it makes this linear in `count`, where sorting would not be.

    Examples
    --------
    >>> sum_duplicate_rows(torch.tensor([4, 2, 4]), torch.tensor([1.0, 5.0, 2.0]), torch.empty(9, dtype=torch.int64))
    (tensor([2, 4]), tensor([5., 3.]))
    """
    places = torch.arange(len(rows), device=rows.device)
    # The last entry of a row stands for it: plain assignment would leave that to a race between threads.
    slots.scatter_reduce_(0, rows, places, "amax", include_self=False)
    owners = slots[rows]  # for each entry, the one entry that stands for its row
    unique = (owners == places).nonzero().squeeze(1)
    slots[rows[unique]] = places[: len(unique)]
    summed = gradient.new_zeros(len(unique), *gradient.shape[1:]).index_add_(0, slots[rows], gradient)
    return rows[unique], summed
