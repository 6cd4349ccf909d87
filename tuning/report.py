"""report.html: the learning curves of a search in one self-contained page, when plotly is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from gru4rec.files import atomic_file
from tuning.result import REPORT, SearchResult


def write_report(result: SearchResult) -> Path | None:
    """Write report.html into the result folder; None, and no file, without plotly or without a single epoch."""
    curves = result.epochs()
    if find_spec("plotly") is None or curves.empty:
        return None
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
    figure.update_layout(title=f"{metric} on the validation log", xaxis_title="epoch", yaxis_title=metric)
    with atomic_file(result.path / REPORT) as temporary:
        figure.write_html(temporary, include_plotlyjs=True)
    return result.path / REPORT
