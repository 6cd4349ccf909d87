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
Contributions = npt.NDArray[np.float64]


def hits(ranks: Ranks, k: int) -> Contributions:
    """Return 1 for each target among the first k items, else 0."""
    return (ranks <= k).astype(np.float64)


def reciprocal_ranks(ranks: Ranks, k: int) -> Contributions:
    """Return 1 / rank of each target, 0 beyond rank k."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def discounted_gains(ranks: Ranks, k: int) -> Contributions:
    """Return 1 / log2(rank + 1) of each target, 0 beyond rank k."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def shares_of_list(ranks: Ranks, k: int) -> Contributions:
    """Return 1 / k for each target among the first k items, else 0."""
    return hits(ranks, k) / k


def recall(ranks: Ranks, k: int) -> float:
    """Share of targets among the first k items (hit rate: there is one true item per target).

    >>> recall(np.array([1, 3, 50]), 20)
    0.6666666666666666
    """
    return float(np.mean(hits(ranks, k)))


def mrr(ranks: Ranks, k: int) -> float:
    """Mean of 1 / rank, counted as 0 beyond rank k.

    >>> mrr(np.array([1, 4, 50]), 20)
    0.4166666666666667
    """
    return float(np.mean(reciprocal_ranks(ranks, k)))


def ndcg(ranks: Ranks, k: int) -> float:
    """Mean of 1 / log2(rank + 1), counted as 0 beyond rank k; the ideal ranking of one true item scores 1.

    >>> ndcg(np.array([1, 3, 50]), 20)
    0.5
    """
    return float(np.mean(discounted_gains(ranks, k)))


def precision(ranks: Ranks, k: int) -> float:
    """Share of the first k items that are the target: recall / k.

    >>> precision(np.array([1, 3, 50]), 2)
    0.16666666666666666
    """
    return float(np.mean(shares_of_list(ranks, k)))


METRICS: dict[str, Callable[[Ranks, int], Contributions]] = {
    "recall": hits,
    "mrr": reciprocal_ranks,
    "ndcg": discounted_gains,
    "precision": shares_of_list,
}
"""What each target contributes, by the name of the metric; the metric is the mean over the targets."""
REPORTED = ("recall", "mrr", "ndcg")


def parse_metric(key: str) -> tuple[str, int]:
    """Split a metric key such as 'recall@20' into its name and cut-off.

    Raises
    ------
    ParameterError
        When the name is unknown or the cut-off is not a whole number from 1.
    """
    match = re.fullmatch(r"([^@]+)@([1-9][0-9]{0,8})", key)
    if match is None:
        raise ParameterError(f"metric must look like 'recall@20', got {key!r}; known metrics: {', '.join(METRICS)}")
    name, k = match.groups()
    if name not in METRICS:
        raise ParameterError(unknown_name(name, METRICS, "metric"))
    return name, int(k)


def contributions(ranks: Ranks, key: str) -> Contributions:
    """Return what each target contributes to a metric key such as 'mrr@20': the metric is the mean.

    Raises
    ------
    ParameterError
        When the key is no metric key.

    >>> contributions(np.array([1, 2, 50]), "mrr@20")
    array([1. , 0.5, 0. ])
    """
    name, k = parse_metric(key)
    return METRICS[name](ranks, k)


def compute_metrics(ranks: Ranks, keys: Iterable[str]) -> dict[str, float]:
    """Return the value of each metric key such as 'mrr@20'.

    >>> compute_metrics(np.array([1, 2]), ["recall@1", "mrr@20"])
    {'recall@1': 0.5, 'mrr@20': 0.75}
    """
    return {key: float(np.mean(contributions(ranks, key))) for key in keys}


def metric_keys(cutoffs: Iterable[int]) -> list[str]:
    """Return the keys of the metrics that reports show, at every cut-off.

    >>> metric_keys([20])
    ['recall@20', 'mrr@20', 'ndcg@20']
    """
    return [f"{name}@{k}" for k in cutoffs for name in REPORTED]
