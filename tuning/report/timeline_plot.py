"""Which trial was in which slot, and when."""

from __future__ import annotations

from tuning.report.account import STATES, Account, Span
from tuning.report.plot import BEST, LEGEND, Plot, Trace, style_of

LEAST_HEIGHT, MOST_HEIGHT, ROW = 150, 900, 24
MOST_NUMBERED = 150  # bars: more take seconds to fit their numbers into, and are too narrow for them


def draw_timeline(account: Account, best: int | None) -> Plot | None:
    """Return the timeline; None when no epoch was recorded."""
    if not account.spans:
        return None
    unit, seconds = unit_of(account.elapsed_s)
    several = len({span.node for span in account.spans}) > 1
    rows = sorted({(span.node, span.slot) for span in account.spans}, reverse=True)
    names = {row: f"node {row[0] + 1}, slot {row[1] + 1}" if several else f"slot {row[1] + 1}" for row in rows}

    def bars(spans: list[Span], name: str, colour: str, pattern: str) -> Trace:
        return {
            "type": "bar",
            "orientation": "h",
            "base": [round(span.begin_s / seconds, 3) for span in spans],
            "x": [round((span.end_s - span.begin_s) / seconds, 3) for span in spans],
            "y": [names[span.node, span.slot] for span in spans],
            "customdata": [span.trial for span in spans],
            "text": [str(span.trial) for span in spans],
            "textposition": "inside" if len(account.spans) <= MOST_NUMBERED else "none",
            "insidetextanchor": "middle",
            "textangle": 0,
            "insidetextfont": {"color": "--on-bar"},
            "constraintext": "inside",
            "name": name,
            "marker": {
                "color": colour,
                "line": {"color": "--card", "width": 1},
                "pattern": {"shape": pattern, "fgcolor": "--card", "fillmode": "overlay", "size": 6, "solidity": 0.15},
            },
            "hovertemplate": f"trial %{{customdata}}, {name}: %{{x:.1f}} {unit}<extra></extra>",
        }

    data = [
        bars(chosen, state, style_of(state).colour, "" if state in STATES[:2] else "/")
        for state in STATES
        if (chosen := [span for span in account.spans if span.state == state and span.trial != best])
    ]
    if winner := [span for span in account.spans if span.trial == best]:
        data.append(bars(winner, "the winner", BEST, ""))
    layout = {
        "barmode": "overlay",
        "bargap": 0.15,
        "xaxis": {"title": {"text": f"{unit} since the search began"}, "rangemode": "tozero"},
        "yaxis": {
            "categoryorder": "array",
            "categoryarray": [names[row] for row in rows],
            "showticklabels": len(rows) <= 40,
        },
        "legend": LEGEND,
    }
    summary = (
        f"{len(account.spans)} trials in {account.slots} slots over {account.elapsed_s / seconds:.1f} {unit}; "
        "the gaps are idle time."
    )
    height = min(MOST_HEIGHT, LEAST_HEIGHT + ROW * len(rows))
    return Plot("timeline", summary, data, layout, height)


def unit_of(seconds: float) -> tuple[str, float]:
    """Return the unit in which a time is easily read, and its seconds.

    >>> unit_of(90), unit_of(9000)
    (('seconds', 1.0), ('minutes', 60.0))
    """
    for name, length in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 3 * length:
            return name, length
    return "seconds", 1.0
