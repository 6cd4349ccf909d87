"""Recorded learning curves of many configurations: the file of record_curves.py, read; and made-up ones for trying out.

A curve is what a training gave, epoch by epoch, and what it took. Replaying it in place of the training asks of a
search only in which order it tries configurations and how far it follows each.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuning.space import Dimension, RandomTrial, Space

METRIC = "recall@20"
MEASURES = ("recall@20", "mrr@20")  # that a search may be replayed by
Config = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """One configuration's training.

    Parameters
    ----------
    source : {'random', 'portfolio'}
    config : dict
        All hyperparameters that the space sets.
    epochs : tuple of dict
        Metrics and CPU seconds of each epoch.
    diverged : str
        Why there are fewer epochs than usual; '' when there are not.
    """

    source: str
    config: Config
    epochs: tuple[dict[str, float], ...]
    diverged: str = ""

    @property
    def values(self) -> list[float]:
        """The metric by epoch."""
        return [epoch[METRIC] for epoch in self.epochs]

    @property
    def best(self) -> float:
        """The best epoch's metric; minus infinity when there is none."""
        return max(self.values, default=-math.inf)

    @property
    def seconds(self) -> list[float]:
        """CPU seconds by epoch, of training and validation; the epoch in which a training diverged is the last."""
        measured = [epoch["train_s"] + epoch["validate_s"] for epoch in self.epochs]
        if not self.diverged:
            return measured
        return [*measured, self.epochs[-1]["train_s"] if self.epochs else 0.0]


@dataclass(frozen=True)
class Pool:
    """The curves of a file: those of random configurations, and those of the known-good points."""

    random: tuple[Curve, ...]
    portfolio: tuple[Curve, ...]

    def shuffled(self, seed: int) -> list[Curve]:
        """Return the random curves in an order of their own for each seed."""
        return [self.random[index] for index in np.random.default_rng(seed).permutation(len(self.random))]


def read_curves(path: Path, measure: str = METRIC) -> Pool:
    """Read a file of record_curves.py; another measure takes the place, and the name, of METRIC."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return make_pool([_curve(json.loads(line), measure) for line in lines])


def make_pool(curves: Sequence[Curve]) -> Pool:
    """Sort curves by their source."""
    by_source = {source: tuple(c for c in curves if c.source == source) for source in ("random", "portfolio")}
    return Pool(by_source["random"], by_source["portfolio"])


def target(order: Sequence[Curve], count: int) -> float:
    """Return the best metric of the first `count` trainings, each to its end."""
    return max(curve.best for curve in order[:count])


def full_seconds(order: Sequence[Curve], count: int) -> float:
    """Return what the first `count` trainings take, each to its end."""
    return sum(sum(curve.seconds) for curve in order[:count])


def synthetic_pool(space: Space, count: int, seed: int = 0, max_epochs: int = 10) -> Pool:
    """Make up curves whose level, speed and cost follow from the configuration, plus noise."""
    random = [
        _made_up("random", space.suggest(RandomTrial(seed + number)), number, max_epochs) for number in range(count)
    ]
    known = [
        _made_up("portfolio", {**space.suggest(RandomTrial(seed)), **point}, 10_000 + number, max_epochs)
        for number, point in enumerate(space.fitted_points())
    ]
    return make_pool([*random, *known])


def _curve(line: dict[str, Any], measure: str) -> Curve:
    epochs = tuple({**epoch, METRIC: epoch[measure]} for epoch in line["epochs"])
    return Curve(line["source"], line["config"], epochs, line["diverged"])


_LEVELS = {"cross-entropy": 0.70, "bpr-max": 0.69, "top1-max": 0.66, "bpr": 0.58, "top1": 0.55}


def _made_up(source: str, config: Config, number: int, max_epochs: int) -> Curve:
    generator = np.random.default_rng(number)
    rate = math.log(config["learning_rate"] / 0.08)
    level = _LEVELS[config["loss_fn"]] - 0.02 * rate**2 - 0.05 * config["dropout_hidden"] + generator.normal(0, 0.008)
    halves_in = 1.2 * math.exp(-0.5 * rate) * (1.5 if config["loss_fn"] == "bpr-max" else 1.0)
    seconds = 6.0 * config["hidden_size"] / 128 * (64 / config["batch_size"]) ** 0.5
    epochs = []
    for epoch in range(1, max_epochs + 1):
        value = level * (1 - 0.6 * 0.5 ** (epoch / halves_in)) - 0.002 * max(0.0, epoch - 6 / halves_in)
        noisy = {
            METRIC: value + generator.normal(0, 0.001),
            "sample recall@20": value + generator.normal(0, 0.004),
            "mrr@20": 0.4 * value,
        }
        epochs.append({**noisy, "train_s": seconds, "validate_s": 2.0, "sample_validate_s": 0.5})
    diverged = "made up" if config["learning_rate"] > 0.28 else ""
    return Curve(source, config, tuple(epochs[:2] if diverged else epochs), diverged)


class Distance:
    """How far configurations are from one another, over the dimensions that both have.

    Parameters
    ----------
    dimensions : sequence of Dimension
    """

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self._dimensions = dimensions

    def coordinates(self, config: Config) -> list[float]:
        """Return a configuration's place: 0 to 1 in each dimension, an option's number, or NaN where it has none."""
        return [self._coordinate(dimension, config) for dimension in self._dimensions]

    def to_all(self, place: Sequence[float], places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the distance from one place to each row of `places`; another option is as far as a whole range."""
        gaps = np.abs(places - np.asarray(place))
        options = [dimension.kind == "choice" for dimension in self._dimensions]
        gaps[:, options] = np.where(gaps[:, options] > 0, 1.0, gaps[:, options])
        return np.asarray(np.sqrt(np.nanmean(gaps**2, axis=1)))

    def _coordinate(self, dimension: Dimension, config: Config) -> float:
        if dimension.name not in config or not dimension.active(config):
            return math.nan
        value = config[dimension.name]
        if dimension.kind == "choice":
            return float(dimension.options.index(value))
        ends = (float(value), dimension.low, dimension.high)
        value, low, high = (math.log(end) for end in ends) if dimension.log else ends
        return float((value - low) / (high - low))


def median(values: Sequence[float]) -> float:
    """Return the median; values that were never reached are infinite."""
    return statistics.median(values) if values else math.nan
