"""Folders and URIs alike."""

from __future__ import annotations

import errno
import os

import pytest

from gru4rec.errors import DataError, SearchError, StorageError
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


def test_files_of_a_folder(storage):
    assert storage.names("a") == []
    assert storage.folders("a") == []
    for name in ("a/2", "a/1", "a/b/3"):
        storage.write(name, name.encode())
    assert storage.names("a") == ["1", "2"]
    assert storage.folders("a") == ["b"]
    assert storage.read("a/b/3") == b"a/b/3"
    storage.remove_folder("a")
    storage.remove_folder("a")
    assert not storage.exists("a")


class Failing:
    """A file system that fails so many times, and then works."""

    def __init__(self, files, error, times):
        self._files, self._error, self.left = files, error, times

    def __getattr__(self, name):
        if self.left:
            self.left -= 1
            raise self._error
        return getattr(self._files, name)


@pytest.fixture
def failing(tmp_path, monkeypatch):
    def make(error, times, patience_s):
        monkeypatch.setattr("tuning.storage.FIRST_PAUSE_S", 0.01)
        storage = Storage(str(tmp_path), patience_s)
        storage._files = Failing(storage._files, error, times)
        return storage

    (tmp_path / "there").write_bytes(b"abc")
    return make


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), OSError("AWS Error NETWORK_CONNECTION")])
def test_a_storage_that_fails_for_a_while_is_tried_again(failing, error):
    assert failing(error, times=4, patience_s=60.0).read("there") == b"abc"
    with pytest.raises(StorageError, match=r"cannot be read: (Input/output error|AWS Error NETWORK_CONNECTION)"):
        failing(error, times=10**6, patience_s=0.1).read("there")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOENT])
def test_what_does_not_go_away_is_not_tried_again(failing, number):
    storage = failing(OSError(number, os.strerror(number)), times=1, patience_s=60.0)
    with pytest.raises(StorageError, match=os.strerror(number)):
        storage.read("there")
    assert storage.read("there") == b"abc"


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
