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
        descent = self._descent(name, parameter, gradient, None)
        if self.momentum:
            velocity = self._state("velocity", name, parameter).mul_(self.momentum)
            parameter.add_(velocity.add_(descent, alpha=-self.learning_rate))
        else:
            parameter.add_(descent, alpha=-self.learning_rate)

    def update_rows(
        self, name: str, table: Tensor, rows: Tensor, gradient: Tensor, is_first: Tensor | None = None
    ) -> None:
        """Update the rows of a table.

        Parameters
        ----------
        rows : Tensor of int64, shape (count,)
            Without duplicates, unless `is_first` is given.
        gradient : Tensor, shape (count, ...)
            May be overwritten.
        is_first : Tensor of bool, shape (count,), optional
            False for entries that repeat an earlier row; their gradient must be zero.
        """
        change = self._descent(name, table, gradient, rows).mul_(-self.learning_rate)
        if self.momentum:
            velocity = self._state("velocity", name, table)
            before = velocity.index_select(0, rows)
            if is_first is not None:
                before *= is_first.view(-1, *[1] * (before.dim() - 1))
            velocity.index_add_(0, rows, torch.add(change, before, alpha=self.momentum - 1.0))
            change.add_(before, alpha=self.momentum)
        table.index_add_(0, rows, change)

    def _descent(self, name: str, parameter: Tensor, gradient: Tensor, rows: Tensor | None) -> Tensor:
        """Return the gradient of the parameter, or of its `rows`, as it is scaled before the learning rate."""
        raise NotImplementedError

    def _state(self, kind: str, name: str, parameter: Tensor) -> Tensor:
        key = f"{kind}.{name}"
        if key not in self.state:
            self.state[key] = torch.zeros_like(parameter)
        return self.state[key]


class SGD(Optimizer):
    """Plain gradient descent."""

    def _descent(self, name: str, parameter: Tensor, gradient: Tensor, rows: Tensor | None) -> Tensor:
        return gradient


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all their squares so far."""

    def _descent(self, name: str, parameter: Tensor, gradient: Tensor, rows: Tensor | None) -> Tensor:
        squares = self._state("squares", name, parameter)
        if rows is None:
            scale = squares.addcmul_(gradient, gradient).add(self.epsilon)
        else:
            scale = squares.index_add_(0, rows, gradient * gradient).index_select(0, rows).add_(self.epsilon)
        return gradient.mul_(scale.pow_(-0.5))  # twice as fast as rsqrt


def make_optimizer(hyperparameters: HyperParameters) -> Optimizer:
    """Return the optimizer that the hyperparameters name."""
    kinds: dict[str, type[Optimizer]] = {"adagrad": Adagrad, "sgd": SGD}
    name = hyperparameters.optimization_algorithm
    if name not in kinds:
        raise ParameterError(unknown_name(name, kinds, "optimization_algorithm"))
    return kinds[name](hyperparameters.learning_rate, hyperparameters.momentum, hyperparameters.epsilon)
