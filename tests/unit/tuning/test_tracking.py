"""Tools are told what the journal has, all of it and once, whatever they raise in between."""

from __future__ import annotations

import json
import time

import pytest

from tuning import tracking
from tuning.journal import EPOCHS, TRIALS, Journal
from tuning.logging_spec import LoggingSpec
from tuning.space import Space
from tuning.spec import SearchSpec
from tuning.tracking import Tail, Tracking

SPEC = SearchSpec(Space(()), logging=LoggingSpec(tensorboard=True))


class Listener:
    """A tracker that writes down what it is told, and raises at some of it."""

    def __init__(self, told, raises_at=()):
        self._told = told
        self._raises_at = raises_at

    def begin(self, line):
        self._hear("begin", line["trial"])

    def epoch(self, line):
        self._hear("epoch", line["trial"], line["epoch"])

    def end(self, number, state, error):
        self._hear("end", number, state, error)

    def close(self, ended, model):
        self._hear("close", ended)

    def _hear(self, *words):
        if words in self._raises_at:
            raise ConnectionError("nobody answers\nTraceback")
        self._told.append(words)


@pytest.fixture
def listeners(monkeypatch):
    """A list of what is raised at by each tracker that is made, in turn; and of what each has been told."""
    made, raises_at = [], []

    def make(tool, subject):
        made.append([])
        return Listener(made[-1], raises_at.pop(0) if raises_at else ())

    monkeypatch.setattr(tracking, "make_tracker", make)
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_LOOKS", 0.01)
    return raises_at, made


def write(journal):
    for trial in (0, 1, 2):
        journal.append(TRIALS, {"trial": trial, "seed": 7, "hyperparameters": {}, "params": {}})
    journal.append(EPOCHS, {"trial": 0, "epoch": 1, "state": "running"})
    journal.append(EPOCHS, {"trial": 1, "epoch": 1, "state": "stopped by ASHA"})
    journal.append(EPOCHS, {"trial": 0, "epoch": 2, "state": "running"})
    journal.append(TRIALS, {"trial": 0, "state": "failed", "epochs": 2, "error": "it died"})


ALL_OF_IT = {
    ("begin", 0), ("begin", 1), ("begin", 2), ("epoch", 0, 1), ("epoch", 1, 1), ("epoch", 0, 2),
    ("end", 1, "stopped by ASHA", ""), ("end", 0, "failed", "it died"), ("close", "all trials ended"),
}  # fmt: skip


def show(path, writes=write):
    said = []
    with Tracking(path, SPEC, 100, said.append) as shown:
        writes(Journal(path))
        shown.ended = "all trials ended"
    return shown.notes, said


def test_everything_is_told_once_and_in_order(listeners, tmp_path):
    notes, said = show(tmp_path)
    (told,) = listeners[1]
    assert set(told) == ALL_OF_IT
    assert len(told) == len(ALL_OF_IT)
    assert told.index(("begin", 1)) < told.index(("epoch", 1, 1)) < told.index(("end", 1, "stopped by ASHA", ""))
    assert told.index(("epoch", 0, 2)) < told.index(("end", 0, "failed", "it died"))
    assert (told[-1], notes, said) == (("close", "all trials ended"), [], [])


def test_a_tracker_that_failed_is_made_anew_and_told_everything(listeners, tmp_path):
    listeners[0].append([("epoch", 0, 2)])
    said = []
    with Tracking(tmp_path, SPEC, 100, said.append) as shown:
        write(Journal(tmp_path))
        while not said:
            time.sleep(0.01)
        shown.ended = "all trials ended"
    assert set(listeners[1][-1]) == ALL_OF_IT
    problem = "ConnectionError: nobody answers"
    assert said[0] == f"tensorboard failed, the search goes on: {problem}"
    assert shown.notes == [f"tensorboard failed for a while, and has been told everything since: {problem}"]


def test_one_that_goes_on_failing_is_said_once_and_noted(listeners, tmp_path):
    listeners[0].extend([[("close", "all trials ended")]] * 3)
    notes, said = show(tmp_path)
    assert notes == ["tensorboard failed, and lacks part of the search: ConnectionError: nobody answers"]
    assert said == ["tensorboard failed, the search goes on: ConnectionError: nobody answers", *notes]


def test_one_that_never_answers_keeps_nobody_waiting(listeners, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "SECONDS_TO_ANSWER", 0.1)
    monkeypatch.setattr(Listener, "begin", lambda self, line: time.sleep(1.0))
    assert show(tmp_path)[0] == ["tensorboard did not answer in time; it may lack what came last"]


def test_the_search_s_id_is_kept(listeners, tmp_path):
    show(tmp_path)
    first = json.loads((tmp_path / "tracking.json").read_text())
    show(tmp_path, lambda journal: None)
    assert json.loads((tmp_path / "tracking.json").read_text()) == first


def test_half_a_line_waits_for_its_other_half(tmp_path):
    tail = Tail(tmp_path / "lines")
    assert tail.read() == []
    (tmp_path / "lines").write_bytes(b'{"a": 1}\n{"a"')
    assert tail.read() == [{"a": 1}]
    (tmp_path / "lines").write_bytes(b'{"a": 1}\n{"a": 2}\n')
    assert tail.read() == [{"a": 2}]
    assert tail.read() == []
