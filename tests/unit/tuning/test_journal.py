"""The record of a search on disk, whole and after a crash."""

from __future__ import annotations

import errno
import json
import os

import pytest

from gru4rec.errors import SearchError, StorageError
from tuning.journal import EPOCHS, TRIALS, Journal, read_journal, read_lines, repair_journal

BEGIN = [{"trial": number, "seed": 7, "hyperparameters": {"momentum": 0.1}, "params": {"m": 0.1}} for number in (0, 1)]
TIMES = {"best": 0.5, "validated_on": "all", "epoch_seconds": 0.1, "elapsed_s": 0.2}
LINES = [
    {"trial": 0, "epoch": 1, "state": "running", **TIMES},
    {"trial": 1, "epoch": 1, "state": "stopped by ASHA", **TIMES},
    {"trial": 0, "epoch": 2, "state": "stopped early", **TIMES},
]


@pytest.fixture
def folder(tmp_path):
    journal = Journal(tmp_path)
    for line in BEGIN:
        journal.append(TRIALS, line, now=True)
    for line in LINES:
        journal.append(EPOCHS, line)
    return tmp_path


def test_what_is_written_is_read(folder):
    first, second = read_journal(folder)
    assert (first.number, first.seed, first.hyperparameters, first.params) == (0, 7, {"momentum": 0.1}, {"m": 0.1})
    assert [(line["epoch"], line["done"], line["stopped_early"]) for line in first.epochs] == [
        (1, False, False),
        (2, True, True),
    ]
    assert (first.running, second.running) == (False, False)


def test_a_trial_that_failed_has_ended(folder):
    Journal(folder).append(TRIALS, {"trial": 1, "state": "failed", "epochs": 1, "error": "no"})
    assert read_journal(folder)[1].end["error"] == "no"


def test_without_a_journal_there_are_no_trials(tmp_path):
    assert read_journal(tmp_path) == []
    repair_journal(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [TRIALS, EPOCHS])
def test_whatever_is_left_of_the_last_line_is_cut_off(folder, name):
    whole = (folder / name).read_bytes()
    lines = len(read_lines(folder / name))
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        (folder / name).write_bytes(whole[:-cut])
        repair_journal(folder)
        assert len(read_lines(folder / name)) == lines - 1
        assert (folder / name).read_bytes() == b"".join(whole.splitlines(keepends=True)[:-1])


def test_epochs_of_a_trial_whose_beginning_was_lost_are_dropped(folder):
    (folder / TRIALS).write_bytes((folder / TRIALS).read_bytes().splitlines(keepends=True)[0])
    repair_journal(folder)
    assert [line["trial"] for line in read_lines(folder / EPOCHS)] == [0, 0]


def test_a_journal_that_is_whole_is_left_alone(folder):
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    repair_journal(folder)
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before


def test_a_damaged_line_is_named(folder):
    content = (folder / EPOCHS).read_bytes().splitlines(keepends=True)
    (folder / EPOCHS).write_bytes(content[0] + b"{]\n" + content[2])
    with pytest.raises(SearchError, match=r"epochs.ndjson, line 2 is damaged: Expecting.*; hint: remove that line"):
        read_journal(folder)


@pytest.mark.parametrize(
    ("name", "line", "problem"),
    [
        (TRIALS, "[]", "must hold an object, got []"),
        (TRIALS, "[" * 100_000, "is damaged: maximum recursion depth exceeded"),
        (TRIALS, '{"params": {}}', "trial must be of type int, got nothing"),
        (TRIALS, json.dumps(BEGIN[1] | {"seed": "x" * 9999}), "seed must be of type int, got 'xxx"),
        (TRIALS, json.dumps(BEGIN[1]), "trial 1 begins, expected 2"),
        (TRIALS, '{"trial": 2, "state": "failed", "epochs": 1, "error": ""}', "trial 2 ends, which did not begin"),
        (EPOCHS, json.dumps(LINES[0] | {"trial": True}), "trial must be of type int, got True"),
        (EPOCHS, json.dumps(LINES[0] | {"trial": -1}), "trial must be >= 0, got -1"),
        (EPOCHS, json.dumps(LINES[0] | {"best": None}), "best must be of type float, got None"),
    ],
)
def test_a_line_of_another_shape_is_named(folder, name, line, problem):
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(before + line.encode() + b"\n")
    number = 1 + len(before.splitlines())
    for read in (read_journal, repair_journal):
        with pytest.raises(SearchError) as error:
            read(folder)
        assert f"{name}, line {number}" in str(error.value)
        assert problem in str(error.value)
        assert len(str(error.value)) < 1000


def test_an_epoch_without_what_the_search_looks_at_is_named(folder):
    with pytest.raises(SearchError, match=r"epochs.ndjson, line 1: recall@7 must be of type float, got nothing"):
        read_journal(folder, measured=["recall@7"])


def test_a_full_disk_is_told(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    journal = Journal(folder)
    with pytest.raises(StorageError, match=r"epochs.ndjson cannot be written: No space left on device"):
        journal.append(EPOCHS, LINES[0], now=True)
    assert "No space left" in journal.problem
