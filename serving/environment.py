"""What Ray reads from the environment when it is imported: so this comes first, and imports nothing of it."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOKEN_BYTES = 32


@contextmanager
def private_ray_environment() -> Iterator[None]:
    """Have a Ray that is started here keep to 127.0.0.1, and ask for a token that nobody else has."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="gru4rec-serve-") as folder:
        token = Path(folder) / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(TOKEN_BYTES), encoding="ascii")
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Linux, too, leaves 127.0.0.1 as it is
            "RAY_SERVE_LOG_TO_STDERR": "0",  # it has files
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= before
