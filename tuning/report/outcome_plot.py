"""What the search brought: the winner beside the baselines, and the Pareto front of several objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuning.progress import TrialRecord
from tuning.report.findings import Findings
from tuning.report.plot import BEST, LEGEND, Plot, Trace
from tuning.spec import COSTS


def draw_comparison(findings: Findings) -> Plot | None:
    """Return the winner and the baselines on the test log, with the winner's interval; None without a test log."""
    test, metric = findings.figures.get("test"), findings.metric
    if test is None or metric not in test["metrics"]:
        return None
    rows = {name: values[metric] for name, values in findings.figures["baselines"].items()}
    rows = dict(sorted(rows.items(), key=lambda row: row[1]))
    value, (low, high) = test["metrics"][metric], test["intervals"][metric]
    interval = {
        "type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low], "color": "--text",
        "thickness": 2,
    }  # fmt: skip
    data = [_bars(rows, "--faint", "--text"), _bars({"GRU4Rec": value}, BEST, "--on-best") | {"error_x": interval}]
    layout = {
        "xaxis": {"title": {"text": f"{metric}, test"}, "rangemode": "tozero"},
        "margin": {"t": 6, "r": 16},
        "bargap": 0.3,
        "showlegend": False,
    }
    others = ", ".join(f"{name} {number:.4f}" for name, number in rows.items())
    summary = f"{metric} on the test log: GRU4Rec {value:.4f} (95 % interval {low:.4f} to {high:.4f}), {others}."
    return Plot("comparison", summary, data, layout, height=130 + 40 * len(rows))


def _bars(rows: Mapping[str, float], colour: str, text: str) -> Trace:
    return {
        "type": "bar",
        "orientation": "h",
        "y": list(rows),
        "x": list(rows.values()),
        "text": [f"{number:.4f}" for number in rows.values()],
        "textposition": "auto",
        "textangle": 0,
        "insidetextanchor": "start",
        "insidetextfont": {"color": text},
        "marker": {"color": colour},
        "hovertemplate": "%{y}: %{x:.4f}<extra></extra>",
    }


def draw_front(findings: Findings, objective: str, number: int) -> Plot:
    """Return the trials by the metric and another objective, those of the Pareto front apart."""
    front = findings.result.pareto_front()
    chosen = {trial.number for trial in front}
    others = [trial for trial in findings.measured if trial.number not in chosen]
    ordered = sorted(front, key=lambda trial: findings.value(trial, objective))
    data = [
        _cloud(findings, objective, others, "other trials", {"color": "--asha", "symbol": "circle-open", "size": 8}),
        _cloud(findings, objective, ordered, "Pareto front", {"color": "--finished", "symbol": "diamond", "size": 11}),
    ]
    if len(findings.result.spec.objectives) == 1:  # with more, the front is no line in this plane
        data[1] |= {"mode": "lines+markers", "line": {"color": "--finished", "dash": "dot", "width": 1}}
    better = "smaller" if objective in COSTS else "larger"
    layout = {
        "xaxis": {"title": {"text": f"{objective} ({better} is better)"}},
        "yaxis": {"title": {"text": f"{findings.metric}, validation"}},
        "legend": LEGEND,
    }
    summary = (
        f"{findings.metric} and {objective} of {len(findings.measured)} trials; {len(front)} of them are on the Pareto "
        "front: no other beats them without losing elsewhere."
    )
    return Plot(f"front-{number}", summary, data, layout)


def _cloud(
    findings: Findings, objective: str, trials: Sequence[TrialRecord], name: str, marker: dict[str, object]
) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [findings.value(trial, objective) for trial in trials],
        "y": [findings.value(trial) for trial in trials],
        "text": [f"trial {trial.number}" for trial in trials],
        "name": name,
        "marker": marker,
        "hovertemplate": "%{text}<br>%{x}, %{y:.4f}<extra></extra>",
    }
