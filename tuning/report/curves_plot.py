"""The learning curves, with ASHA's rungs and where each trial ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuning.progress import TrialRecord
from tuning.report.account import STATES
from tuning.report.findings import Findings
from tuning.report.plot import BEST, LEGEND, Plot, Trace, joined, style_of, thinned, worth_showing_from

MOST_CURVES = 200


def chosen_curves(findings: Findings) -> list[TrialRecord]:
    """Return the trials whose curves are drawn, the best first."""
    return thinned([trial for trial in findings.result.leaderboard() if findings.curves.get(trial.number)], MOST_CURVES)


def draw_curves(findings: Findings) -> Plot | None:
    """Return the plot; None when no epoch was recorded."""
    trials = chosen_curves(findings)
    if not trials:
        return None
    best = findings.best
    others = [trial for trial in trials if trial is not best]
    data = [trace for state in STATES for trace in _of_state(findings, state, others)]
    if best is not None and findings.curves.get(best.number):
        data += _of_best(findings, best)
    spec = findings.result.spec
    ticks = {"dtick": 1} if spec.max_epochs <= 12 else {"tickformat": "d"}
    layout = {
        "xaxis": {"title": {"text": "epoch"}, "range": [0.8, spec.max_epochs + 0.2], **ticks},
        "yaxis": {"title": {"text": f"{findings.metric}, validation"}, "range": _range(findings, trials)},
        "legend": LEGEND,
        "shapes": [_rung_line(rung) for rung in spec.rungs],
        "annotations": [_rung_name(rung) for rung in spec.rungs],
    }
    return Plot("curves", _summary(findings, trials), data, layout, height=460)


def _of_state(findings: Findings, state: str, trials: Sequence[TrialRecord]) -> list[Trace]:
    """Return the lines of the trials that ended in a state, and the marks at their ends."""
    chosen = [trial for trial in trials if trial.state == state]
    if not chosen:
        return []
    style = style_of(state)
    group = {"legendgroup": state, "opacity": 0.55 if len(chosen) < 60 else 0.35}
    lines = joined(_line(findings, trial) for trial in chosen)
    ends = [findings.curves[trial.number][-1] for trial in chosen]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            **lines,
            **group,
            "showlegend": False,
            "line": {"color": style.colour, "dash": style.dash, "width": 1.4},
            "hovertemplate": "trial %{customdata}, epoch %{x}: %{y:.4f}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [end["epoch"] for end in ends],
            "y": [end[findings.metric] for end in ends],
            "customdata": [trial.number for trial in chosen],
            "legendgroup": state,
            "name": f"{state} ({len(chosen)})",
            "marker": {"color": style.colour, "symbol": style.marker, "size": 8},
            "hovertemplate": f"trial %{{customdata}} {state} after epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        },
    ]


def _of_best(findings: Findings, best: TrialRecord) -> list[Trace]:
    line = _line(findings, best)
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            **line,
            "name": f"the winner, trial {best.number}",
            "line": {"color": BEST, "width": 3.5},
            "marker": {
                "color": BEST,
                "symbol": ["star" if epoch == best.best_epoch else "circle" for epoch in line["x"]],
                "size": [15 if epoch == best.best_epoch else 5 for epoch in line["x"]],
            },
            "hovertemplate": "trial %{customdata}, epoch %{x}: %{y:.4f}<extra></extra>",
        }
    ]


def _line(findings: Findings, trial: TrialRecord) -> dict[str, list[Any]]:
    lines = findings.curves[trial.number]
    return {
        "x": [line["epoch"] for line in lines],
        "y": [round(line[findings.metric], 5) for line in lines],
        "customdata": [trial.number] * len(lines),
    }


def _range(findings: Findings, trials: Sequence[TrialRecord]) -> list[float]:
    values = [line[findings.metric] for trial in trials for line in findings.curves[trial.number]]
    lowest, highest = worth_showing_from(values), max(values)
    return [lowest - 0.04 * (highest - lowest), highest + 0.08 * (highest - lowest)]


def _rung_line(rung: int) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": rung,
        "x1": rung,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": {"color": "--rung", "width": 1.5, "dash": "dash"},
    }


def _rung_name(rung: int) -> dict[str, Any]:
    return {
        "x": rung,
        "yref": "paper",
        "y": 1,
        "yanchor": "top",
        "xanchor": "left",
        "showarrow": False,
        "text": f"rung {rung}",
    }


def _summary(findings: Findings, trials: Sequence[TrialRecord]) -> str:
    spec, best = findings.result.spec, findings.best
    rungs = f"ASHA's rungs are at epoch {', '.join(map(str, spec.rungs))}." if spec.rungs else "There is no rung."
    winner = (
        f" The winner is trial {best.number}, {findings.value(best):.4f} at epoch {best.best_epoch}." if best else ""
    )
    return f"{findings.metric} on the validation log by epoch, for {len(trials)} trials. {rungs}{winner}"
