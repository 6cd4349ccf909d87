"""Event files, read as the format is documented: length, checksum, event, checksum. TensorBoard: tests/tracking."""

from __future__ import annotations

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from tuning.space import Space
from tuning.spec import SearchSpec
from tuning.trackers.tensorboard import TensorBoardTracker
from tuning.tracking import Subject

BEGIN = {"trial": 3, "seed": 7, "hyperparameters": {"loss_fn": "bpr-max", "clipnorm": None, "momentum": 0.5}}


def epoch(number, value):
    return {"trial": 3, "epoch": number, "recall@20": value, "loss": 1.5, "node": "n1", "state": "running"}


@pytest.fixture
def make(tmp_path):
    return lambda: TensorBoardTracker(Subject(tmp_path, SearchSpec(Space(())), Space(()), "id"))


@pytest.fixture
def events(tmp_path):
    """A function: the events of trial 3, without the one that says the version."""

    def read():
        (file,) = (tmp_path / "tensorboard/trial-00003").iterdir()
        content, found = file.read_bytes(), []
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
        return found[1:]

    return read


def curve(events):
    return [(event.step, value.simple_value) for event in events for value in event.summary.value
            if value.tag == "recall@20"]  # fmt: skip


def test_curves_have_our_names_and_the_epoch_as_step(make, events):
    tracker = make()
    tracker.begin(BEGIN)
    tracker.epoch(epoch(1, 0.25))
    assert curve(events()) == [(1, 0.25)]  # at once: a search that runs is looked at
    tracker.epoch(epoch(2, 0.5))
    tracker.close("interrupted", None)
    assert curve(events()) == [(1, 0.25), (2, 0.5)]
    assert {value.tag for event in events() for value in event.summary.value} == {"recall@20", "loss"}


def test_a_trial_s_end_writes_its_hyperparameters(make, events):
    tracker = make()
    tracker.begin(BEGIN)
    tracker.epoch(epoch(1, 0.25))
    tracker.end(3, "finished", "")
    data = [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events()
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    (begin,) = [found.session_start_info.hparams for found in data if found.HasField("session_start_info")]
    assert begin["loss_fn"].string_value == "bpr-max"
    assert begin["clipnorm"].string_value == "None"
    assert (begin["momentum"].number_value, begin["seed"].number_value) == (0.5, 7)
    assert begin["state"].string_value == "finished"


def test_told_again_it_writes_anew(make, events):
    for _ in range(2):
        tracker = make()
        tracker.begin(BEGIN)
        tracker.epoch(epoch(1, 0.25))
        tracker.close("interrupted", None)
    assert curve(events()) == [(1, 0.25)]
