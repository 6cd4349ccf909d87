"""A tunnel to the head's dashboard: a child process that ends with its context, and whose failure is told."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from gru4rec.errors import ClusterError

SECONDS_TO_OPEN = 60.0
SECONDS_TO_END = 5.0
SECONDS_BETWEEN_LOOKS = 0.05
LINES_TOLD = 10


@contextmanager
def open_tunnel(command: Sequence[str], ready: str, remedy: str | None = None) -> Iterator[re.Match[str]]:
    """Run `command` until the context ends; it is entered when a line that the command prints matches `ready`.

    The command's standard input stays open as long as this process lives, so that one that reads it ends with us.

    Raises
    ------
    ClusterError
        When the command is not installed, ends, or says nothing that matches in time.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C here is not meant for the tunnel: what uses it ends first
            )
        except FileNotFoundError:
            raise ClusterError(f"{command[0]} is not installed on this machine", remedy) from None
        try:
            yield _wait_for(process, output, re.compile(ready, re.MULTILINE), remedy)
        finally:
            _end(process)


def _wait_for(
    process: subprocess.Popen[bytes], output: IO[str], ready: re.Pattern[str], remedy: str | None
) -> re.Match[str]:
    ends = time.monotonic() + SECONDS_TO_OPEN
    name = str(process.args[0]) if isinstance(process.args, (list, tuple)) else str(process.args)
    while time.monotonic() < ends:
        ended = process.poll()
        output.seek(0)
        said = output.read()
        if found := ready.search(said):
            return found
        if ended is not None:
            raise ClusterError(f"the tunnel ({name}) ended with {ended}: {_last_lines(said)}", remedy)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise ClusterError(f"the tunnel ({name}) did not open in {SECONDS_TO_OPEN:.0f} s: {_last_lines(said)}", remedy)


def _last_lines(said: str) -> str:
    return "\n  ".join(said.splitlines()[-LINES_TOLD:]) or "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()
