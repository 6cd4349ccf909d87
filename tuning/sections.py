"""Tables of a TOML file, read key by key; what is wrong is noted under its key path, all of it at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gru4rec.errors import SpecificationError, unknown_name
from gru4rec.files import UNREADABLE, first_line, read_text, shorten
from gru4rec.hyperparameters import Integer
from gru4rec.numbers import is_number

PROBLEMS_NAMED = 20
DEPTH = 30
_LONG_KEY = re.compile(rf"""(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{DEPTH}}}""")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises
    ------
    SpecificationError
        When it cannot be read.
    """
    try:
        text = read_text(path)
        if _LONG_KEY.search(text):  # tomllib's time grows with the square of the length
            raise ValueError(f"a key has more than {DEPTH} parts")
        content = tomllib.loads(text)
        _check_depth(content)
        return content
    except UNREADABLE as error:
        raise SpecificationError(f"{path} cannot be read: {first_line(error)}") from None


def check_no_problems(problems: list[str], source: str) -> None:
    """Raise SpecificationError with the problems found in a file, the first of very many."""
    lines = [shorten(problem) for problem in problems[:PROBLEMS_NAMED]]
    if len(problems) > PROBLEMS_NAMED:
        lines.append(f"and {len(problems) - PROBLEMS_NAMED:,} more")
    if len(lines) == 1:
        raise SpecificationError(f"{source}: {lines[0]}")
    if lines:
        raise SpecificationError("\n  ".join([f"{source}: {len(problems)} problems", *lines]))


def _check_depth(content: dict[str, Any]) -> None:
    level: list[Any] = [content]
    for _ in range(DEPTH):
        level = [
            value
            for table in level
            for value in (table.values() if isinstance(table, dict) else table)
            if isinstance(value, (dict, list))
        ]
    if level:
        raise ValueError(f"it is nested more than {DEPTH} levels deep")


class Section:
    """Reads the keys of one table, and notes what is wrong with them under their key path."""

    def __init__(self, values: Mapping[str, Any], path: str, problems: list[str]) -> None:
        self.values = values
        self.path = path
        self.problems = problems
        self.known: list[str] = []

    def place(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def take(self, key: str, default: Any) -> Any:
        self.known.append(key)
        return self.values.get(key, default)

    def expect(self, key: str, good: bool, expected: str, default: Any) -> Any:
        """Return the value of `key`, or the default and note a problem when it is not good."""
        value = self.take(key, default)
        if good:
            return value
        self.problems.append(f"{self.place(key)} must be {expected}, got {self.values.get(key)!r}")
        return default

    def section(self, key: str) -> Section:
        value = self.values.get(key, {})
        value = self.expect(key, isinstance(value, dict), "a table", {})
        return Section(value if isinstance(value, dict) else {}, self.place(key), self.problems)

    def number(self, key: str, default: Any, domain: Integer) -> Any:
        problem = domain.problem(self.values.get(key, default))
        return self.expect(key, problem is None, str(problem), default)

    def amount(self, key: str, default: float | None) -> float | None:
        value = self.values.get(key, default)
        good = value is None or (is_number(value) and value >= 0)
        found = self.expect(key, good, "a number >= 0", default)
        return None if found is None else float(found)

    def flag(self, key: str, default: bool) -> Any:
        return self.expect(key, isinstance(self.values.get(key, default), bool), "true or false", default)

    def text(self, key: str, default: str | None) -> Any:
        value = self.values.get(key, default)
        return self.expect(key, value is None or isinstance(value, str), "text", default)

    def location(self, key: str, folder: Path) -> str | None:
        """Return a URI as it is, and a path made absolute: `~` is the home folder, relative ones are to `folder`."""
        text = self.text(key, None)
        if text is None or "://" in text:
            return text
        try:
            return str((folder / Path(text).expanduser()).resolve())
        except (OSError, RuntimeError, ValueError) as error:  # no such user, a null byte, links in a circle
            self.problems.append(f"{self.place(key)}: {text!r} is no path: {error}")
            return None

    def texts(self, key: str) -> list[str]:
        value = self.values.get(key, [])
        good = isinstance(value, list) and all(isinstance(text, str) for text in value)
        return list(self.expect(key, good, "a list of texts", []))

    def reject_unknown(self) -> None:
        where = f" in [{self.path}]" if self.path else ""
        self.problems += [unknown_name(key, self.known, "key") + where for key in self.values if key not in self.known]
