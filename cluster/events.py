"""What a submission says of itself in its log: one line of JSON each, marked, among whatever else is printed there."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from tuning.progress import Progress, TrialRecord

MARK = "gru4rec: "
STAGE, PROGRESS, CHECKS, DONE, PROBLEM = "stage", "progress", "checks", "done", "problem"


def render_event(kind: str, content: Any) -> str:
    """Return the line of an event.

    >>> render_event("stage", "reading logs")
    'gru4rec: {"stage": "reading logs"}'
    """
    return MARK + json.dumps({kind: content})


def tell(kind: str, content: Any) -> None:
    """Print an event."""
    sys.stdout.write(render_event(kind, content) + "\n")
    sys.stdout.flush()


def parse_event(line: str) -> tuple[str, Any] | None:
    """Return kind and content of a line; None for a line that is no event.

    >>> parse_event('gru4rec: {"stage": "reading logs"}'), parse_event("Traceback ...")
    (('stage', 'reading logs'), None)
    """
    if not line.startswith(MARK):
        return None
    try:
        ((kind, content),) = json.loads(line.removeprefix(MARK)).items()
    except (ValueError, AttributeError):
        return None
    return kind, content


def pack_progress(progress: Progress) -> dict[str, Any]:
    """Return the content of a 'progress' event."""
    return dataclasses.asdict(progress)


def unpack_progress(content: dict[str, Any]) -> Progress:
    """Return the progress that a 'progress' event tells."""
    best = content["best"]
    return Progress(**{**content, "best": None if best is None else TrialRecord(**best)})
