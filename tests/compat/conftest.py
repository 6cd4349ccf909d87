"""Matrices that both libraries read. Run by `make test-compat`, in an environment that has recpack."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
import torch

import gru4rec
from gru4rec.data.synthetic import generate_log


def pytest_configure(config: pytest.Config) -> None:
    for module in ("recpack", "hyperopt"):  # their own use of others is not ours to mend
        config.addinivalue_line("filterwarnings", f"ignore:::{module}")


@pytest.fixture(scope="session", autouse=True)
def quiet_recpack() -> None:
    logging.getLogger("recpack").setLevel(logging.WARNING)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_matrix() -> Callable:
    """Build an InteractionMatrix from lists of item columns, one list a user; times count up."""
    from recpack.matrix import InteractionMatrix

    def make(histories: Sequence[Sequence[int]], shape: tuple[int, int] | None = None) -> InteractionMatrix:
        pairs = [(user, item) for user, items in enumerate(histories) for item in items]
        frame = pd.DataFrame(pairs, columns=["user", "item"]).assign(time=range(len(pairs)))
        return InteractionMatrix(frame, item_ix="item", user_ix="user", timestamp_ix="time", shape=shape)

    return make


@pytest.fixture(scope="session")
def random_matrix(make_matrix) -> Callable:
    """Build an InteractionMatrix of random histories, all items of which occur."""

    def make(num_users: int = 40, num_items: int = 30, seed: int = 0):
        random = np.random.default_rng(seed)
        histories = [random.integers(num_items, size=random.integers(1, 12)).tolist() for _ in range(num_users - 1)]
        return make_matrix([*histories, random.permutation(num_items).tolist()], (num_users, num_items))

    return make


@pytest.fixture(scope="session")
def shop_matrix():
    """Make an InteractionMatrix of a generated shop log, through recpack's own preprocessing."""
    from recpack.preprocessing.filters import MinItemsPerUser
    from recpack.preprocessing.preprocessors import DataFramePreprocessor

    preprocessor = DataFramePreprocessor("ItemId", "SessionId", "Time")
    preprocessor.add_filter(MinItemsPerUser(4, "ItemId", "SessionId"))
    return preprocessor.process(generate_log(num_sessions=1_500, num_items=150, seed=3))


@pytest.fixture
def ours() -> Callable[..., gru4rec.GRU4RecNegSampling]:
    """Make our estimator, small and seeded."""

    def make(**parameters) -> gru4rec.GRU4RecNegSampling:
        small = {"hidden_size": 8, "num_components": 6, "num_negatives": 5, "batch_size": 8, "max_epochs": 2, "seed": 1}
        return gru4rec.GRU4RecNegSampling(**{**small, **parameters})

    return make


@pytest.fixture
def theirs() -> Callable:
    """Make recpack's estimator with the parameters that `ours` has."""
    from recpack.algorithms import GRU4RecNegSampling

    def make(**parameters) -> GRU4RecNegSampling:
        small = {"hidden_size": 8, "num_components": 6, "num_negatives": 5, "batch_size": 8, "max_epochs": 2, "seed": 1}
        return GRU4RecNegSampling(**{**small, **parameters})

    return make
