"""Importance, where what decides is known beforehand."""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tuning.progress import TrialRecord
from tuning.report.findings import read_findings
from tuning.report.importance import distributions_of, find_importances, labelled
from tuning.space import Dimension, FunctionSpace, Space


def test_what_decides_comes_first_and_the_rest_is_chance(tmp_path, make_run, many):
    findings = read_findings(make_run(tmp_path / "run", many(120)))
    found = find_importances(findings.result.spec.space, findings.measured)
    assert found[0].name == "learning_rate"
    assert [item.name for item in found if item.told] == ["learning_rate"]
    assert abs(sum(item.share for item in found) - 1.0) < 1e-9


def test_a_conditional_parameter_is_judged_where_it_exists(tmp_path, make_run, many):
    findings = read_findings(make_run(tmp_path / "run", many(40)))
    found = {item.name: item for item in find_importances(findings.result.spec.space, findings.measured)}
    assert (found["bpreg"].trials, found["hidden_size"].trials) == (20, 40)


def test_few_trials_tell_nothing(tmp_path, make_run, many):
    findings = read_findings(make_run(tmp_path / "run", many(19)))
    assert find_importances(findings.result.spec.space, findings.measured) == []


def test_a_space_without_a_choice_tells_nothing():
    trials = [TrialRecord(number, 0, {"hidden_size": 64}) for number in range(30)]
    assert find_importances(Space((), {"hidden_size": 64}), trials) == []
    assert find_importances(FunctionSpace(function="a:b"), trials) == []


def test_two_ranges_of_one_name_are_two_parameters():
    rates = [
        Dimension("learning_rate", "float", low, high, when={"optimization_algorithm": (name,)})
        for name, low, high in (("adagrad", 0.01, 0.3), ("sgd", 0.1, 1.0))
    ]
    space = Space((Dimension("optimization_algorithm", "choice", options=("adagrad", "sgd")), *rates))
    trial = TrialRecord(0, 0, {"optimization_algorithm": "sgd", "learning_rate": 0.5})
    assert labelled(space, trial) == {"optimization_algorithm": "sgd", "learning_rate sgd": 0.5}


def test_ranges_are_as_wide_as_the_values():
    space = Space((Dimension("num_negatives", "int", 64, 128), Dimension("logq", "choice", options=(0.0, 1.0))))
    points = [{"num_negatives": 50, "logq": 1.0}, {"num_negatives": 100, "logq": 0.5}]
    assert distributions_of(space, points) == {
        "num_negatives": IntDistribution(50, 128),
        "logq": CategoricalDistribution((0.0, 1.0, 0.5)),
    }


def test_of_a_function_the_values_are_known():
    points = [{"dropout": 0.1, "learning_rate": 0.01, "loss_fn": "bpr"}, {"dropout": 0.3, "learning_rate": 0.2}]
    assert distributions_of(FunctionSpace(function="a:b"), points) == {
        "dropout": FloatDistribution(0.1, 0.3),
        "learning_rate": FloatDistribution(0.01, 0.2, log=True),
        "loss_fn": CategoricalDistribution(("bpr",)),
    }
