"""The page around the sections: template, style, script and plotly.js in one file.

Nothing in it can reach the network or run what a log or a folder smuggled in: its security policy allows no connection,
and only the scripts whose digests it names.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from importlib.util import find_spec
from string import Template

from tuning.report.contents import make_contents
from tuning.report.findings import Findings
from tuning.report.html import Piece, embed_json, escape, join, tag
from tuning.report.sections import SECTIONS
from tuning.report.summary import cards, headline, lead

NO_PLOTS = "Plots need plotly: pip install 'gru4rec-tune[report]', then gru4rec tune report RUN."


def render_page(findings: Findings) -> str:
    """Return report.html."""
    library = load_plotly()
    contents = make_contents(findings, with_plots=library is not None)
    sections = [(name, title, body) for name, title, make in SECTIONS if (body := make(contents)) is not None]
    scripts = [_resource("page.js"), *([library] if library is not None else [])]
    metric = findings.metric
    return Template(_resource("page.html")).substitute(
        title=escape(f"GRU4Rec search: {metric}"),
        policy=escape(_policy(scripts)),
        style=_resource("page.css"),
        headline=escape(headline(findings)),
        lead=escape(lead(findings)),
        cards=cards(contents),
        note=tag("p", NO_PLOTS, class_="note") if library is None else "",
        nav=join(tag("li", tag("a", title, href=f"#{name}-section")) for name, title, _ in sections),
        sections=join(_section(name, title, body) for name, title, body in sections),
        figures=embed_json([plot.to_dict() for plot in contents.plots]),
        library=f"<script>{library}</script>" if library is not None else "",
        script=_resource("page.js"),
    )


def load_plotly() -> str | None:
    """Return plotly.js; None when plotly is not installed."""
    if find_spec("plotly") is None:
        return None
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _section(name: str, title: str, body: Piece) -> Piece:
    heading = tag("h2", title, id=f"{name}-heading")
    return tag("section", heading, body, id=f"{name}-section", aria_labelledby=f"{name}-heading")


def _policy(scripts: list[str]) -> str:
    """Return the Content-Security-Policy: plotly.js writes styles and pictures, and nothing else is let in."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _resource(name: str) -> str:
    return resources.files("tuning.report").joinpath(name).read_text(encoding="utf-8")
