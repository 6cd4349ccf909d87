"""Commands of others that backends run: ray, kubectl, sbatch. Their output is captured, their failure told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from gru4rec.errors import ClusterError

LINES_TOLD = 20


def run_command(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    remedy: str | None = None,
) -> str:
    """Run a command to its end and return what it printed; secrets go through its environment or standard input.

    Raises
    ------
    ClusterError
        When it is not installed or fails; with the last lines that it printed.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin or "",
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is not installed on this machine", remedy) from None
    if done.returncode:
        said = "\n  ".join([*done.stdout.splitlines(), *done.stderr.splitlines()][-LINES_TOLD:])
        raise ClusterError(f"{' '.join(command[:3])} ended with {done.returncode}: {said}", remedy)
    return done.stdout
