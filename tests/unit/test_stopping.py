"""The stop rule on plain lists of values."""

from __future__ import annotations

import json
import math

import pytest

from gru4rec.errors import ParameterError
from gru4rec.stopping import EarlyStopping, StoppingRule

NAN = math.nan


def follow(values, **criterion):
    stopping = EarlyStopping(StoppingRule("recall@20", **criterion))
    improved = [stopping.update(value) for value in values]
    return stopping, improved


@pytest.mark.parametrize(
    ("values", "patience", "min_improvement", "best_epoch", "exhausted"),
    [
        ([], 1, 0.0, 0, False),
        ([0.0], 1, 0.0, 1, False),
        ([0.1, 0.2, 0.3], 1, 0.0, 3, False),
        ([0.3, 0.3], 1, 0.0, 1, True),
        ([0.3, 0.3], 2, 0.0, 1, False),
        ([0.3, 0.2, 0.1], 2, 0.0, 1, True),
        ([0.3, 0.2, 0.4, 0.1], 2, 0.0, 3, False),
        ([0.5, 0.625], 1, 0.125, 1, True),
        ([0.5, 0.625, 0.75], 2, 0.125, 3, False),
        ([0.5, 0.625, 0.6251], 2, 0.125, 3, False),
        ([0.5, 0.55, 0.6, 0.65], 3, 0.125, 4, False),
        ([-3.0, -2.0], 1, 0.0, 2, False),
        ([NAN], 1, 0.0, 0, True),
        ([NAN, 0.1], 2, 0.0, 2, False),
        ([0.1, NAN, NAN], 2, 0.0, 1, True),
        ([0.1, NAN, 0.2, NAN], 2, 0.0, 3, False),
    ],
)
def test_best_epoch_and_patience(values, patience, min_improvement, best_epoch, exhausted):
    stopping, improved = follow(values, max_iter_no_change=patience, min_improvement=min_improvement)
    assert (stopping.best_epoch, stopping.exhausted, stopping.epoch) == (best_epoch, exhausted, len(values))
    assert stopping.best_value == (values[best_epoch - 1] if best_epoch else -math.inf)
    assert not any(improved[best_epoch:])


def test_update_tells_whether_the_epoch_is_the_best_so_far():
    _, improved = follow([0.1, 0.3, 0.3, NAN, 0.2, 0.4])
    assert improved == [True, True, False, False, False, True]


def test_state_goes_on_after_a_way_through_json():
    criterion = StoppingRule("recall@20", max_iter_no_change=2)
    values = [0.2, 0.5, 0.4, 0.5]
    interrupted = EarlyStopping(criterion)
    for value in values[:3]:
        interrupted.update(value)
    restored = EarlyStopping(criterion)
    restored.load_state_dict(json.loads(json.dumps(interrupted.state_dict())))
    assert (restored.epoch, restored.best_epoch, restored.best_value, restored.exhausted) == (3, 2, 0.5, False)
    assert restored.update(values[3]) is False
    assert restored.exhausted


def test_state_of_a_training_that_has_not_begun():
    restored = EarlyStopping(StoppingRule())
    restored.load_state_dict(json.loads(json.dumps(EarlyStopping(StoppingRule()).state_dict())))
    assert restored.update(0.0) is True
    assert restored.best_epoch == 1


def test_defaults_are_those_of_recpack():
    # recpack: stopping_criterion='recall' (at its K of 50), max_iter_no_change=5, min_improvement=0.0
    assert StoppingRule() == StoppingRule("recall@50", 5, 0.0)


@pytest.mark.parametrize(("given", "metric"), [("recall", "recall@50"), ("mrr", "mrr@50"), ("ndcg@5", "ndcg@5")])
def test_bare_metric_means_cutoff_50(given, metric):
    assert StoppingRule(given).metric == metric


@pytest.mark.parametrize("value", [0, -1, 2.5, math.nan, True, "5", None])
def test_bad_patience_is_refused(value):
    with pytest.raises(ParameterError) as caught:
        StoppingRule(max_iter_no_change=value)
    assert str(caught.value) == f"max_iter_no_change must be a whole number >= 1, got {value!r}"


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.1", None])
def test_bad_min_improvement_is_refused(value):
    with pytest.raises(ParameterError) as caught:
        StoppingRule(min_improvement=value)
    assert str(caught.value) == f"min_improvement must be a number >= 0, got {value!r}"


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("recal@20", "unknown metric 'recal'; did you mean 'recall'?"),
        ("recall@0", "metric must look like 'recall@20', got 'recall@0'; known metrics: recall, mrr, ndcg, precision"),
        ("loss", "metric must look like 'recall@20', got 'loss'; known metrics: recall, mrr, ndcg, precision"),
    ],
)
def test_bad_metric_is_refused(metric, text):
    with pytest.raises(ParameterError) as caught:
        StoppingRule(metric)
    assert str(caught.value) == text
