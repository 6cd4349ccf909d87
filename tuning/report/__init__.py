"""report.html: what a search found and how, in one page that needs no network.

It is not the record of a search: that is epochs.ndjson, trials.parquet and search.json, see `tuning.result`. The page
is made of them, at the end of a search or at any time by `gru4rec tune report`. Without plotly it has no plots.
"""

from __future__ import annotations

from pathlib import Path

from gru4rec.files import atomic_file
from tuning.report.findings import Findings, collect, read_findings
from tuning.report.page import render_page
from tuning.result import REPORT, SearchResult

__all__ = ["report_on", "write_report"]


def write_report(result: SearchResult) -> Path:
    """Write report.html into the result folder.

    Raises
    ------
    SearchError
        When a file of the folder is damaged.
    """
    return _write(collect(result), result.path / REPORT)


def report_on(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a result folder, whether its search has ended, runs or was killed.

    Parameters
    ----------
    folder : path
    out : path, optional
        None writes report.html into the folder.

    Raises
    ------
    SearchError
        When it is no result folder, or one of its files is damaged.
    """
    findings = read_findings(folder)
    return _write(findings, Path(out) if out is not None else findings.result.path / REPORT)


def _write(findings: Findings, path: Path) -> Path:
    with atomic_file(path) as temporary:
        temporary.write_text(render_page(findings), encoding="utf-8")
    return path
