"""The file formats of the authors' GRU4Rec: parameter files, parameter strings, parameter spaces.

A parameter file is Python text there; here it is parsed and never executed. What the names in them mean is in
`gru4rec.official`.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gru4rec.errors import ParameterError, unknown_name
from gru4rec.files import read_text, shorten
from gru4rec.numbers import is_number

_IMPORT = "from collections import OrderedDict"
_FORM = "gru4rec_params = OrderedDict([(name, value), ...])"
_LINE_END = re.compile(r"\r\n|\r|\n")  # as Python counts lines
_DTYPES = ("int", "float", "categorical")
PROBLEMS_NAMED = 20
_KEYS = ("name", "dtype", "values", "step", "log")


def parse_parameter_string(text: str) -> list[tuple[str, str]]:
    """Return names and values of a string such as 'loss=bpr-max,layers=100'.

    >>> parse_parameter_string("loss=bpr-max,layers=100/100")
    [('loss', 'bpr-max'), ('layers', '100/100')]

    Raises
    ------
    ParameterError
        When a part of it is no name=value.
    """
    parts = [part.partition("=") for part in text.split(",")]
    for name, equals, value in parts:
        if not (name.strip() and equals):
            raise ParameterError(
                f"parameter string {text!r}: {name + equals + value!r} must be name=value, as in loss=bpr-max",
                "a parameter file must exist",
            )
    return [(name.strip(), value.strip()) for name, _, value in parts]


# --- parameter files -------------------------------------------------------------------------------------------------


def read_parameter_file(path: Path) -> list[tuple[str, Any]]:
    """Return names and values of a file that assigns an OrderedDict of pairs, or a dict, to `gru4rec_params`.

    Raises
    ------
    ParameterError
        When the file cannot be read, or has anything else in it.
    """
    text = _read(path)
    try:
        return _parameters_of(ast.parse(text))
    except SyntaxError as error:
        raise ParameterError(f"{path.name}: line {error.lineno or 1}: {error.msg}; expected {_FORM}") from None
    except _RefusedError as refused:
        line = _LINE_END.split(text)[refused.line - 1].strip()[:60]
        raise ParameterError(
            f"{path.name}: line {refused.line}: {line!r} is not allowed; expected only {_FORM} of plain values",
            "parameter files are read, never executed",
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "it is nested too deeply"
        raise ParameterError(f"{path.name} cannot be read: {reason}; expected {_FORM}") from None


class _RefusedError(Exception):
    """A piece of Python that is no parameter."""

    def __init__(self, node: ast.stmt | ast.expr) -> None:
        super().__init__(node.lineno)
        self.line = node.lineno


def _parameters_of(module: ast.Module) -> list[tuple[str, Any]]:
    assigned: list[ast.expr] = []
    for statement in module.body:
        if isinstance(statement, ast.ImportFrom) and ast.unparse(statement) == _IMPORT:
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if not isinstance(statement, ast.Assign) or len(targets) != 1 or names != ["gru4rec_params"] or assigned:
            raise _RefusedError(statement)
        assigned.append(statement.value)
    if not assigned:
        raise ValueError("it has no gru4rec_params")
    return [(str(_literal(name)), _literal(value)) for name, value in _items(assigned[0])]


def _items(node: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.Dict):
        if None in node.keys:  # {**other}
            raise _RefusedError(node)
        return [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key is not None]
    ordered = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "OrderedDict"
    if not isinstance(node, ast.Call) or not ordered or node.keywords or len(node.args) != 1:
        raise _RefusedError(node)
    if not isinstance(node.args[0], ast.List):
        raise _RefusedError(node)
    return [_pair(element) for element in node.args[0].elts]


def _pair(node: ast.expr) -> tuple[ast.expr, ast.expr]:
    if not isinstance(node, (ast.Tuple, ast.List)) or len(node.elts) != 2:
        raise _RefusedError(node)
    return node.elts[0], node.elts[1]


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise _RefusedError(node) from None


# --- parameter spaces ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfficialDimension:
    """One line of a parameter space of the authors.

    Parameters
    ----------
    line : int
        From 1.
    name : str
        The authors' name; whether it exists is not checked here.
    dtype : {'int', 'float', 'categorical'}
    values : tuple
        Both ends of the range, or the options of a categorical one.
    step : float, optional
        Grid of the values, counted from the lower end.
    log : bool
        Search the logarithm.
    """

    line: int
    name: str
    dtype: str
    values: tuple[Any, ...]
    step: float | None = None
    log: bool = False


def read_official_space(path: str | Path) -> list[OfficialDimension]:
    """Read a parameter space: a JSON object a line, as the authors' paropt.py takes.

    Raises
    ------
    ParameterError
        When the file cannot be read, or some of its lines are no dimension; all of them at once.
    """
    path = Path(path)
    problems: list[str] = []
    dimensions: list[OfficialDimension] = []
    for number, text in enumerate(_read(path).splitlines(), 1):
        if not text.strip():
            continue
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            problems.append(f"line {number} is not JSON: {error}")
            continue
        found = _dimension_problems(content)
        if not found and any(content["name"] == dimension.name for dimension in dimensions):
            found = [f"{content['name']} is given twice"]
        problems += [f"line {number}: {problem}" for problem in found]
        if not found:
            dimensions.append(OfficialDimension(number, **{**content, "values": tuple(content["values"])}))
    if not dimensions and not problems:
        problems = ["it has no dimension"]
    if problems:
        raise ParameterError(f"{path.name}: " + "; ".join(map(shorten, problems[:PROBLEMS_NAMED])))
    return dimensions


def _dimension_problems(content: Any) -> list[str]:
    if not isinstance(content, dict):
        return [f"must be an object with name, dtype and values, got {content!r}"]
    problems = [unknown_name(key, _KEYS, "key") for key in content if key not in _KEYS]
    dtype, values, step, log = (content.get(key) for key in ("dtype", "values", "step", "log"))
    if not isinstance(content.get("name"), str):
        problems.append(f"name must be text, got {content.get('name')!r}")
    if dtype not in _DTYPES:
        problems.append(f"dtype must be {', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}, got {dtype!r}")
    elif dtype == "categorical":
        if not (isinstance(values, list) and values):
            problems.append(f"values must be a list of options, got {values!r}")
    elif not (isinstance(values, list) and len(values) == 2 and all(map(is_number, values))):
        problems.append(f"values must be the two ends of the range, got {values!r}")
    elif values[0] > values[1]:
        problems.append(f"values must be the lower and the upper end, got {values!r}")
    if step is not None and not (is_number(step) and step > 0):
        problems.append(f"step must be a number > 0, got {step!r}")
    if log is not None and not isinstance(log, bool):
        problems.append(f"log must be true or false, got {log!r}")
    return problems


def _read(path: Path) -> str:
    try:
        return read_text(path).removeprefix("\ufeff")
    except (OSError, ValueError) as error:
        raise ParameterError(f"{path} cannot be read: {error}") from None
