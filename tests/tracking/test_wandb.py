"""What Weights & Biases keeps of a search, offline: no account is needed, and nothing is sent."""

from __future__ import annotations

import json
import re
import struct

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from gru4rec.errors import SearchError
from tuning.logging_spec import LoggingSpec
from tuning.space import Space
from tuning.spec import SearchSpec
from tuning.trackers.wandb import WandbTracker
from tuning.tracking import Subject

FILE_HEADER, BLOCK, HEADER = 7, 32_768, struct.Struct("<IHB")  # checksum, length, kind: whole, first, middle, last
WHOLE, LAST = 1, 4


def records(folder):
    """Return the records of a run's file, which `wandb sync` would send: LevelDB's log format after a header."""
    (path,) = folder.glob("*.wandb")
    content, place, parts = path.read_bytes(), FILE_HEADER, []
    while place + HEADER.size <= len(content):
        if BLOCK - place % BLOCK < HEADER.size:  # no header fits into what is left of the block
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(content, place)
        place += HEADER.size
        parts.append(content[place : place + length])
        place += length
        if kind in (WHOLE, LAST):
            yield wandb_internal_pb2.Record.FromString(b"".join(parts))
            parts = []


def runs(shown):
    """Return the run's record, its history by step, and its summary for each folder that has the record already."""
    for folder in sorted((shown.path / "wandb").glob("offline-run-*")):
        run, history, summary = None, {}, {}
        for record in records(folder):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = record.run
            elif kind == "history":
                values = {"/".join([item.key, *item.nested_key]).strip("/"): item.value_json
                          for item in record.history.item}  # fmt: skip
                history[record.history.step.num] = {name: json.loads(value) for name, value in values.items()}
            elif kind == "summary":
                for item in record.summary.update:
                    summary["/".join([item.key, *item.nested_key]).strip("/")] = json.loads(item.value_json)
        if run is not None:
            yield run, history, summary


def test_each_trial_is_a_run_of_one_group(shown):
    search_id = json.loads((shown.path / "tracking.json").read_text())["search_id"]
    found = list(runs(shown))
    assert {run.run_id for run, _, _ in found} == {
        f"{search_id}-{name}" for name in ("trial-00000", "trial-00001", "trial-00002", "winner")
    }
    assert {(run.project, run.run_group) for run, _, _ in found} == {("shop", "run")}
    assert {name for run, _, _ in found for name in re.findall(r"run/(.+)", run.display_name)} >= {"winner"}


def test_every_epoch_is_a_step(shown):
    epochs = shown.epochs()
    seen = {}
    for run, history, _ in runs(shown):
        if "trial" in run.run_id:
            values = {step: values["recall@20"] for step, values in history.items()}
            seen.setdefault(int(run.run_id[-5:]), {}).update(values)
    assert seen == {trial: {line["epoch"]: line["recall@20"] for line in lines} for trial, lines in epochs.items()}


def test_the_winner_s_run_has_the_test_figures(shown):
    figures = json.loads((shown.path / "best/metrics.json").read_text())
    (summary,) = [summary for run, _, summary in runs(shown) if run.job_type == "winner"]
    assert summary["test/recall@20"] == figures["test"]["metrics"]["recall@20"]
    assert summary["trial"] == figures["trial"]


def test_without_a_key_nobody_is_asked_for_one(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()  # it has read the environment
    spec = SearchSpec(Space(()), logging=LoggingSpec(wandb="shop"))
    try:
        with pytest.raises(SearchError, match=r"no key for Weights & Biases was found; hint: wandb login, or set"):
            WandbTracker(Subject(tmp_path, spec, spec.space, "id"))
    finally:
        wandb.teardown()
