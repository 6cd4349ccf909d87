"""Searches whose worker is cut off, whose head dies, whose storage is out, or whose nodes do not share a folder.

On hosts of their own, with Ray's own settings; it takes 22 minutes: make test-faults.
"""

from __future__ import annotations

import json
import logging
import signal
import time
from contextlib import suppress

import psutil
import pytest

from cluster.job import submit
from cluster.jobs import SUCCEEDED
from gru4rec.fitting import run_epoch
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model_folder import load_model
from gru4rec.training import Trainer
from tuning.search import make_task, read_data
from tuning.spec import read_spec
from tuning.storage import Storage

HEAD, WORKERS = 0, (1, 2)
HOSTS = (HEAD, *WORKERS)
SECONDS_OUT = 15
LOG = logging.getLogger(__name__)


@pytest.fixture(scope="module", autouse=True)
def isolated(hosts):
    if not hasattr(hosts, "link"):
        pytest.skip("needs root and Linux namespaces: run as root, with the programs ip, nsenter and unshare")


@pytest.fixture
def filled(hosts):
    """The head and the workers are there, new ones."""
    hosts.fill()
    hosts.fill(*HOSTS)


@pytest.fixture
def stored(read_epochs, tmp_path_factory):
    """Bring the journal of a submission from its storage: the lines of epochs.ndjson and of trials.ndjson."""

    def bring(location, name):
        folder = tmp_path_factory.mktemp("stored")
        for file in ("epochs.ndjson", "trials.ndjson"):
            if Storage(location).exists(f"{name}/{file}"):
                Storage(location).download(f"{name}/{file}", folder / file)
            else:
                (folder / file).touch()
        lines = (folder / "trials.ndjson").read_text().splitlines(keepends=True)
        return read_epochs(folder), [json.loads(line) for line in lines if line.endswith("\n")]

    return bring


@pytest.fixture
def saved(tmp_path_factory):
    """Return the last epoch of which each trial has a checkpoint."""

    def last(location, name):
        storage = Storage(location)
        return {
            int(folder.removeprefix("trial-")): max(
                (int(file[6:11]) for file in storage.names(f"{name}/checkpoints/{folder}")), default=0
            )
            for folder in storage.folders(f"{name}/checkpoints")
        }

    return last


def undisturbed(search, trial, epochs):
    """Train a trial here, from its first epoch to its last: what each epoch must report."""
    spec = read_spec(search)
    task = make_task(spec, read_data(spec))
    hyperparameters = HyperParameters.from_dict(trial["hyperparameters"])
    trainer = Trainer(hyperparameters, task.train, seed=trial["seed"], device="cpu")
    return [run_epoch(trainer, task.validation, task.metrics) for _ in range(epochs)]


def check_curves(search, lines, trials, max_epochs):
    """Check that there is every epoch of every trial once, and that it is what it would have been undisturbed."""
    found = {(line["trial"], line["epoch"]): line for line in lines}
    numbers = [trial["trial"] for trial in trials]
    assert sorted((line["trial"], line["epoch"]) for line in lines) == sorted(
        (number, epoch) for number in numbers for epoch in range(1, max_epochs + 1)
    )
    for trial in trials:
        for expected in undisturbed(search, trial, max_epochs):
            line = found[trial["trial"], expected["epoch"]]
            for key in expected:
                if "@" in key or key == "loss":
                    assert line[key] == expected[key], (trial["trial"], expected["epoch"], key)


def named(hosts, name, *numbers):
    """Return the processes of hosts that Ray has given a title that begins so."""
    found = []
    for process in [process for number in numbers for process in hosts.processes(number)]:
        with suppress(psutil.NoSuchProcess):
            if "".join(process.cmdline()[:1]).startswith(name):
                found.append(process)
    return found


def test_results_that_nodes_do_not_have_are_refused(hosts, filled, folder, bucket, write_search):
    """The search's own process is on a worker, in a folder that each host has for itself."""
    search = write_search(folder / "short.toml", trials=2, max_epochs=2, batch_size=64)
    address = f"{hosts.address(HEAD)}:6379"
    command = ["gru4rec", "tune", "run", str(search), "--address", address, "--out"]
    refused = hosts.run(1, *command, f"{hosts.own}/refused")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "is another place than here" in refused.stderr
    assert "give --storage a folder that all nodes have" in refused.stderr.replace("\n", " ")
    hosts.run(1, "test", "!", "-e", f"{hosts.own}/refused/epochs.ndjson").check_returncode()
    storage = Storage(bucket).join("own", "checkpoints")
    done = hosts.run(1, *command, f"{hosts.own}/run", "--storage", storage)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = hosts.run(1, "cat", f"{hosts.own}/run/epochs.ndjson").stdout.splitlines()
    epochs = sorted((line["trial"], line["epoch"]) for line in map(json.loads, lines))
    assert epochs == [(trial, epoch) for trial in range(2) for epoch in (1, 2)]
    assert hosts.run(1, "test", "-e", f"{hosts.own}/run/checkpoints").returncode == 1


