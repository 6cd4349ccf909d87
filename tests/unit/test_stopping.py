"""The stop rule on plain lists of values, and recpack's interface to it."""

from __future__ import annotations

import json
import math

import pytest
from scipy import sparse

from gru4rec import matrix_metrics
from gru4rec.errors import ParameterError
from gru4rec.stopping import EarlyStopping, EarlyStoppingException, StoppingCriterion, StoppingRule

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


# --- losses, which are minimised -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "minimize"),
    [("bpr", True), ("warp", True), ("recall", False), ("ndcg@5", False), ("precision", False), ("mrr@1", False)],
)
def test_direction(metric, minimize):
    assert StoppingRule(metric).minimize is minimize


@pytest.mark.parametrize("metric", ["bpr", "warp"])
@pytest.mark.parametrize(
    ("values", "patience", "min_improvement", "best_epoch", "exhausted"),
    [
        ([], 1, 0.0, 0, False),
        ([5.0], 1, 0.0, 1, False),
        ([0.3, 0.2, 0.1], 1, 0.0, 3, False),
        ([0.3, 0.3], 1, 0.0, 1, True),
        ([0.1, 0.2, 0.3], 2, 0.0, 1, True),
        ([0.75, 0.625], 1, 0.125, 1, True),
        ([0.75, 0.625, 0.5], 2, 0.125, 3, False),
        ([NAN, 0.5], 2, 0.0, 2, False),
    ],
)
def test_a_loss_is_minimised(metric, values, patience, min_improvement, best_epoch, exhausted):
    stopping = EarlyStopping(StoppingRule(metric, patience, min_improvement))
    improved = [stopping.update(value) for value in values]
    assert (stopping.best_epoch, stopping.exhausted) == (best_epoch, exhausted)
    assert stopping.best_value == (values[best_epoch - 1] if best_epoch else math.inf)
    assert not any(improved[best_epoch:])


@pytest.mark.parametrize("metric", ["bpr@5", "warp@20"])
def test_a_loss_has_no_cutoff(metric):
    with pytest.raises(ParameterError):
        StoppingRule(metric)


# --- StoppingCriterion -----------------------------------------------------------------------------------------------

# Item 1 of three is true and is ranked second.
X_TRUE = sparse.csr_matrix([[0, 1, 0]])
X_PRED = sparse.csr_matrix([[0.5, 0.25, 0.125]])


def criterion_of_values(**parameters):
    """A criterion whose value is what is passed for X_pred."""
    return StoppingCriterion(lambda _, value: value, **parameters)


def test_functions_are_those_of_recpack_in_their_directions_at_50():
    found = {name: (made["minimize"], made.get("k")) for name, made in StoppingCriterion.FUNCTIONS.items()}
    maximised = dict.fromkeys(["recall", "ndcg", "precision", "mrr"], (False, 50))
    assert found == maximised | {"bpr": (True, None), "warp": (True, None)}


@pytest.mark.parametrize(
    ("name", "k", "value"),
    [
        ("recall", 1, 0.0),
        ("recall", 2, 1.0),
        ("ndcg", 2, 1 / math.log2(3)),
        ("precision", 2, 1 / 2),
        ("mrr", 2, 1 / 2),
        ("recall", None, 1.0),
        ("precision", None, 1 / 50),
    ],
)
def test_create_makes_the_metric_of_that_name(name, k, value):
    criterion = StoppingCriterion.create(name) if k is None else StoppingCriterion.create(name, k=k)
    assert criterion.evaluate(X_TRUE, X_PRED) == pytest.approx(value)
    assert criterion.minimize is False


@pytest.mark.parametrize(("name", "function"), [("bpr", matrix_metrics.bpr_loss), ("warp", matrix_metrics.warp_loss)])
def test_create_makes_the_loss_of_that_name(name, function):
    criterion = StoppingCriterion.create(name, seed=3)
    assert criterion.evaluate(X_TRUE, X_PRED) == function(X_TRUE, X_PRED, seed=3)
    assert criterion.minimize is True


def test_create_leaves_functions_alone():
    before = {name: dict(made) for name, made in StoppingCriterion.FUNCTIONS.items()}
    StoppingCriterion.create("recall", k=3, stop_early=True)
    assert before == StoppingCriterion.FUNCTIONS


def test_create_names_the_nearest_of_an_unknown_name():
    with pytest.raises(ParameterError) as caught:
        StoppingCriterion.create("recal")
    assert str(caught.value) == "unknown stopping criterion 'recal'; did you mean 'recall'?"


@pytest.mark.parametrize("rule", [StoppingRule("ndcg@2"), StoppingRule("mrr@1"), StoppingRule("warp")])
def test_from_rule_computes_the_metric_of_the_rule(rule):
    name, _, k = rule.metric.partition("@")
    expected = StoppingCriterion.create(name, k=int(k)) if k else StoppingCriterion.create(name)
    assert StoppingCriterion.from_rule(rule).evaluate(X_TRUE, X_PRED) == expected.evaluate(X_TRUE, X_PRED)


@pytest.mark.parametrize(
    ("minimize", "values", "improved", "best"),
    [
        (False, [0.1, 0.3, 0.3, 0.2, 0.4], [True, True, False, False, True], 0.4),
        (True, [0.4, 0.2, 0.2, 0.3, 0.1], [True, True, False, False, True], 0.1),
    ],
)
def test_update_and_best_value(minimize, values, improved, best):
    criterion = criterion_of_values(minimize=minimize)
    assert criterion.best_value == (math.inf if minimize else -math.inf)
    assert [criterion.update(None, value) for value in values] == improved
    assert criterion.best_value == best


def test_evaluate_records_nothing():
    criterion = criterion_of_values()
    assert criterion.evaluate(None, 0.5) == 0.5
    assert criterion.best_value == -math.inf


def test_stop_early_raises_after_max_iter_no_change_updates_in_a_row():
    criterion = criterion_of_values(stop_early=True, max_iter_no_change=2)
    for value in [0.3, 0.1, 0.4, 0.4]:  # the third begins to count anew
        criterion.update(None, value)
    with pytest.raises(EarlyStoppingException, match=r"^no improvement in the last 2 updates; best: 0\.4$"):
        criterion.update(None, 0.2)
    assert criterion.best_value == 0.4


def test_patience_alone_does_not_stop():
    criterion = criterion_of_values(max_iter_no_change=1)
    assert [criterion.update(None, 0.5) for _ in range(4)] == [True, False, False, False]


@pytest.mark.parametrize(("minimize", "values"), [(False, [0.5, 0.625, 0.75]), (True, [0.75, 0.625, 0.5])])
def test_an_improvement_must_exceed_min_improvement(minimize, values):
    criterion = criterion_of_values(minimize=minimize, min_improvement=0.125)
    assert [criterion.update(None, value) for value in values] == [True, False, True]


def test_defaults_of_a_criterion_are_those_of_recpack():
    criterion = criterion_of_values(stop_early=True)
    assert criterion.minimize is False
    for value in [0.0] * 5:
        criterion.update(None, value)
    with pytest.raises(EarlyStoppingException, match="last 5 updates"):
        criterion.update(None, 0.0)


def test_a_bad_number_is_refused_when_the_criterion_is_made():
    with pytest.raises(ParameterError, match=r"^max_iter_no_change must be a whole number >= 1, got 0$"):
        StoppingCriterion.create("recall", max_iter_no_change=0)
