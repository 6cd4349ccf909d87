"""Searches that are killed, stopped or extended, and go on; on a real Ray."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest

from gru4rec import read_log, split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.data.writing import write_log
from gru4rec.errors import SearchError, StorageError
from gru4rec.stopping import StoppingRule
from tuning import Dimension, SearchData, SearchSpec, Space, load_result, resume, tune
from tuning.journal import EPOCHS, TRIALS
from tuning.result import held

TIMES = ["seconds", "epoch_seconds", "events_per_second", "elapsed_s", "node"]
SPEC = SearchSpec(
    Space(
        (Dimension("learning_rate", "float", 0.02, 0.3, log=True),),
        {"loss_fn": "cross-entropy", "embedding": "tied", "hidden_size": 16, "num_negatives": 32, "batch_size": 16},
    ),
    trials=4,
    max_epochs=4,
    grace_period=1,
    seed=1,
    criterion=StoppingRule("recall@20", 4),
    max_concurrent_trials=1,
)


@pytest.fixture(scope="module")
def data():
    train, validation = split_time_share(read_log(generate_log(500, 100, seed=2)), 0.3)
    return SearchData(train, validation)


@pytest.fixture(scope="module")
def undisturbed(ray_local, data, tmp_path_factory):
    return tune(SPEC, tmp_path_factory.mktemp("search") / "run", data)


@pytest.fixture
def folder(undisturbed, tmp_path):
    """Return a copy of the search's folder."""
    return shutil.copytree(undisturbed.path, tmp_path / "run")


def found(result):
    """Return what a search found, without what a clock says."""
    table = result.epochs().drop(columns=TIMES).sort_values(["trial", "epoch"]).reset_index(drop=True)
    records = [dataclasses.replace(record, seconds=0.0) for record in result.trials]
    weights = hashlib.sha256((result.best_model / "weights.safetensors").read_bytes()).hexdigest()
    return table.to_json(double_precision=15), records, weights


@pytest.mark.parametrize("lines", [0, 1, 3, 7, 8])
def test_a_search_cut_off_after_any_epoch_goes_on_to_the_same_end(folder, data, undisturbed, lines):
    """Nothing but the journal is left: its first lines are what a killed search leaves behind."""
    epochs = (folder / EPOCHS).read_bytes().splitlines(keepends=True)
    (folder / EPOCHS).write_bytes(b"".join(epochs[:lines]) + b'{"trial": 1, "ep')
    last = max([json.loads(line)["trial"] for line in epochs[:lines]], default=0)
    begun = (folder / TRIALS).read_bytes().splitlines(keepends=True)
    (folder / TRIALS).write_bytes(b"".join(begun[: last + 1]))
    for name in ("search.json", "trials.parquet", "report.html"):
        (folder / name).unlink()
    shutil.rmtree(folder / "best")
    assert found(resume(folder, data, spec=SPEC)) == found(undisturbed)


def test_a_search_that_ended_gets_more_trials(folder, data, undisturbed):
    result = resume(folder, data, spec=dataclasses.replace(SPEC, trials=6))
    assert [dataclasses.asdict(record) for record in result.trials[:4]] == [
        dataclasses.asdict(record) for record in undisturbed.trials
    ]
    assert len(result.trials) == 6
    assert load_result(folder).spec.trials == 6


def test_a_search_that_ended_has_nothing_to_go_on_with(folder, data):
    with pytest.raises(SearchError, match=r"has ended: it has 4 trials; hint: --trials gives it more"):
        resume(folder, data, spec=SPEC)


def test_only_the_model_is_made_when_only_that_is_missing(folder, data, undisturbed):
    shutil.rmtree(folder / "best")
    assert found(resume(folder, data, spec=SPEC)) == found(undisturbed)


def test_a_search_killed_before_its_new_winner_was_written_goes_on(folder, data, monkeypatch):
    """Its old winner is there, its new trials have ended, and the new winner is not made yet."""
    more = dataclasses.replace(SPEC, trials=6)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tuning.search.train_trial", killed)
        resume(folder, data, spec=more)
    assert not load_result(folder).exported
    result = resume(folder, data, spec=more)
    assert len(pd.read_csv(result.best_model / "search" / "leaderboard.csv")) == 6
    with pytest.raises(SearchError, match="has ended: it has 6 trials"):
        resume(folder, data, spec=more)


@pytest.mark.parametrize("name", ["search.json", "trials.parquet"])
def test_a_table_that_is_damaged_is_written_again(folder, data, name):
    before = load_result(folder)
    (folder / name).write_bytes(b"")
    resume(folder, data, spec=SPEC)
    assert load_result(folder).trials == before.trials


