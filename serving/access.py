"""Who may reach a server: its token, and the address that it listens on."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
from pathlib import Path

from gru4rec.errors import GRU4RecError, ParameterError

VARIABLE = "GRU4REC_SERVE_TOKEN"
MIN_CHARACTERS = 16


def digest_of(token: bytes) -> str:
    """Return what a replica knows of its token: enough to recognise it, not enough to tell it."""
    return hashlib.sha256(token).hexdigest()


def read_token(path: Path | None) -> str | None:
    """Return the digest of the token in a file, or else in the environment; None where there is neither.

    Raises
    ------
    ParameterError
        When the file cannot be read, or the token is too short to be a secret or cannot stand in a header.
    """
    place = VARIABLE if path is None else str(path)
    try:
        token = os.environ.get(VARIABLE) if path is None else path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"the token file {path} cannot be read: {error}") from None
    if token is None:
        return None
    if len(token) < MIN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise ParameterError(
            f"the token in {place} must be at least {MIN_CHARACTERS} visible ASCII characters, got {len(token)}",
            "make one with: openssl rand -hex 32",
        )
    return digest_of(token.encode())


def check_access(host: str, port: int, token_digest: str | None, here: bool) -> None:
    """Refuse to listen where others can reach it without a token, or on a port of this machine that is taken.

    Raises
    ------
    ParameterError
        When `host` is no loopback address and there is no token.
    GRU4RecError
        When the address cannot be listened on.
    """
    if token_digest is None and not is_loopback(host):
        raise ParameterError(
            f"--host {host} can be reached by other machines, and there is no token",
            f"put one into {VARIABLE} or --token-file, or listen on 127.0.0.1",
        )
    if here:
        # Replicas share the port, and so would those of another server: whether it is free only a stranger can tell.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                stranger.bind((host, port))
            except OSError as error:
                raise GRU4RecError(f"{host}:{port} cannot be listened on: {error}", "choose another --port") from None


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from its own machine alone; a name may be anyone's, save localhost.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "shop.example")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
