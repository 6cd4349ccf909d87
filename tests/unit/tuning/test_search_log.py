"""Records of trials from Ray's callbacks, and the line that shows them."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from gru4rec.stopping import StoppingRule
from tuning.journal import Journal, read_journal
from tuning.progress import TrialRecord, best_record
from tuning.search_log import SearchLog
from tuning.searcher import make_searcher
from tuning.space import Space
from tuning.spec import SearchSpec
from tuning.terminal import ProgressLine, captured_output, render_progress

SPEC = SearchSpec(Space(()), trials=4, max_epochs=3, max_failures=0, criterion=StoppingRule("recall@20", 2))


def trial(number, **fields):
    fields = {"error_file": None, "num_failures": 1, "metric_analysis": {}, "metric_n_steps": {}} | fields
    return SimpleNamespace(config={"trial": number, "seed": 7, "learning_rate": 0.1}, **fields)


def result(epoch, value, done=False, stopped_early=False, **extra):
    return {
        "epoch": epoch, "loss": 1.0, "events_per_second": 10.0, "seconds": 2.0, "recall@20": value, "done": done,
        "validated_on": "all", "stopped_early": stopped_early, "epoch_seconds": 3.0, "node": "a1",
        "best": value, **extra,
    }  # fmt: skip


@pytest.fixture
def log(tmp_path):
    return SearchLog(SPEC, tmp_path, Journal(tmp_path))


def play(log, number, *results):
    log.on_trial_start(0, [], trial(number))
    for each in results:
        log.on_trial_result(0, [], trial(number), each)
    return log.records[number]


@pytest.mark.parametrize("callback", ["on_trial_complete", "on_trial_error"])
def test_what_ray_counts_of_a_trial_is_dropped_when_it_ends(log, callback):
    ended = trial(0, metric_analysis={"recall@20": {"max": 0.3}}, metric_n_steps={"recall@20": {"5": [0.3]}})
    getattr(log, callback)(0, [], ended)
    assert ended.metric_analysis == ended.metric_n_steps == {}


@pytest.mark.parametrize(
    ("results", "state", "best_epoch"),
    [
        ([result(1, 0.1)], "running", 1),
        ([result(1, 0.1), result(2, 0.3), result(3, 0.2, done=True)], "finished", 2),
        ([result(1, 0.1, done=True)], "stopped by ASHA", 1),
        ([result(1, 0.3), result(2, 0.1, done=True, stopped_early=True)], "stopped early", 1),
    ],
)
def test_how_a_trial_ended(log, results, state, best_epoch):
    record = play(log, 0, *results)
    assert (record.state, record.best_epoch, record.epochs) == (state, best_epoch, len(results))
    assert record.seconds == 3.0 * len(results)
    assert record.metrics == {"recall@20": max(each["recall@20"] for each in results)}


def test_a_diverged_trial_keeps_its_best_epoch_and_says_why(log):
    record = play(
        log, 0, result(1, 0.2), {"epoch": 2, "recall@20": math.nan, "diverged": "loss became nan", "done": True}
    )
    assert (record.state, record.error, record.best_epoch) == ("diverged", "loss became nan", 1)


def test_a_failed_trial_says_why(log, tmp_path):
    error_file = tmp_path / "error.txt"
    error_file.write_text("Traceback\nValueError: no\n\n")
    log.on_trial_start(0, [], trial(0))
    log.on_trial_error(0, [], trial(0, error_file=str(error_file)))
    assert (log.records[0].state, log.records[0].error) == ("failed", "ValueError: no")
    assert (tmp_path / "errors" / "trial-00000.txt").read_text() == error_file.read_text()


def test_a_trial_whose_process_died_says_so(log):
    log.on_trial_start(0, [], trial(0))
    log.on_trial_error(0, [], trial(0))
    assert log.records[0].error == "its process died"


def test_a_trial_is_tried_again_as_often_as_allowed_and_after_each_preemption(tmp_path):
    settled = []
    spec = dataclasses.replace(SPEC, max_failures=2)
    log = SearchLog(spec, tmp_path, Journal(tmp_path), on_failure=lambda *how: settled.append(how))
    for counted in (1, 0, 0, 1, 0, 1):
        log.on_trial_error(0, [], trial(0, num_failures=counted))
    assert settled == [(0, True)] * 5 + [(0, False)]
    assert log.records[0].state == "failed"


def test_an_epoch_measured_on_all_sessions_is_better_than_any_of_a_sample(log):
    sampled = {"validated_on": "sample"}
    record = play(log, 0, result(1, 0.6, **sampled), result(2, 0.5), result(3, 0.9, **sampled))
    assert (record.best_epoch, record.validated_on, record.metrics["recall@20"]) == (2, "all", 0.5)


def test_costs_are_recorded(tmp_path):
    spec = dataclasses.replace(SPEC, objectives=("mrr@20", "parameters"))
    log = SearchLog(spec, tmp_path, Journal(tmp_path))
    assert play(log, 0, result(1, 0.6, parameters=1200, **{"mrr@20": 0.2})).costs == {"parameters": 1200}


def test_each_finite_epoch_is_a_line(log, tmp_path):
    play(log, 3, result(1, 0.1), result(2, 0.2))
    lines = [json.loads(line) for line in (tmp_path / "epochs.ndjson").read_text().splitlines()]
    assert [(line["trial"], line["epoch"], line["recall@20"]) for line in lines] == [(3, 1, 0.1), (3, 2, 0.2)]


def test_totals_and_best(log):
    play(log, 0, result(1, 0.1), result(2, 0.2), result(3, 0.2, done=True))
    play(log, 1, result(1, 0.15, done=True))
    play(log, 2, result(1, 0.05))
    progress = log.progress()
    assert progress.states == {"finished": 1, "stopped by ASHA": 1, "running": 1}
    assert (progress.epochs, progress.best.number, progress.best.best_epoch) == (5, 0, 2)
    text = render_progress(progress, "recall@20")
    assert text.startswith(
        "trials 2/4 done, 1 running | best recall@20 0.2000 (trial 0, epoch 2) | 5 epochs | 1 stopped by ASHA"
    )


def test_totals_kept_from_report_to_report_are_those_of_the_records(log):
    random = np.random.default_rng(0)
    for _ in range(300):
        number = int(random.integers(30))
        log.on_trial_start(0, [], trial(number))
        epoch = log.records[number].epochs + 1
        if epoch > 3 or log.records[number].state != "running":
            continue
        if random.random() < 0.1:
            log.on_trial_error(0, [], trial(number))
            continue
        value = round(float(random.random()), 1)  # there are equal ones
        validated_on = ("all", "sample")[random.integers(2)]
        log.on_trial_result(0, [], trial(number), result(epoch, value, done=epoch == 3, validated_on=validated_on))
        progress, records = log.progress(), list(log.records.values())
        assert progress.states == Counter(record.state for record in records)
        assert progress.epochs == sum(record.epochs for record in records)
        assert progress.best is best_record(records, "recall@20")
    assert not log.complete
    log.close()
    assert log.progress().states == Counter(record.state for record in log.records.values())


def test_an_epoch_that_is_reported_again_counts_once(log, tmp_path):
    record = play(
        log, 0, result(1, 0.1), result(2, 0.2), result(1, 0.1, went_on_from=2), result(2, 0.2), result(3, 0.3)
    )
    assert (record.epochs, record.seconds, log.progress().epochs) == (3, 9.0, 3)
    assert len((tmp_path / "epochs.ndjson").read_text().splitlines()) == 3


def test_what_was_mended_is_told(tmp_path):
    notes = []
    spec = dataclasses.replace(SPEC, max_failures=1)
    log = SearchLog(spec, tmp_path, Journal(tmp_path), on_note=notes.append)
    play(log, 0, result(1, 0.1), result(2, 0.2, went_on_from=1, problems=["epoch-00002.pt cannot be used"]))
    log.on_trial_error(0, [], trial(0))
    assert notes == [
        "epoch-00002.pt cannot be used", "trial 0 went on from epoch 1", "trial 0 is tried again: its process died",
    ]  # fmt: skip


def test_a_log_that_knows_the_past_equals_the_one_that_wrote_it(log, tmp_path):
    """Totals, records, the best; the journal is all that there is after a crash."""
    searcher = make_searcher(SPEC, "study", Journal(tmp_path))
    for number in range(4):
        searcher.suggest(str(number))
    play(log, 0, result(1, 0.1), result(2, 0.3), result(3, 0.2, done=True))
    play(log, 1, result(1, 0.2), {"epoch": 2, "recall@20": math.nan, "diverged": "loss became nan", "done": True})
    play(log, 2, result(1, 0.4, done=True))
    play(log, 3, result(1, 0.4))
    again = SearchLog(SPEC, tmp_path, Journal(tmp_path), read_journal(tmp_path))
    blank = {"seed": 0, "hyperparameters": {}}
    expected = {number: dataclasses.replace(record, **blank) for number, record in log.records.items()}
    assert {number: dataclasses.replace(record, **blank) for number, record in again.records.items()} == expected
    before, after = log.progress(), again.progress()
    assert (after.states, after.epochs, after.best.number) == (before.states, before.epochs, before.best.number)
    assert set(again.ended) == {0, 1, 2}


def test_what_checkpoints_take_is_that_of_the_running_trials(log):
    play(log, 0, result(1, 0.1, checkpoint_bytes=2_000_000), result(2, 0.1, done=True, checkpoint_bytes=2_000_000))
    play(log, 1, result(1, 0.1, checkpoint_bytes=3_000_000))
    assert log.progress().checkpoint_bytes == 6_000_000
    assert "| checkpoints 6 MB |" in render_progress(log.progress(), "recall@20")


def test_trials_still_running_at_the_end_were_interrupted(log):
    play(log, 0, result(1, 0.1))
    log.close()
    assert log.records[0].state == "interrupted"


def test_the_first_of_equal_trials_is_best():
    records = [TrialRecord(number, 0, {}, metrics={"recall@20": 0.5}) for number in (0, 1)]
    assert best_record(records, "recall@20").number == 0
    assert best_record([TrialRecord(0, 0, {})], "recall@20") is None


def test_the_log_is_pickled_without_the_terminal(tmp_path):
    log = SearchLog(SPEC, tmp_path, Journal(tmp_path), on_progress=lambda progress: None)
    play(log, 0, result(1, 0.1))
    assert pickle.loads(pickle.dumps(log)).records == log.records


class Terminal:
    def __init__(self, is_terminal):
        self.isatty = lambda: is_terminal
        self.flush = lambda: None
        self.text = ""

    def write(self, text):
        self.text += text


@pytest.mark.parametrize(("is_terminal", "lines"), [(True, 0), (False, 1)])
def test_a_terminal_is_redrawn_and_a_file_gets_lines_now_and_then(log, is_terminal, lines):
    terminal = Terminal(is_terminal)
    line = ProgressLine(terminal, "recall@20")
    play(log, 0, result(1, 0.1))
    for _ in range(3):
        line.show(log.progress())
    assert terminal.text.count("\n") == lines
    assert terminal.text.count("\r") == (3 if is_terminal else 0)


def test_output_of_libraries_goes_to_the_log(tmp_path, capfd):
    import os

    with captured_output(tmp_path / "ray.log") as terminal:
        os.write(1, b"from C, out\n")
        os.write(2, b"from C, err\n")
        terminal.write("progress\n")
        terminal.flush()
    assert (tmp_path / "ray.log").read_text() == "from C, out\nfrom C, err\n"
    assert capfd.readouterr().err == "progress\n"
