"""Folders and URIs alike."""

from __future__ import annotations

import pytest

from gru4rec.errors import DataError, SearchError
from tuning.storage import Storage, local_copy


@pytest.fixture(params=["path", "uri"])
def storage(request, tmp_path):
    folder = tmp_path / "runs"
    return Storage(str(folder) if request.param == "path" else f"file://{folder}")


def test_there_and_back(storage, tmp_path):
    (tmp_path / "here").write_bytes(b"abc")
    assert not storage.exists("a/b")
    storage.upload(tmp_path / "here", "a/b")
    assert storage.exists("a/b")
    storage.download("a/b", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"abc"
    storage.remove("a/b")
    assert not storage.exists("a/b")


def test_what_is_not_there(storage, tmp_path):
    with pytest.raises(SearchError, match="cannot be read: "):
        storage.download("absent", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_an_unknown_uri():
    with pytest.raises(SearchError, match="storage 'ftp://host/runs' cannot be used: "):
        Storage("ftp://host/runs")


def test_a_local_copy_lasts_as_long_as_its_context(tmp_path):
    (tmp_path / "log.csv").write_text("abc")
    with local_copy(tmp_path / "log.csv") as path:
        assert path == tmp_path / "log.csv"
    with local_copy(f"file://{tmp_path}/log.csv") as path:
        assert (path.name, path.read_text()) == ("log.csv", "abc")
        assert path.parent != tmp_path
    assert not path.exists()


def test_a_uri_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv cannot be read: "), local_copy(f"file://{tmp_path}/absent.csv"):
        pass
