"""Files and folders appear whole or not at all: what is left on the disk after success and after each failure."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gru4rec.files import atomic_file, atomic_folder

KINDS = {"file": atomic_file, "folder": atomic_folder}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def write(kind, temporary, text):
    (temporary if kind == "file" else temporary / "part").write_text(text)


def read(kind, path):
    return (path if kind == "file" else path / "part").read_text()


def put(kind, path, text):
    with KINDS[kind](path) as temporary:
        write(kind, temporary, text)


def fail(kind, path):
    """Raise in the middle of writing `path`."""
    with KINDS[kind](path) as temporary:
        write(kind, temporary, "half")
        raise KeyboardInterrupt


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_appears_under_the_name_alone(tmp_path, kind):
    put(kind, tmp_path / "out.csv", "whole")
    assert read(kind, tmp_path / "out.csv") == "whole"
    assert names(tmp_path) == ["out.csv"]


def test_the_path_may_be_a_string(tmp_path, kind):
    put(kind, str(tmp_path / "out"), "whole")
    assert read(kind, tmp_path / "out") == "whole"


def test_missing_parents_are_made(tmp_path, kind):
    put(kind, tmp_path / "a" / "b" / "out", "whole")
    assert read(kind, tmp_path / "a" / "b" / "out") == "whole"


def test_nothing_has_the_name_while_writing(tmp_path, kind):
    path = tmp_path / "out.csv"
    with KINDS[kind](path) as temporary:
        assert not path.exists()
        assert tmp_path in temporary.parents  # the same file system, so that renaming is atomic
        write(kind, temporary, "")


def test_a_temporary_file_keeps_the_ending(tmp_path):
    with atomic_file(tmp_path / "out.parquet") as temporary:
        assert temporary.suffix == ".parquet"


def test_an_earlier_one_is_replaced_whole(tmp_path, kind):
    path = tmp_path / "out"
    put(kind, path, "first")
    if kind == "folder":
        (path / "more").touch()
    put(kind, path, "second")
    assert read(kind, path) == "second"
    assert names(tmp_path) == ["out"]
    assert kind == "file" or names(path) == ["part"]


def test_a_failure_leaves_nothing(tmp_path, kind):
    with pytest.raises(KeyboardInterrupt):
        fail(kind, tmp_path / "out")
    assert names(tmp_path) == []


def test_a_failure_leaves_the_earlier_one(tmp_path, kind):
    put(kind, tmp_path / "out", "first")
    with pytest.raises(KeyboardInterrupt):
        fail(kind, tmp_path / "out")
    assert read(kind, tmp_path / "out") == "first"
    assert names(tmp_path) == ["out"]


def test_a_failure_of_the_last_rename_leaves_the_earlier_one(tmp_path, kind, monkeypatch):
    path = tmp_path / "out"
    put(kind, path, "first")
    for method in ("rename", "replace"):
        monkeypatch.setattr(Path, method, failing_with_content("second", kind, getattr(Path, method)))
    with pytest.raises(OSError, match="no space"):
        put(kind, path, "second")
    assert read(kind, path) == "first"
    assert names(tmp_path) == ["out"]


def failing_with_content(text, kind, rename):
    """Return a rename that fails for what holds the text, and works for all else."""

    def renamed(self, target):
        if read(kind, self) == text:
            raise OSError("no space")
        return rename(self, target)

    return renamed


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_permissions_follow_the_umask(tmp_path, kind, umask, file_mode, folder_mode):
    before = os.umask(umask)
    try:
        put(kind, tmp_path / "out", "whole")
        assert os.umask(umask) == umask  # it is as it was
    finally:
        os.umask(before)
    mode = stat.S_IMODE((tmp_path / "out").stat().st_mode)
    assert mode == (file_mode if kind == "file" else folder_mode)
