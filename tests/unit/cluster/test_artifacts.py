"""A model folder fetched from a storage, whole or not at all."""

from __future__ import annotations

import hashlib

import pytest

from cluster.artifacts import fetch_folder
from gru4rec.errors import ClusterError
from tuning.storage import Storage


@pytest.fixture
def stored(tmp_path):
    best = tmp_path / "runs" / "a" / "best"
    best.mkdir(parents=True)
    (best / "weights").write_bytes(b"12345")
    return best


def write_sums(stored, name="weights", content=b"12345"):
    sums = stored / "SHA256SUMS"
    sums.write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    return hashlib.sha256(sums.read_bytes()).hexdigest()


def test_fetched(stored, tmp_path):
    out = fetch_folder(Storage(str(tmp_path / "runs")), "a/best", tmp_path / "model", write_sums(stored))
    assert (out / "weights").read_bytes() == b"12345"


@pytest.mark.parametrize(
    ("sums", "said"),
    [
        ({"content": b"other"}, "weights arrived damaged"),
        ({"name": "../../outside"}, "names '../../outside', outside its folder"),
        ({"name": "absent"}, "cannot be read: "),
    ],
)
def test_refused(stored, tmp_path, sums, said):
    with pytest.raises(Exception, match=said):
        fetch_folder(Storage(str(tmp_path / "runs")), "a/best", tmp_path / "model", write_sums(stored, **sums))
    assert not (tmp_path / "model").exists()


def test_sums_that_are_others(stored, tmp_path):
    write_sums(stored)
    with pytest.raises(ClusterError, match="is not what the search wrote"):
        fetch_folder(Storage(str(tmp_path / "runs")), "a/best", tmp_path / "model", "0" * 64)


def test_a_folder_that_exists(stored, tmp_path):
    with pytest.raises(ClusterError, match="exists already"):
        fetch_folder(Storage(str(tmp_path / "runs")), "a/best", tmp_path, write_sums(stored))
