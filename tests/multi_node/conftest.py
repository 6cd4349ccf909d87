"""What the searches on several nodes share: logs, a search, its records, and patience."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gru4rec.data.reading import read_log
from gru4rec.data.splitting import split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.data.writing import write_log
from gru4rec.errors import GRU4RecError

SEARCH = """
[data]
train = "train.parquet"
validation = "validation.parquet"
[search]
trials = {trials}
max_epochs = {max_epochs}
[stopping]
grace_period = {max_epochs}
max_iter_no_change = {max_epochs}
[fixed]
loss_fn = "cross-entropy"
num_negatives = 64
batch_size = {batch_size}
[space.learning_rate]
type = "float"
low = 0.01
high = 0.1
"""
SECONDS_TO_WAIT = 120


@pytest.fixture(scope="session")
def write_search() -> Callable[..., Path]:
    """Write a search.toml, and its logs where they are missing: every trial trains for all of its epochs."""

    def write(path: Path, trials: int, max_epochs: int, batch_size: int) -> Path:
        if not (path.parent / "train.parquet").exists():
            train, validation = split_time_share(read_log(generate_log(4_000, 200, seed=3)), 0.1)
            write_log(train.to_frame(), path.parent / "train.parquet")
            write_log(validation.to_frame(), path.parent / "validation.parquet")
        path.write_text(SEARCH.format(trials=trials, max_epochs=max_epochs, batch_size=batch_size))
        return path

    return write


@pytest.fixture(scope="session")
def read_epochs() -> Callable[[Path], list[dict[str, Any]]]:
    """Return the records of all epochs in a result folder so far."""

    def read(folder: Path) -> list[dict[str, Any]]:
        path = folder / "epochs.ndjson"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    return read


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait until something is true; a cluster that does not answer yet is asked again.

    `say` is what to show when it does not come true.
    """

    def wait(what: Callable[[], object], say: Callable[[], str] = str) -> None:
        ends = time.monotonic() + SECONDS_TO_WAIT
        while time.monotonic() < ends:
            try:
                if what():
                    return
            except GRU4RecError:
                pass
            time.sleep(0.3)
        raise AssertionError(f"waited in vain; {say()[-3000:]}")

    return wait
