"""A search in a notebook: one output that is redrawn, as the line on the terminal is (`tuning.terminal`)."""

from __future__ import annotations

import html
import time
from typing import Any

from tuning.journal import RUNNING
from tuning.progress import Progress
from tuning.terminal import render_progress

SECONDS_BETWEEN_DRAWINGS = 0.5


class NotebookProgress:
    """Shows a search below the cell that runs it; needs IPython, which every notebook has.

    Parameters
    ----------
    metric : str, optional
        Of the best trial; None is the first that it reported.

    Examples
    --------
    In a notebook::

        progress = NotebookProgress()
        result = tune(spec, "run", data, on_progress=progress.show, on_stage=progress.say)
    """

    def __init__(self, metric: str | None = None) -> None:
        from IPython.display import display

        self._metric = metric
        self._last = 0.0
        self._bar = self._text = self._stage = ""
        self._handle: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, progress: Progress) -> None:
        """Draw the state of the search."""
        ended = sum(progress.states.values()) - progress.states.get(RUNNING, 0)
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_DRAWINGS and ended < progress.trials:
            return
        self._last = now
        self._bar = f'<progress value="{ended}" max="{progress.trials}" style="width: 30em"></progress>'
        self._text = render_progress(progress, self._metric)
        self._draw()

    def say(self, text: str) -> None:
        """Show what the search does now, below its state."""
        self._stage = text
        self._draw()

    def _draw(self) -> None:
        lines = [text for text in (self._text, self._stage) if text]
        page = "<br>".join([*filter(None, [self._bar]), *map(html.escape, lines)])
        self._handle.update({"text/plain": "\n".join(lines), "text/html": page}, raw=True)
