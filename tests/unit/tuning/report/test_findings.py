"""What a result folder tells, at any time of a search."""

from __future__ import annotations

import json

import pytest

from gru4rec.errors import SearchError
from tuning.confirm import Confirmation
from tuning.report.findings import NOT_ENDED, read_findings


def test_a_search_that_has_ended(tmp_path, made, make_run, make_figures):
    trials = [made([0.1, 0.3]), made([0.2, 0.2])]
    findings = read_findings(make_run(tmp_path / "run", trials, ended="target reached", figures=make_figures(0)))
    assert findings.result.ended == "target reached"
    assert (findings.best.number, findings.value(findings.best)) == (0, 0.3)
    assert [line["recall@20"] for line in findings.curves[1]] == [0.2, 0.2]
    assert findings.figures["test"]["metrics"]["recall@20"] == 0.61


def test_a_search_that_was_killed_is_known_from_its_journal(tmp_path, made, make_run):
    path = make_run(tmp_path / "run", [made([0.1, 0.3]), made([0.2], "running")], ended=None)
    with (path / "epochs.ndjson").open("a") as file:
        file.write('{"trial": 1, "epo')
    findings = read_findings(path)
    assert findings.result.ended == NOT_ENDED
    assert [(trial.state, trial.epochs) for trial in findings.result.trials] == [("finished", 2), ("running", 1)]
    assert findings.result.elapsed_s == 20.0


def test_a_search_that_goes_on_is_newer_than_what_was_written_at_its_end(tmp_path, made, make_run):
    path = make_run(tmp_path / "run", [made([0.1], "running")], ended="interrupted")
    assert read_findings(path).result.ended == "interrupted"
    line = json.loads((path / "epochs.ndjson").read_text())
    with (path / "epochs.ndjson").open("a") as file:
        file.write(json.dumps(line | {"epoch": 2, "recall@20": 0.4}) + "\n")
    findings = read_findings(path)
    assert (findings.result.ended, findings.value(findings.best)) == (NOT_ENDED, 0.4)


def test_figures_of_an_earlier_winner_do_not_count(tmp_path, made, make_run, make_figures):
    trials = [made([0.1, 0.3]), made([0.2, 0.2])]
    assert read_findings(make_run(tmp_path / "run", trials, figures=make_figures(1))).figures == {}


def test_the_winner_is_the_confirmed_one(tmp_path, made, make_run):
    confirmed = [Confirmation(0, {"recall@20": [0.2]}), Confirmation(1, {"recall@20": [0.25]})]
    path = make_run(tmp_path / "run", [made([0.3]), made([0.28])], confirmed=confirmed)
    assert read_findings(path).best.number == 1


def test_no_winner(tmp_path, made, make_run):
    findings = read_findings(make_run(tmp_path / "run", [made([], "failed", error="no memory")]))
    assert (findings.best, findings.measured) == (None, [])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"test": 1}, "test and baselines must be objects"),
        ({"baselines": {"popularity": {"recall@20": "x"}}}, "test and baselines must have a number for each metric"),
        ({"baselines": {"popularity": {"recall@20": 0.1}}}, "test and baselines must have the same metrics"),
    ],
)
def test_damaged_figures_are_named(tmp_path, made, make_run, make_figures, change, problem):
    path = make_run(tmp_path / "run", [made([0.3])], figures=make_figures(0) | change)
    with pytest.raises(SearchError) as error:
        read_findings(path)
    assert str(error.value) == f"{path / 'best' / 'metrics.json'} cannot be read: {problem}"


def test_what_is_no_search_is_refused(tmp_path):
    with pytest.raises(SearchError, match="is not the folder of a search"):
        read_findings(tmp_path)
