"""ASHA: its decisions against a reference, and what a NaN does."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.stopping import StoppingRule
from tuning.schedule import make_scheduler, rungs
from tuning.space import Space
from tuning.spec import SearchSpec


def make(max_epochs=9, grace_period=1, reduction_factor=3):
    return make_scheduler(
        SearchSpec(
            Space(()),
            max_epochs=max_epochs,
            criterion=StoppingRule("recall@20", 3),
            grace_period=grace_period,
            reduction_factor=reduction_factor,
        )
    )


def epochs_reference(curves, max_epochs, grace_period, reduction_factor):
    """Run trials one after the other; a rung stops who is below the quantile of those that came before."""
    seen = {}
    trained = []
    for curve in curves:
        for epoch in range(1, max_epochs + 1):
            if epoch == max_epochs:
                break  # the end, whatever the rungs say
            if epoch in [grace_period * reduction_factor**k for k in range(20)]:
                earlier = seen.setdefault(epoch, [])
                below = bool(earlier) and curve[epoch - 1] < np.percentile(earlier, 100 * (1 - 1 / reduction_factor))
                earlier.append(curve[epoch - 1])
                if below:
                    break
        trained.append(epoch)
    return trained


def run(scheduler, curves):
    trained = []
    for number, curve in enumerate(curves):
        trial = SimpleNamespace(trial_id=str(number))
        scheduler.on_trial_add(None, trial)
        for epoch, value in enumerate(curve, 1):
            result = {"epoch": epoch, "recall@20": value}
            if scheduler.on_trial_result(None, trial, result) == "STOP":
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
    assert run(scheduler, curves) == epochs_reference(curves, 9, grace_period, reduction_factor)


def test_a_metric_that_is_not_a_number_stops_its_trial_and_marks_no_rung():
    scheduler = make()
    assert run(scheduler, [[math.nan] * 9, [0.1] * 9]) == [1, 9]
    assert all(not math.isnan(value) for _, rung in scheduler._brackets[0]._rungs for value in rung.values())


@pytest.mark.parametrize(
    ("max_epochs", "grace_period", "reduction_factor", "expected"),
    [(10, 1, 3, [1, 3, 9]), (9, 1, 3, [1, 3]), (8, 2, 2, [2, 4]), (1, 1, 3, [])],
)
def test_rungs(max_epochs, grace_period, reduction_factor, expected):
    spec = SearchSpec(Space(()), max_epochs=max_epochs, grace_period=grace_period, reduction_factor=reduction_factor)
    assert rungs(spec) == expected
