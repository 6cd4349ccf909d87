"""Checkpoints are whole or not used; how many are kept; and that no code in them runs."""

from __future__ import annotations

import hashlib
import io
import os
import pickle

import pytest
import torch

from gru4rec.errors import StorageError
from tuning.checkpoints import Checkpoints, unpack


def state(epoch):
    return {"trainer": {"epoch": epoch, "weights": {"w": torch.full((50,), float(epoch))}}, "curve": "[]"}


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(str(tmp_path))


def names(folder):
    return sorted(path.name for path in folder.rglob("*.pt"))


def test_the_last_is_loaded(checkpoints):
    for epoch in (1, 2, 3):
        checkpoints.of(4).save(epoch, state(epoch))
    loaded, problems = checkpoints.of(4).load()
    assert torch.equal(loaded["trainer"]["weights"]["w"], torch.full((50,), 3.0))
    assert problems == []
    assert checkpoints.of(5).load() == (None, [])


def test_two_are_kept_and_the_best(checkpoints, tmp_path):
    for epoch in range(1, 6):
        checkpoints.of(0).save(epoch, state(epoch), best=min(epoch, 2))
    assert names(tmp_path) == ["epoch-00002.pt", "epoch-00004.pt", "epoch-00005.pt"]
    assert checkpoints.of(0).load(2)[0]["trainer"]["epoch"] == 2


@pytest.mark.parametrize("where", [0, 10, 64, 65, 300, -1])
def test_any_changed_byte_is_noticed(checkpoints, tmp_path, where):
    for epoch in (1, 2):
        checkpoints.of(0).save(epoch, state(epoch))
    path = tmp_path / "trial-00000" / "epoch-00002.pt"
    content = bytearray(path.read_bytes())
    content[where] ^= 0x10
    path.write_bytes(content)
    loaded, problems = checkpoints.of(0).load()
    assert loaded["trainer"]["epoch"] == 1
    assert "trial-00000/epoch-00002.pt cannot be used" in problems[0]


@pytest.mark.parametrize("size", [0, 3, 64, 65, 500])
def test_a_file_cut_short_is_noticed(checkpoints, tmp_path, size):
    checkpoints.of(0).save(1, state(1))
    path = tmp_path / "trial-00000" / "epoch-00001.pt"
    path.write_bytes(path.read_bytes()[:size])
    loaded, problems = checkpoints.of(0).load()
    assert (loaded, len(problems)) == (None, 1)


def test_a_failure_while_writing_leaves_the_others(checkpoints, tmp_path, monkeypatch):
    checkpoints.of(0).save(1, state(1))

    def fails(descriptor):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(StorageError, match="No space left on device; hint: free some space"):
            checkpoints.of(0).save(2, state(2))
    assert [path.name for path in (tmp_path / "trial-00000").iterdir()] == ["epoch-00001.pt"]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_no_code_in_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Evil(), protocol=2), b"\x80\x02."):
        with pytest.raises(ValueError):
            unpack(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [[1], torch.ones(2), 7], ids=["list", "tensor", "number"])
def test_what_is_no_state_is_refused(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    whole = hashlib.sha256(buffer.getvalue()).hexdigest().encode() + b"\n" + buffer.getvalue()
    with pytest.raises(ValueError, match=rf"^it holds no state: {type(content).__name__}$"):
        unpack(whole)


def test_they_are_removed_with_their_trial(checkpoints, tmp_path):
    for trial in (0, 1):
        for epoch in (1, 2):
            checkpoints.of(trial).save(epoch, state(epoch))
    checkpoints.remove(0)
    checkpoints.remove(0)
    checkpoints.remove(1, keep=1)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        "trial-00001",
        "trial-00001/epoch-00001.pt",
    ]
