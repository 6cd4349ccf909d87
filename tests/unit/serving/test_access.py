"""Tokens and addresses."""

from __future__ import annotations

import hashlib
import socket

import pytest

from gru4rec.errors import GRU4RecError, ParameterError
from serving.access import VARIABLE, check_access, read_token

TOKEN = "0123456789abcdef"


def test_a_token_is_known_by_its_digest_alone(tmp_path, monkeypatch):
    expected = hashlib.sha256(TOKEN.encode()).hexdigest()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token") == expected
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert read_token(None) == expected
    monkeypatch.delenv(VARIABLE)
    assert read_token(None) is None


@pytest.mark.parametrize("token", ["", "short", "with a space in it", "0123456789abcde\u00e9"])
def test_a_token_that_is_none_is_refused_and_not_shown(token, monkeypatch):
    monkeypatch.setenv(VARIABLE, token)
    with pytest.raises(ParameterError, match=f"^the token in {VARIABLE} must be at least 16 visible") as caught:
        read_token(None)
    assert not token or token not in str(caught.value)


def test_a_token_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"^the token file .*/nowhere cannot be read: "):
        read_token(tmp_path / "nowhere")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "shop.example"])
def test_what_others_can_reach_needs_a_token(host):
    with pytest.raises(ParameterError, match=f"^--host {host} can be reached by other machines, and there is no token"):
        check_access(host, 8000, None, here=False)
    check_access(host, 8000, "digest", here=False)


def test_a_port_that_is_taken_is_refused_even_where_its_owner_would_share_it():
    with socket.socket() as owner:
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = owner.getsockname()[1]
        with pytest.raises(GRU4RecError, match=f"^127.0.0.1:{port} cannot be listened on: "):
            check_access("127.0.0.1", port, None, here=True)
    check_access("127.0.0.1", port, None, here=True)
