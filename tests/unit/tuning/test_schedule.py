"""ASHA: its decisions against a reference, and what a NaN does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.stopping import EarlyStopping, StoppingRule
from tuning.journal import PastTrial
from tuning.schedule import make_scheduler
from tuning.space import Space
from tuning.spec import SearchSpec


def scheduler_spec(max_epochs=9, grace_period=1, reduction_factor=3):
    return SearchSpec(
        Space(()),
        max_epochs=max_epochs,
        criterion=StoppingRule("recall@20", 3),
        grace_period=grace_period,
        reduction_factor=reduction_factor,
    )


def make(*settings):
    return make_scheduler(scheduler_spec(*settings))


def reference(curves, max_epochs, grace_period, reduction_factor, patience=3):
    """Run trials one after the other: at a rung, stop who is not among the best 1 / reduction_factor, counting himself.

    The first two at a rung go on. Compared is the best value so far; one without patience stays for the later rungs.
    """
    rungs = [grace_period * reduction_factor**k for k in range(20) if grace_period * reduction_factor**k < max_epochs]
    seen = {rung: [] for rung in rungs}
    trained = []
    for curve in curves:
        for epoch in range(1, max_epochs + 1):
            best = max(curve[:epoch])
            if epoch == max_epochs:
                break
            if epoch - (curve.index(best) + 1) >= patience:
                for rung in rungs:
                    if rung >= epoch:
                        seen[rung].append(best)
                break
            if epoch in seen:
                seen[epoch].append(best)
                place = sorted(seen[epoch], reverse=True).index(best) + 1
                if len(seen[epoch]) > 2 and place > max(1, math.ceil(len(seen[epoch]) / reduction_factor)):
                    break
        trained.append(epoch)
    return trained


def run(scheduler, curves, max_epochs=9, patience=3):
    """Run trials one after the other as a trial and Ray's controller would."""
    trained = []
    for number, curve in enumerate(curves):
        trial = SimpleNamespace(trial_id=str(number), config={"trial": number})
        scheduler.on_trial_add(None, trial)
        stopping = EarlyStopping(StoppingRule("recall@20", patience))
        for epoch, value in enumerate(curve, 1):
            stopping.update(value)
            exhausted = stopping.exhausted and epoch < max_epochs
            result = {"epoch": epoch, "recall@20": value, "best": stopping.best_value, "stopped_early": exhausted}
            if exhausted or epoch == max_epochs or scheduler.on_trial_result(None, trial, result) == "STOP":
                break
        scheduler.on_trial_complete(None, trial, result)
        trained.append(epoch)
    return trained


@settings(deadline=None, max_examples=60)
@given(
    curves=st.lists(st.lists(st.floats(0, 1), min_size=9, max_size=9), min_size=1, max_size=12),
    grace_period=st.integers(1, 3),
    reduction_factor=st.integers(2, 4),
)
def test_decisions_equal_the_reference(curves, grace_period, reduction_factor):
    scheduler = make(9, grace_period, reduction_factor)
    assert run(scheduler, curves) == reference(curves, 9, grace_period, reduction_factor)


def test_a_metric_that_is_not_a_number_stops_its_trial_and_marks_no_rung():
    scheduler = make()
    assert run(scheduler, [[math.nan] * 9, [0.1] * 9], patience=9) == [1, 9]
    assert all(list(values) == [1] for values in scheduler.values.values())


@pytest.mark.parametrize(
    ("max_epochs", "grace_period", "reduction_factor", "expected"),
    [(10, 1, 3, [1, 3, 9]), (9, 1, 3, [1, 3]), (8, 2, 2, [2, 4]), (1, 1, 3, [])],
)
def test_rungs(max_epochs, grace_period, reduction_factor, expected):
    spec = SearchSpec(Space(()), max_epochs=max_epochs, grace_period=grace_period, reduction_factor=reduction_factor)
    assert spec.rungs == expected


@pytest.fixture(scope="module")
def recorded():
    path = Path(__file__).parents[3] / "benchmarks" / "curves" / "yoochoose_24h.ndjson"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [[epoch["recall@20"] for epoch in line["epochs"]] for line in lines if not line["diverged"]]


@pytest.mark.parametrize("grace_period", [1, 2, 3])
@pytest.mark.parametrize("reduction_factor", [2, 3, 4])
def test_decisions_on_recorded_curves_equal_the_reference(recorded, grace_period, reduction_factor):
    scheduler = make(10, grace_period, reduction_factor)
    trained = run(scheduler, recorded, 10)
    assert trained == reference(recorded, 10, grace_period, reduction_factor)
    assert len(set(trained)) >= 3


def test_a_dip_at_a_rung_does_not_end_the_best_trial():
    curves = [[0.3] * 9, [0.3] * 9, [0.4, 0.5, 0.2, 0.3, 0.6, 0.6, 0.6, 0.7, 0.7]]
    assert run(make(), curves, patience=9)[2] == 9


def test_a_trial_without_patience_is_compared_at_the_rungs_it_did_not_reach():
    scheduler = make(27, 1, 3)
    rising = [0.55, 0.56, 0.57, 0.58, 0.59] + [0.6] * 22
    assert run(scheduler, [[0.7] * 27, [0.6] + [0.4] * 26, rising], 27, 2) == [3, 3, 1]
    assert scheduler.values[9] == {0: 0.7, 1: 0.6}


def test_the_first_two_at_a_rung_go_on():
    assert run(make(), [[0.5] * 9, [0.4] * 9, [0.45] * 9, [0.6] * 9], patience=9) == [9, 9, 1, 9]


def test_an_epoch_that_is_reported_again_is_not_judged_again():
    scheduler = make()
    worse = {"epoch": 1, "recall@20": 0.1, "best": 0.1}
    assert scheduler.judge(0, worse) == "CONTINUE"
    for number in range(1, 6):
        scheduler.judge(number, {"epoch": 1, "recall@20": 0.5, "best": 0.5})
    assert scheduler.judge(0, worse) == "CONTINUE"
    assert scheduler.judge(6, worse) == "STOP"


def test_rungs_are_those_of_the_past():
    scheduler = make()
    curves = [[0.1 * number] * 9 for number in range(5)]
    trained = run(scheduler, curves)
    past = [
        PastTrial(number, 0, {}, {}, lines(curve, epochs))
        for number, (curve, epochs) in enumerate(zip(curves, trained, strict=True))
    ]
    again = make_scheduler(scheduler_spec(), past)
    assert again.values == scheduler.values


def lines(curve, epochs):
    return [
        {"epoch": epoch, "recall@20": curve[0], "best": curve[0], "stopped_early": epoch == epochs == 4, "done": False}
        for epoch in range(1, epochs + 1)
    ]
