"""Pieces of the page. Whatever goes into one is escaped, unless it is a piece itself."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any


class Piece(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(content: object) -> str:
    """Return content as HTML.

    >>> escape("<b>"), escape(Piece("<b>"))
    ('&lt;b&gt;', '<b>')
    """
    return content if isinstance(content, Piece) else html.escape(str(content))


def tag(name: str, *content: object, **attributes: str) -> Piece:
    """Return an element; `class_` stands for class, and underscores of attributes for hyphens.

    >>> tag("p", "a & b", class_="note")
    '<p class="note">a &amp; b</p>'
    """
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    return Piece(f"<{name}{given}>{''.join(map(escape, content))}</{name}>")


def join(pieces: Iterable[object]) -> Piece:
    """Return pieces one after the other, a line each."""
    return Piece("\n".join(map(escape, pieces)))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str, marked: int | None = None) -> Piece:
    """Return a table in a frame that scrolls by itself; the row at `marked` is set off."""
    aligned = [_NUMBER if any(_is_number(row[place]) for row in rows) else {} for place in range(len(columns))]
    head = tag("tr", *(tag("th", name, scope="col", **own) for name, own in zip(columns, aligned, strict=True)))
    body = join(
        tag(
            "tr",
            *(tag("td", number(cell), **own) for cell, own in zip(row, aligned, strict=True)),
            **({"class_": "marked"} if place == marked else {}),
        )
        for place, row in enumerate(rows)
    )
    content = tag("table", tag("thead", head), tag("tbody", body), aria_label=caption)
    frame = tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return tag("div", tag("p", caption, class_="caption"), frame)


def details(summary: str, *content: object) -> Piece:
    """Return content that is shown on demand."""
    return tag("details", tag("summary", summary), *content)


def embed_json(content: Any) -> Piece:
    """Return JSON that can stand in a script element: nothing in it ends the element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Piece(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def number(content: object) -> object:
    """Return a figure as it stands in a table, and whatever is none as it is.

    >>> number(0.71234), number(12345), number(12345.6), number(None), number("tied")
    ('0.7123', '12,345', '12,346', '-', 'tied')
    """
    if content is None:
        return "-"
    if isinstance(content, float):
        return f"{content:.4f}" if abs(content) < 1000 else f"{content:,.0f}"
    return f"{content:,}" if _is_number(content) else content


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(8.4), duration(125), duration(7380)
    ('8.4 s', '2 min 5 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def percent(share: float) -> str:
    """Return a share for people.

    >>> percent(0.25)
    '25 %'
    """
    return f"{share:.0%}".replace("%", " %")


def _is_number(content: object) -> bool:
    return isinstance(content, (int, float)) and not isinstance(content, bool)


_NUMBER = {"class_": "number"}
