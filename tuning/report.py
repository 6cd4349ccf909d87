"""report.html: the learning curves of a search in one self-contained page, when plotly is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from gru4rec.files import atomic_file
from tuning.result import REPORT, SearchResult


def write_report(result: SearchResult) -> Path | None:
    """Write report.html into the result folder; None, and no file, without plotly or without a single epoch."""
    curves = result.epochs()
    if find_spec("plotly") is None or curves.empty:
        return None
    figures = [_draw_curves(result, curves), *(_draw_front(result, name) for name in result.spec.objectives)]
    parts = [figure.to_html(full_html=False, include_plotlyjs=number == 0) for number, figure in enumerate(figures)]
    page = ["<!DOCTYPE html>", '<html><head><meta charset="utf-8"><title>Search</title></head><body>', *parts]
    with atomic_file(result.path / REPORT) as temporary:
        temporary.write_text("\n".join([*page, "</body></html>\n"]), encoding="utf-8")
    return result.path / REPORT


def _draw_curves(result: SearchResult, curves: pd.DataFrame) -> Any:
    from plotly import graph_objects

    metric = result.spec.criterion.metric
    figure = graph_objects.Figure()
    for record in result.leaderboard():
        curve = curves[curves["trial"] == record.number]
        settings = "<br>".join(f"{name} = {value}" for name, value in record.hyperparameters.items())
        figure.add_scatter(
            x=curve["epoch"],
            y=curve[metric],
            mode="lines+markers",
            name=f"{record.number}: {record.state}",
            hovertemplate=f"trial {record.number}, epoch %{{x}}: %{{y:.4f}}<br>{settings}<extra></extra>",
        )
    title = f"{metric} on the validation log; {result.ended}"
    return figure.update_layout(title=title, xaxis_title="epoch", yaxis_title=metric)


def _draw_front(result: SearchResult, objective: str) -> Any:
    """Draw the trials by the metric and another objective, those of the Pareto front apart."""
    from plotly import graph_objects

    metric = result.spec.criterion.metric
    front = {record.number for record in result.pareto_front()}
    figure = graph_objects.Figure()
    for name, inside in (("Pareto front", True), ("other trials", False)):
        chosen = [r for r in result.leaderboard() if r.best_epoch > 0 and (r.number in front) == inside]
        figure.add_scatter(
            x=[{**record.metrics, **record.costs}[objective] for record in chosen],
            y=[record.metrics[metric] for record in chosen],
            text=[f"trial {record.number}" for record in chosen],
            mode="markers",
            name=name,
        )
    return figure.update_layout(title=f"{metric} and {objective}", xaxis_title=objective, yaxis_title=metric)
