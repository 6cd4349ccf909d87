"""What commands print: tables and JSON on stdout, notes on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def print_json(content: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(content, indent=2, default=str))


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows under their column names, numbers to the right."""
    click.echo(render_table(rows, columns))


def render_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return a plain-text table.

    >>> print(render_table([{"model": "GRU4Rec", "recall@20": 0.71234}], ["model", "recall@20"]))
    model    recall@20
    GRU4Rec     0.7123
    """
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    numeric = [all(_is_number(row.get(column)) for row in rows) for column in columns]
    widths = [max(len(text) for text in texts) for texts in zip(columns, *cells, strict=True)]
    lines = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [list(columns), *cells]
    ]
    return "\n".join(lines)


def note(text: str) -> None:
    """Say something on stderr."""
    click.echo(text, err=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
