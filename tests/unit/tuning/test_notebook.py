"""What a notebook shows of a search, in IPython's own display."""

from __future__ import annotations

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from tuning import notebook
from tuning.notebook import NotebookProgress
from tuning.progress import Progress, TrialRecord

BEST = TrialRecord(3, 7, {}, "finished", 4, 2, {"mrr@20": 0.25, "recall@20": 0.5}, "all")


@pytest.fixture
def outputs(monkeypatch):
    """What is displayed, each with whether it takes the place of what was there."""
    monkeypatch.setattr(InteractiveShell, "_instance", None)
    monkeypatch.setattr("IPython.core.interactiveshell.InteractiveShell.initialized", lambda: True)
    publisher = CapturingDisplayPublisher()
    shell = type("Shell", (), {"display_pub": publisher, "display_formatter": None})()
    monkeypatch.setattr("IPython.core.interactiveshell.InteractiveShell.instance", lambda: shell)
    return publisher.outputs


def progress(running, ended, trials=4):
    return Progress(trials, {"running": running, "finished": ended}, 9, BEST, 61.0, 30.0)


def test_one_output_is_redrawn(outputs):
    shown = NotebookProgress("recall@20")
    shown.show(progress(2, 1))
    shown.say("training trial 3 on <all> events")
    assert [output["update"] for output in outputs] == [False, True, True]
    assert len({output["transient"]["display_id"] for output in outputs}) == 1
    drawn = outputs[1]["data"]
    assert 'value="1" max="4"' in drawn["text/html"]
    assert "trials 1/4 done, 2 running | best recall@20 0.5000 (trial 3, epoch 2)" in drawn["text/plain"]
    assert outputs[2]["data"]["text/html"] == f"{drawn['text/html']}<br>training trial 3 on &lt;all&gt; events"


def test_it_is_redrawn_now_and_then_and_at_the_end(outputs, monkeypatch):
    clock = iter([10.0, 10.1, 10.7, 10.8])
    monkeypatch.setattr(notebook.time, "monotonic", lambda: next(clock))
    shown = NotebookProgress()
    for ended in (0, 1, 2, 4):
        shown.show(progress(0, ended))
    assert [output["data"]["text/plain"].split()[1] for output in outputs[1:]] == ["0/4", "2/4", "4/4"]
