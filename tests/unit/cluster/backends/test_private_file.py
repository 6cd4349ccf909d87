"""Files for their owner alone."""

from __future__ import annotations

import stat

from cluster.backends.private_file import write_private


def test_the_file_and_its_folder_are_their_owners_alone(tmp_path):
    path = tmp_path / "folder" / "file"
    path.parent.mkdir(mode=0o700)
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_private(tmp_path / "other" / "file", "")
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o700
