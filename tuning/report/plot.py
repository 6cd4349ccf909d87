"""A plot as plotly.js takes it, its colours by name: the page fills in those of a light or a dark screen.

Colours are the names of CSS properties, as '--finished', which page.css gives values to. Each state of a trial has a
marker and a dash of its own beside its colour. Plotly's Python package is not needed to make a plot, and none of its
kinds that need WebGL or eval are used, so that the page can forbid both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tuning.journal import DIVERGED, FAILED, FINISHED, INTERRUPTED, RUNNING, STOPPED_BY_ASHA, STOPPED_EARLY

Trace = dict[str, Any]
Item = TypeVar("Item")
BEST = "--best"


@dataclass(frozen=True)
class Style:
    """How a state is told: the name of its colour, plotly's marker and dash, and a character for tables."""

    colour: str
    marker: str
    dash: str
    sign: str


STYLES = {
    FINISHED: Style("--finished", "circle", "solid", "●"),
    STOPPED_EARLY: Style("--early", "square", "dash", "■"),
    STOPPED_BY_ASHA: Style("--asha", "triangle-down", "dot", "▼"),
    DIVERGED: Style("--diverged", "x", "dashdot", "✕"),
    FAILED: Style("--failed", "cross", "dashdot", "✚"),
    INTERRUPTED: Style("--open", "diamond-open", "longdash", "◇"),
    RUNNING: Style("--open", "circle-open", "longdash", "○"),
}
BEST_SIGN = "★"
LEGEND = {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"}


@dataclass(frozen=True)
class Plot:
    """A plot and its text.

    Parameters
    ----------
    name : str
        Its id in the page.
    summary : str
        What it shows, for those who do not see it.
    data : list of dict
        Traces of plotly.js.
    layout : dict
    height : int
        Pixels.
    least_width : int
        Pixels; on a narrower screen the plot scrolls in its own frame.
    """

    name: str
    summary: str
    data: list[Trace]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 380
    least_width: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as page.js takes it."""
        return {"name": self.name, "data": self.data, "layout": {**self.layout, "height": self.height}}


def style_of(state: str) -> Style:
    """Return the style of a state; of one that this version does not know, that of a trial without an end."""
    return STYLES.get(state, STYLES[INTERRUPTED])


def worth_showing_from(values: Sequence[float]) -> float:
    """Return from where values are worth looking at: hopeless trials must not press the others together.

    As far below the median as the best is above it; the lowest value where that is nearer.

    >>> worth_showing_from([0.0, 0.5, 0.6, 0.7, 0.7])
    0.5
    """
    ordered = sorted(values)
    middle, highest = ordered[len(ordered) // 2], ordered[-1]
    return max(ordered[0], round(2 * middle - highest, 12))


def thinned(ranked: Sequence[Item], most: int) -> list[Item]:
    """Return not more than so many: half of them the best, the others evenly chosen from the rest.

    >>> thinned(range(10), 4)
    [0, 1, 2, 6]
    """
    if len(ranked) <= most:
        return list(ranked)
    half = most // 2
    rest = ranked[half:]
    return [*ranked[:half], *(rest[number * len(rest) // (most - half)] for number in range(most - half))]


def joined(pieces: Iterable[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """Join many lines into one trace, with a gap after each: a trace for each trial would draw slowly.

    >>> joined([{"x": [1, 2]}, {"x": [3]}])
    {'x': [1, 2, None, 3, None]}
    """
    columns: dict[str, list[Any]] = {}
    for piece in pieces:
        for name, values in piece.items():
            columns.setdefault(name, []).extend([*values, None])
    return columns
