"""SIGTERM ends a search with its state intact: Slurm, Kubernetes and `ray job stop` send it before they kill.

Ray's own way with it is to abort the process at once. Here the trials are ended as after Ctrl-C, but nothing is trained
any more: what is on the disk is enough to go on from.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXIT_TERMINATED = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """The process was asked to end."""

    def __init__(self) -> None:
        super().__init__(EXIT_TERMINATED)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM raise `Terminated` in the main thread, for the time of the context; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def terminate(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what follows puts things in order
        asked.append(signum)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as error:
        if asked:  # Ray's C++ side puts an exception of its own in the place of ours
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