def test_a_storage_that_is_out_for_a_while(
    hosts, filled, folder, bucket, tmp_path, until, write_cluster, write_search, stored, saved
):
    """It hangs while trials train, and dies and starts again when the search ends and its result is to be stored."""
    search = write_search(folder / "out.toml", trials=3, max_epochs=6, batch_size=64)
    job = submit(write_cluster("s3", bucket), search, "out")
    until(lambda: max(saved(bucket, "out").values(), default=0) >= 2, job.logs)
    hosts.signal_s3(signal.SIGSTOP)
    time.sleep(SECONDS_OUT)
    hosts.signal_s3(signal.SIGCONT)
    until(lambda: "training trial" in job.logs(), job.logs)
    hosts.lose_s3()
    until(lambda: named(hosts, "ray::train_trial", *HOSTS))
    until(lambda: not named(hosts, "ray::train_trial", *HOSTS))
    time.sleep(SECONDS_OUT)
    hosts.add_s3()
    assert job.wait() == SUCCEEDED, job.logs()[-3000:]
    check_curves(search, *stored(bucket, "out"), max_epochs=6)
    assert "is tried again" not in job.logs()  # no trial failed over it
    assert load_model(job.fetch_model(tmp_path / "model")).metrics["epoch"] > 0


def test_a_worker_is_cut_off_and_comes_back(hosts, filled, folder, until, write_cluster, write_search, stored, saved):
    """Its trial goes on elsewhere; the process there is held up, so that its report and checkpoint come late."""
    hosts.lose(2)
    until(lambda: "host-2" not in hosts.alive())
    hosts.add(2, RAY_gcs_rpc_server_reconnect_timeout_s="600")  # it would end before it comes back
    until(lambda: "host-2" in hosts.alive())
    before = hosts.alive()["host-2"]
    cluster = write_cluster("shared", "runs")
    search = write_search(folder / "cut.toml", trials=3, max_epochs=25, batch_size=64)
    job = submit(cluster, search, "cut")
    runs = str(folder / "runs")

    def at(there):
        return [line for line in stored(runs, "cut")[0] if (line["node"] == before) == there]

    until(lambda: len(at(True)) >= 3, job.logs)
    (process,) = named(hosts, "ray::ResourceTrainable", 2)
    hosts.link(2, "down")
    process.suspend()
    cut = time.monotonic()
    trial = at(True)[0]["trial"]
    reached = saved(runs, "cut")[trial]
    until(lambda: [line for line in at(False) if line["trial"] == trial and line["epoch"] > reached + 1], job.logs)
    LOG.info("the trial goes on after %.0f s", time.monotonic() - cut)
    process.resume()
    until(lambda: not named(hosts, "ray::ResourceTrainable.train", 2))
    hosts.link(2, "up")
    until(lambda: not hosts.processes(2))
    assert job.wait() == SUCCEEDED, job.logs()[-3000:]
    lines, trials = stored(runs, "cut")
    assert {line["epoch"] for line in lines if line["trial"] == trial and line["node"] == before} <= set(
        range(1, reached + 1)
    )
    check_curves(search, lines, trials, max_epochs=25)


@pytest.mark.parametrize(("where", "silent"), [("shared", False), ("s3", True)])
def test_the_head_is_lost(
    where, silent, hosts, filled, folder, bucket, tmp_path, until, write_cluster, write_search, stored, saved
):
    """Its processes die, or all of the machine; the workers end by themselves, and new ones take up the search."""
    storage = {"shared": str(folder / "runs"), "s3": bucket}[where]
    cluster = write_cluster(where, storage)
    search = write_search(folder / "lost.toml", trials=8, max_epochs=4, batch_size=32)
    name = f"lost-{where}"
    job = submit(cluster, search, name)
    until(lambda: max(saved(storage, name), default=0) >= 4, job.logs)  # so two or more of them have ended
    old = {*hosts.alive().values()}
    if silent:
        hosts.link(HEAD, "down")
    hosts.lose(HEAD)
    lost, reached = time.monotonic(), saved(storage, name)
    until(lambda: not any(map(hosts.processes, WORKERS)), seconds=480 if silent else 240)
    LOG.info("%s: the workers have ended after %.0f s", where, time.monotonic() - lost)
    lines, trials = stored(storage, name)
    checkpoints = saved(storage, name)
    assert all(last <= reached.get(trial, 0) + 1 for trial, last in checkpoints.items())  # then they waited
    hosts.fill()
    hosts.fill(*HOSTS)
    again = submit(cluster, search, name, resume=True)
    assert again.wait() == SUCCEEDED, again.logs()[-3000:]
    after, all_trials = stored(storage, name)
    assert after[: len(lines)] == lines  # what was there stays: no trial that had ended runs again
    assert all_trials[: len(trials)] == trials
    ended = {line["trial"] for line in lines if line["state"] == "finished"}
    assert len(ended) >= 2 or where == "s3"  # there the journal is behind
    assert not {line["trial"] for line in after[len(lines) :]} & ended
    for trial in trials:  # nothing of which there was a checkpoint is trained again
        last = checkpoints.get(trial["trial"], 0)
        assert {line["node"] for line in after if line["trial"] == trial["trial"] and line["epoch"] <= last} <= old
    check_curves(search, after, all_trials, max_epochs=4)
    model = again.fetch_model(tmp_path / "model")
    # And once more, as when it had ended before its head was lost; after a change at that.
    search.write_text(search.read_text().replace("grace_period = 4", "grace_period = 1"))
    ended = submit(cluster, search, name, resume=True, changed=True)
    assert ended.wait() == SUCCEEDED, ended.logs()[-3000:]
    assert stored(storage, name) == (after, all_trials)
    same = ended.fetch_model(tmp_path / "same")
    assert (same / "weights.safetensors").read_bytes() == (model / "weights.safetensors").read_bytes()
