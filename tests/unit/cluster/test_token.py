"""Tokens are for their owner only."""

from __future__ import annotations

import pytest

from cluster.token import make_token, read_token
from gru4rec.errors import ClusterError


def test_made_once(tmp_path):
    path = make_token(tmp_path / "a" / "token")
    token = read_token(path)
    assert len(token) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    assert read_token(make_token(path)) == token


def test_refused(tmp_path):
    path = tmp_path / "token"
    with pytest.raises(ClusterError, match="cannot be read"):
        read_token(path)
    path.write_text("")
    with pytest.raises(ClusterError, match="is empty"):
        read_token(path)
    path.write_text("abc")
    path.chmod(0o640)
    with pytest.raises(ClusterError, match=r"can be read by others \(mode 0640\); hint: chmod 600 "):
        read_token(path)
