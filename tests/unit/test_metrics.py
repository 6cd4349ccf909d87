"""Ranking metrics against figures by hand and against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.errors import ParameterError
from gru4rec.metrics import (
    METRICS,
    compute_metrics,
    contributions,
    metric_keys,
    mrr,
    ndcg,
    parse_metric,
    precision,
    recall,
)


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (recall, 1, 1 / 4),
        (recall, 2, 2 / 4),
        (recall, 6, 2 / 4),
        (recall, 7, 3 / 4),
        (mrr, 1, 1 / 4),
        (mrr, 6, (1 + 1 / 2) / 4),
        (mrr, 7, (1 + 1 / 2 + 1 / 7) / 4),
        (ndcg, 2, (1 + 1 / math.log2(3)) / 4),
        (ndcg, 7, (1 + 1 / math.log2(3) + 1 / 3) / 4),
        (precision, 1, 1 / 4),
        (precision, 7, 3 / 4 / 7),
    ],
)
def test_by_hand(metric, k, expected):
    assert metric(np.array([1, 7, 2, 900]), k) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(ranks=st.lists(st.integers(1, 60), min_size=1, max_size=30), k=st.integers(1, 50))
def test_mean_over_targets_of_what_the_rank_earns(ranks, k):
    earned = {
        "recall": [1.0 if rank <= k else 0.0 for rank in ranks],
        "mrr": [1.0 / rank if rank <= k else 0.0 for rank in ranks],
        "ndcg": [math.log(2) / math.log(rank + 1) if rank <= k else 0.0 for rank in ranks],
    }
    values = compute_metrics(np.array(ranks), [f"{name}@{k}" for name in earned])
    for name, each in earned.items():
        assert values[f"{name}@{k}"] == pytest.approx(math.fsum(each) / len(ranks), rel=1e-12), name


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("recall@2", [1, 0, 1, 0]),
        ("mrr@2", [1, 0, 1 / 2, 0]),
        ("ndcg@7", [1, 1 / 3, 1 / math.log2(3), 0]),
        ("precision@2", [1 / 2, 0, 1 / 2, 0]),
    ],
)
def test_what_each_target_contributes(key, expected):
    assert contributions(np.array([1, 7, 2, 900]), key).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "function"), [("recall", recall), ("mrr", mrr), ("ndcg", ndcg), ("precision", precision)]
)
def test_every_metric_has_its_function(name, function):
    ranks = np.array([1, 7, 2, 900, 3])
    assert compute_metrics(ranks, [f"{name}@5"]) == {f"{name}@5": function(ranks, 5)}
    assert set(METRICS) == {"recall", "mrr", "ndcg", "precision"}


def test_compute_metrics_keeps_keys_and_order():
    values = compute_metrics(np.array([1, 3]), iter(["mrr@2", "recall@3", "recall@2"]))
    assert list(values.items()) == [("mrr@2", 0.5), ("recall@3", 1.0), ("recall@2", 0.5)]
    assert all(type(value) is float for value in values.values())


@pytest.mark.parametrize(("key", "expected"), [("recall@20", ("recall", 20)), ("ndcg@1", ("ndcg", 1))])
def test_parse_metric(key, expected):
    assert parse_metric(key) == expected


@pytest.mark.parametrize("key", ["recall", "recall@", "@20", "recall@0", "recall@-1", "recall@2.5", "recall@20 ", ""])
def test_key_of_another_form_is_refused(key):
    with pytest.raises(ParameterError) as caught:
        parse_metric(key)
    assert (
        str(caught.value)
        == f"metric must look like 'recall@20', got {key!r}; known metrics: recall, mrr, ndcg, precision"
    )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("recal@20", "unknown metric 'recal'; did you mean 'recall'?"),
        ("nddcg@5", "unknown metric 'nddcg'; did you mean 'ndcg'?"),
        ("accuracy@5", "unknown metric 'accuracy'; known: recall, mrr, ndcg, precision"),
    ],
)
def test_unknown_metric_tells_the_nearest(key, text):
    with pytest.raises(ParameterError) as caught:
        parse_metric(key)
    assert str(caught.value) == text


def test_metric_keys_goes_through_cutoffs_first():
    assert metric_keys((5, 20)) == ["recall@5", "mrr@5", "ndcg@5", "recall@20", "mrr@20", "ndcg@20"]


def test_every_metric_key_can_be_parsed():
    assert [parse_metric(key)[1] for key in metric_keys([3, 10])] == [3, 3, 3, 10, 10, 10]
