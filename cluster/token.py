"""The token of a cluster: made here, kept in a file that only its owner can read, never on a command line."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from gru4rec.errors import ClusterError

TOKEN_BYTES = 32


def make_token(path: Path) -> Path:
    """Write a new token to `path`, mode 0600, in a folder of mode 0700; one that is there is kept."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        return path
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(TOKEN_BYTES))
    return path


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises
    ------
    ClusterError
        When there is none, or others can read it.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
        mode = path.stat().st_mode & 0o777
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"the token {path} cannot be read: {error}") from None
    if not token:
        raise ClusterError(f"the token {path} is empty")
    if mode & 0o077:
        raise ClusterError(f"the token {path} can be read by others (mode {mode:04o})", f"chmod 600 {path}")
    return token
