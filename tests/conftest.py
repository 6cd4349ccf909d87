"""Builders and oracles that several test files share, as fixtures: test modules cannot import one another.

The oracles say the formulas of the papers as plainly as possible and leave all derivatives to autograd.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch import Tensor

from gru4rec.data.sessions import AnyArray, ItemVocabulary, Sessions
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model import Model
from gru4rec.nn.network import Network, weight_shapes

# With more threads than free cores, torch's threads wait for one another at every small product, 20 times slower.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One Ray of two CPUs for all tests that need it."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def make_sessions() -> Callable[..., Sessions]:
    """Build a log from lists of item ids, one list a session; the vocabulary is the sorted ids that occur."""

    def make(
        events: Sequence[Sequence[Any]],
        times: Sequence[Sequence[float]] | None = None,
        session_ids: Sequence[Any] | None = None,
    ) -> Sessions:
        item_ids = [item for session in events for item in session]
        known = sorted(set(item_ids))
        place = {item: index for index, item in enumerate(known)}
        flat_times = range(len(item_ids)) if times is None else [time for session in times for time in session]
        return Sessions(
            item_index=np.array([place[item] for item in item_ids], dtype=np.int32),
            offsets=np.cumsum([0, *map(len, events)]),
            times=np.array(flat_times),
            session_ids=_ids(range(len(events)) if session_ids is None else session_ids),
            items=ItemVocabulary(_ids(known)),
        )

    return make


@pytest.fixture(scope="session")
def unpack() -> Callable[[Sessions], list[tuple[Any, list[Any], list[float]]]]:
    """Take a log apart: (session id, item ids, times) of each session."""

    def take_apart(sessions: Sessions) -> list[tuple[Any, list[Any], list[float]]]:
        bounds = zip(sessions.offsets[:-1], sessions.offsets[1:], strict=True)
        return [
            (key, sessions.items.ids[sessions.item_index[first:end]].tolist(), sessions.times[first:end].tolist())
            for key, (first, end) in zip(sessions.session_ids.tolist(), bounds, strict=True)
        ]

    return take_apart


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Model]:
    """Build an untrained model over the item ids; its weights are drawn so large that all scores differ clearly."""

    def make(item_ids: Iterable[Any], seed: int = 0, **parameters: Any) -> Model:
        items = ItemVocabulary(_ids(item_ids))
        hyperparameters = HyperParameters(**{"hidden_size": 4, "num_components": 3, **parameters})
        generator = torch.Generator().manual_seed(seed)
        shapes = weight_shapes(len(items), hyperparameters)
        weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        return Model(Network(len(items), hyperparameters, weights), items)

    return make


class FakeInteractionMatrix:
    """What recpack documents of its InteractionMatrix, as far as we need it; recpack itself is not installed here."""

    def __init__(self, events: Sequence[tuple[int, int, float]], shape: tuple[int, int], timestamps: bool) -> None:
        self.shape = shape
        self._has_timestamps = timestamps
        self._frame = pd.DataFrame(events, columns=["uid", "iid", "ts"]).astype({"uid": np.int64, "iid": np.int64})

    @property
    def has_timestamps(self) -> bool:
        return self._has_timestamps

    @property
    def timestamps(self) -> pd.Series[Any]:
        if not self.has_timestamps:
            raise AttributeError("no timestamps")
        return self._frame.set_index(["uid", "iid"])["ts"]

    @property
    def values(self) -> sparse.csr_matrix:
        """Count the interactions of each user and item."""
        ones = np.ones(len(self._frame), dtype=np.int32)
        return sparse.csr_matrix((ones, (self._frame["uid"], self._frame["iid"])), shape=self.shape)


@pytest.fixture(scope="session")
def make_interactions() -> Callable[..., FakeInteractionMatrix]:
    """Build an InteractionMatrix as of recpack from (user, item, time) triples and a shape."""

    def make(
        events: Iterable[tuple[int, int, float]], shape: tuple[int, int], timestamps: bool = True
    ) -> FakeInteractionMatrix:
        return FakeInteractionMatrix(list(events), shape, timestamps)

    return make


@pytest.fixture
def save_recpack_file(monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.nn.Module]:
    """Write what recpack 0.3.6 writes, without recpack: a whole module, pickled under the name of recpack's class.

    `change` may alter the module before it is saved. Returns the module.
    """

    def save(
        path: Path,
        num_items: int = 7,
        hidden_size: int = 4,
        num_components: int = 3,
        num_layers: int = 1,
        dropout: float = 0.0,
        change: Callable[[Any], object] = lambda module: None,
    ) -> torch.nn.Module:
        home = "recpack.algorithms.gru4rec"
        kind = type("GRU4RecTorch", (torch.nn.Module,), {"__module__": home})
        module: Any = kind()
        module.num_items = module.output_size = module.pad_token = num_items
        module.num_components, module.hidden_size = num_components, hidden_size
        module.drop = torch.nn.Dropout(dropout, inplace=True)
        module.emb = torch.nn.Embedding(num_items + 1, num_components, padding_idx=num_items)
        inner = dropout if num_layers > 1 else 0
        module.rnn = torch.nn.GRU(num_components, hidden_size, num_layers, batch_first=True, dropout=inner)
        module.lin = torch.nn.Linear(hidden_size, num_items + 1)
        generator = torch.Generator().manual_seed(num_layers)
        with torch.no_grad():
            for weight in module.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator))
        change(module)
        with monkeypatch.context() as patch:
            for name in ("recpack", "recpack.algorithms", home):
                patch.setitem(sys.modules, name, ModuleType(name))
            patch.setattr(sys.modules[home], "GRU4RecTorch", kind, raising=False)
            torch.save(module, path)
        return module

    return save


def _ids(values: Iterable[Any]) -> AnyArray:
    array = np.array(list(values))
    return array.astype(object) if array.dtype.kind == "U" else array.astype(np.int64)


@pytest.fixture(scope="session")
def gru_steps() -> Callable[..., tuple[Tensor, Tensor]]:
    """Run a layer with torch.nn.GRUCell, step by step; returns the state after each row, and after the window."""

    def run(
        weights: Sequence[Tensor],  # input, recurrent, input_bias, recurrent_bias
        inputs: Tensor,
        starts: Tensor,
        hidden: Tensor,
        rows_per_step: Sequence[int],
        dropout: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        cell = torch.nn.GRUCell(inputs.shape[1], hidden.shape[1], dtype=inputs.dtype)
        named = dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True))
        states = []
        for step in torch.arange(len(inputs)).split(list(rows_per_step)):
            previous = hidden[: len(step)].masked_fill(starts[step].unsqueeze(1), 0.0)
            new = torch.func.functional_call(cell, named, (inputs[step], previous))
            if dropout is not None:
                new = new * dropout[step]
            states.append(new)
            hidden = torch.cat([new, hidden[len(step) :]])
        return torch.cat(states), hidden

    return run


@pytest.fixture(scope="session")
def row_loss() -> Callable[..., Tensor]:
    """Return the loss of one row from the scores of its target and of its negatives; nothing to lose to is 0."""
    return _row_loss


@pytest.fixture(scope="session")
def window_loss() -> Callable[..., Tensor]:
    """Return the loss of a window, summed over its rows, from the score of every item for every row."""

    def loss(
        hyperparameters: HyperParameters, scores: Tensor, targets: Tensor, drawn: Tensor, item_counts: Tensor
    ) -> Tensor:
        return sum(
            (
                _row_loss(
                    hyperparameters.loss_fn,
                    *_target_and_negatives(hyperparameters, scores[row], row, targets, drawn, item_counts),
                    hyperparameters.bpreg,
                    hyperparameters.elu_param,
                )
                for row in range(len(targets))
            ),
            start=scores.new_zeros(()),
        )

    return loss


def _row_loss(name: str, target: Tensor, negatives: Tensor, bpreg: float = 0.0, elu_param: float = 0.0) -> Tensor:
    if len(negatives) == 0:
        return target * 0.0
    if name == "cross-entropy":
        return -torch.cat([target.unsqueeze(0), negatives]).log_softmax(0)[0]
    if name == "bpr-max" and elu_param:
        target, negatives = _elu(target, elu_param), _elu(negatives, elu_param)
    weights = negatives.softmax(0)
    top1 = (negatives - target).sigmoid() + (negatives**2).sigmoid()
    won = (target - negatives).sigmoid()
    return {
        "top1": top1.mean(),
        "top1-max": (weights * top1).sum(),
        "bpr": -won.log().mean(),
        "bpr-max": -(weights * won).sum().log() + bpreg * (weights * negatives**2).sum(),
    }[name]


def _elu(scores: Tensor, elu_param: float) -> Tensor:
    return torch.where(scores > 0, scores, elu_param * (scores.clamp(max=0).exp() - 1))


def _target_and_negatives(
    hyperparameters: HyperParameters, scores: Tensor, row: int, targets: Tensor, drawn: Tensor, item_counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the score of a row's target and those of its negatives; its own target is never a negative."""
    own = targets[row]
    if hyperparameters.num_negatives == "all":
        return scores[own], scores[torch.arange(len(scores)) != own]
    if hyperparameters.negatives == "per_target":
        negatives = drawn.reshape(len(targets), -1)[row]
        return scores[own], scores[negatives[negatives != own]]
    others = torch.cat([targets[:row], targets[row + 1 :]])
    as_target = as_drawn = torch.zeros_like(scores)
    if hyperparameters.loss_fn == "cross-entropy":  # popularity is how often a target turns up, ** alpha a drawn item
        as_target = hyperparameters.logq * item_counts.double().log()
        as_drawn = hyperparameters.logq * (item_counts.double() ** hyperparameters.sample_alpha).log()
    others, drawn = others[others != own], drawn[drawn != own]
    return scores[own] - as_target[own], torch.cat([(scores - as_target)[others], (scores - as_drawn)[drawn]])
