"""What a submission says in its log."""

from __future__ import annotations

import pytest

from cluster.events import PROGRESS, pack_progress, parse_event, render_event, unpack_progress
from tuning.progress import Progress, TrialRecord


@pytest.mark.parametrize(
    "best", [None, TrialRecord(3, 7, {"hidden_size": 8}, metrics={"recall@20": 0.5}, best_epoch=2)]
)
def test_progress_there_and_back(best):
    progress = Progress(8, {"running": 2}, 5, best, 12.5, None)
    kind, content = parse_event(render_event(PROGRESS, pack_progress(progress)))
    assert kind == PROGRESS
    assert unpack_progress(content) == progress


@pytest.mark.parametrize("line", ["", "Traceback", "gru4rec: not JSON", "gru4rec: [1]", 'gru4rec: {"a": 1, "b": 2}'])
def test_other_lines(line):
    assert parse_event(line) is None