def test_a_search_of_other_data_is_refused_unless_told(folder, data):
    other = SearchData(data.validation, data.train)
    more = dataclasses.replace(SPEC, trials=5)
    with pytest.raises(SearchError, match=r"train was \w+, is \w+; validation was"):
        resume(folder, other, spec=more)
    assert len(resume(folder, other, spec=more, changed=True).trials) == 5


def test_a_search_that_runs_is_left_alone(folder, data):
    with held(folder), pytest.raises(SearchError, match="is in use: its search is running"):
        resume(folder, data, spec=dataclasses.replace(SPEC, trials=5))


def test_a_trial_that_always_fails_is_recorded_and_the_search_goes_on(ray_local, data, tmp_path):
    """It asks for more memory than there is."""
    size = Dimension("hidden_size", "int", 8, 1_000_000_000)
    points = tuple({"hidden_size": value, "learning_rate": 0.1} for value in (8, 1_000_000_000, 16))
    space = Space((*SPEC.space.dimensions, size), {**SPEC.space.fixed}, points)
    space.fixed.pop("hidden_size")
    said = []
    spec = dataclasses.replace(SPEC, space=space, trials=3, max_failures=1)
    result = tune(spec, tmp_path / "run", data, on_stage=said.append)
    assert [record.state == "failed" for record in result.trials] == [False, True, False]
    assert "RuntimeError" in result.trials[1].error
    assert "RuntimeError" in (tmp_path / "run" / "errors" / "trial-00001.txt").read_text()
    assert [text for text in said if "tried again" in text] == [f"trial 1 is tried again: {result.trials[1].error}"]
    assert load_result(result.path).trials == result.trials


def test_a_full_disk_ends_the_search_and_leaves_it_fit_to_go_on(ray_local, data, undisturbed, tmp_path):
    """The result folder is on a disk of its own, too small for two checkpoints."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")
    try:
        with pytest.raises(StorageError, match=r"No space left on device.*gru4rec tune resume"):
            tune(SPEC, disk / "run", data)
        assert (disk / "run" / EPOCHS).read_text()
        subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
        assert found(resume(disk / "run", data, spec=SPEC)) == found(undisturbed)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def command(tmp_path, data):
    """Return how a search of 3 trials is run from the command line, in a process group of its own."""
    write_log(data.train.to_frame(), tmp_path / "train.csv")
    write_log(data.validation.to_frame(), tmp_path / "validation.csv")
    (tmp_path / "search.toml").write_text(
        "data.train = 'train.csv'\ndata.validation = 'validation.csv'\n[search]\ntrials = 3\nmax_epochs = 12\n"
        "max_concurrent_trials = 1\nrefit = false\n[stopping]\ngrace_period = 12\nmax_iter_no_change = 12\n"
        "[fixed]\nbatch_size = 16\n[space.hidden_size]\ntype = 'int'\nlow = 8\nhigh = 16\n"
    )
    started = []

    def run(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", "from gru4rec.cli.main import main; main()", "tune", *arguments],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()


def test_a_search_whose_process_is_ended_goes_on(command, tmp_path):
    """First it is asked to end, then it is killed."""
    epochs = tmp_path / "run" / EPOCHS
    process = command("run", "search.toml", "--out", "run")
    before, err = end(process, signal.SIGTERM, epochs, lines=6)
    assert process.returncode == 143
    assert f"terminated; gru4rec tune resume {tmp_path}/run goes on" in err
    assert load_result(tmp_path / "run").ended == "terminated"
    process = command("resume", "run")
    more, err = end(process, signal.SIGKILL, epochs, lines=18)
    assert process.returncode == -signal.SIGKILL
    assert more.startswith(before)
    assert "went on from epoch" in err
    process = command("resume", "run", "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert len(json.loads(out)["trials"]) == 3
    lines = [json.loads(line) for line in epochs.read_text().splitlines()]
    assert [(line["trial"], line["epoch"]) for line in lines] == [(t, e) for t in range(3) for e in range(1, 13)]
    assert epochs.read_bytes().startswith(more)
    assert "went on from epoch" in err


def end(process, sent, epochs, lines):
    """Signal a search when it has so many epochs; return the whole lines that it leaves, and what it said.

    All that it had started ends with it.
    """
    wait_for(lambda: epochs.exists() and epochs.read_text().count("\n") > lines, process)
    children = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if not child.name().endswith("Agent")  # Ray's agents look for their node once a minute or so
    ]
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    _, left = psutil.wait_procs(children, timeout=60)
    assert left == []
    content = epochs.read_bytes()
    return content[: content.rfind(b"\n") + 1], err


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
