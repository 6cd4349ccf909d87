"""Where the time went, against sums done by hand."""

from __future__ import annotations

import pytest

from tuning.report.account import Ending, Span, make_account
from tuning.report.findings import read_findings


@pytest.fixture
def account(tmp_path, made, make_run):
    """Two slots for 64 s; one trial of six epochs in the first, two that ASHA stopped and a diverged one beside it."""
    trials = [
        made([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "finished", 10.0, 0.0),
        made([0.1, 0.1], "stopped by ASHA", 5.0, 0.0),
        made([0.2, 0.2], "stopped by ASHA", 20.0, 12.0),
        made([], "diverged", error="loss became NaN"),
    ]
    return make_account(read_findings(make_run(tmp_path / "run", trials, elapsed_s=64.0)))


def test_times_of_slots(account):
    assert account.slots == 2
    assert account.trained_s == 60 + 10 + 40
    assert account.idle_s == 2 * 64 - 110
    assert account.tail_s == (64 - 60) + (64 - 52)


def test_what_asha_saved_is_at_each_trials_own_speed(account):
    assert account.saved_epochs == 4 + 4
    assert account.saved_s == 4 * 5 + 4 * 20


def test_trials_by_how_they_ended(account):
    assert account.endings == [
        Ending("finished", 1, 6, 60.0), Ending("stopped by ASHA", 2, 4, 50.0), Ending("diverged", 1, 0, 0.0),
    ]  # fmt: skip


def test_a_trial_takes_the_first_free_slot(account):
    assert account.spans == [
        Span(0, "finished", 0, 0, 0.0, 60.0),
        Span(1, "stopped by ASHA", 0, 1, 0.0, 10.0),
        Span(2, "stopped by ASHA", 0, 1, 12.0, 52.0),
    ]


def test_slots_are_those_of_a_node(tmp_path, made, make_run):
    trials = [made([0.1], node="a"), made([0.2], node="b"), made([0.3], begin_s=11.0, node="b")]
    spans = make_account(read_findings(make_run(tmp_path / "run", trials))).spans
    assert [(span.node, span.slot) for span in spans] == [(0, 0), (1, 0), (1, 0)]


def test_a_search_without_an_epoch(tmp_path, made, make_run):
    account = make_account(read_findings(make_run(tmp_path / "run", [made([], "failed", error="no memory")])))
    assert (account.slots, account.trained_s, account.idle_s, account.saved_s) == (0, 0, 0, 0)
