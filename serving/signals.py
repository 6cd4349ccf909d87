"""Ctrl-C and SIGTERM end a server in order: what was accepted is answered, and no process stays behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Have the first of `SIGNALS` leave the context, and then the process with 128 + its number; others are ignored."""
    asked: list[int] = []

    def end(signum: int, frame: Any) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        asked.append(signum)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, end) for each in SIGNALS}
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as error:  # Ray puts one in the place of the other
        if asked:
            raise SystemExit(128 + asked[0]) from error
        raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
