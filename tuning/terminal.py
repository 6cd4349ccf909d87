"""A search on the terminal: one line that is redrawn while it runs, and Ray's messages kept out of the way."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tuning.journal import RUNNING, STOPPED_BY_ASHA
from tuning.progress import Progress

SECONDS_BETWEEN_LINES = 30.0  # where lines cannot be redrawn


class ProgressLine:
    """Shows a search on a stream: redrawn on a terminal, a line now and then elsewhere."""

    def __init__(self, stream: TextIO, metric: str | None = None) -> None:
        self._stream = stream
        self._metric = metric
        self._redraw = stream.isatty()
        self._last = 0.0
        self._width = 0

    def show(self, progress: Progress) -> None:
        """Draw the state of the search."""
        now = time.monotonic()
        done = sum(count for state, count in progress.states.items() if state != RUNNING)
        if not self._redraw and now - self._last < SECONDS_BETWEEN_LINES and done < progress.trials:
            return
        self._last = now
        text = render_progress(progress, self._metric)
        if self._redraw:
            text = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Write a line of its own."""
        if self._redraw and self._width:
            self._stream.write("\n")
            self._width = 0
        self._stream.write(text + "\n")
        self._stream.flush()


def render_progress(progress: Progress, metric: str | None = None) -> str:
    """Return the state of a search in one line; without a metric, the first that the best trial reported."""
    running = progress.states.get(RUNNING, 0)
    done = sum(progress.states.values()) - running
    parts = [f"trials {done}/{progress.trials} done, {running} running"]
    if progress.best is not None:
        best = progress.best
        metric = metric or next(iter(best.metrics))
        parts.append(f"best {metric} {best.metrics[metric]:.4f} (trial {best.number}, epoch {best.best_epoch})")
    parts.append(f"{progress.epochs} epochs")
    parts.append(f"{progress.states.get(STOPPED_BY_ASHA, 0)} stopped by ASHA")
    if progress.checkpoint_bytes:
        parts.append(f"checkpoints {progress.checkpoint_bytes / 1e6:.3g} MB")
    parts.append(f"{_clock(progress.elapsed_s)} gone")
    if progress.left_s is not None:
        parts.append(f"about {_clock(progress.left_s)} left")
    return " | ".join(parts)


@contextmanager
def captured_output(log: Path) -> Iterator[TextIO]:
    """Send all that this process and its libraries print to a file; yield a stream to the real standard error.

    Ray prints from C++ and from threads, past sys.stderr, so the file descriptors themselves are replaced.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file, os.fdopen(os.dup(saved[1]), "w", encoding="utf-8") as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
