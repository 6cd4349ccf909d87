"""The tests that docs/exactness.md names exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_named_test_exists():
    page = (ROOT / "docs/exactness.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)(\[\w+\])?`", page))
    assert len(named) > 20
    missing = [
        f"{path}::{name}{case}"
        for path, name, case in sorted(named)
        for function in {name, case.strip("[]") or name}  # the cases are named after functions of the same file
        if not re.search(rf"^def {function}\(", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
    ]
    assert missing == []
