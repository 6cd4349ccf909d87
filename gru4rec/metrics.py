"""Ranking metrics as pure functions of ranks. Where ranks come from is `gru4rec.evaluation`.

A rank is a whole number from 1: the place of the true next item among all items, ties counted against it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from gru4rec.errors import ParameterError, unknown_name

Ranks = npt.NDArray[np.int64]


def recall(ranks: Ranks, k: int) -> float:
    """Share of targets among the first k items (hit rate: there is one true item per target).

    >>> recall(np.array([1, 3, 50]), 20)
    0.6666666666666666
    """
    return float(np.mean(ranks <= k))


def mrr(ranks: Ranks, k: int) -> float:
    """Mean of 1 / rank, counted as 0 beyond rank k.

    >>> mrr(np.array([1, 4, 50]), 20)
    0.4166666666666667
    """
    return float(np.mean(np.where(ranks <= k, 1.0 / ranks, 0.0)))


def ndcg(ranks: Ranks, k: int) -> float:
    """Mean of 1 / log2(rank + 1), counted as 0 beyond rank k; the ideal ranking of one true item scores 1.

    >>> ndcg(np.array([1, 3, 50]), 20)
    0.5
    """
    return float(np.mean(np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)))


def precision(ranks: Ranks, k: int) -> float:
    """Share of the first k items that are the target: recall / k.

    >>> precision(np.array([1, 3, 50]), 2)
    0.16666666666666666
    """
    return recall(ranks, k) / k


METRICS: dict[str, Callable[[Ranks, int], float]] = {
    "recall": recall,
    "mrr": mrr,
    "ndcg": ndcg,
    "precision": precision,
}
REPORTED = ("recall", "mrr", "ndcg")


def parse_metric(key: str) -> tuple[str, int]:
    """Split a metric key such as 'recall@20' into its name and cut-off.

    Raises
    ------
    ParameterError
        When the name is unknown or the cut-off is not a whole number from 1.
    """
    match = re.fullmatch(r"([^@]+)@([1-9]\d*)", key)
    if match is None:
        raise ParameterError(f"metric must look like 'recall@20', got {key!r}; known metrics: {', '.join(METRICS)}")
    name, k = match.groups()
    if name not in METRICS:
        raise ParameterError(unknown_name(name, METRICS, "metric"))
    return name, int(k)


def compute_metrics(ranks: Ranks, keys: Iterable[str]) -> dict[str, float]:
    """Return the value of each metric key such as 'mrr@20'.

    >>> compute_metrics(np.array([1, 2]), ["recall@1", "mrr@20"])
    {'recall@1': 0.5, 'mrr@20': 0.75}
    """
    values = {}
    for key in keys:
        name, k = parse_metric(key)
        values[key] = METRICS[name](ranks, k)
    return values


def metric_keys(cutoffs: Iterable[int]) -> list[str]:
    """Return the keys of the metrics that reports show, at every cut-off.

    >>> metric_keys([20])
    ['recall@20', 'mrr@20', 'ndcg@20']
    """
    return [f"{name}@{k}" for k in cutoffs for name in REPORTED]
