"""[space], [fixed] and [[points]] of a search.toml <-> `Space`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gru4rec.errors import ParameterError, unknown_name
from gru4rec.hyperparameters import NAMES, domain_of
from gru4rec.numbers import LARGEST_INTEGER, is_number
from tuning.official_space import make_official_space
from tuning.presets import PRESETS
from tuning.sections import Section
from tuning.space import Dimension, FunctionSpace, Space, Value, check_points, sort_dimensions

DEFAULT_PRESET = "full"
NONE_IN_TOML = "none"  # TOML has no null


def parse_space(root: Section, folder: Path, try_out: bool = True) -> Space:
    """Read the space of a search; what is wrong with it is noted, with key paths, in the problems of `root`.

    With `try_out`, points are drawn from it, which calls the function of a space that is one.
    """
    fixed_section, space_section = root.section("fixed"), root.section("space")
    base = _parse_base(space_section, folder)
    own = {name: value for name, value in space_section.values.items() if name not in space_section.known}
    for name in [*own, *fixed_section.values]:
        if name not in NAMES:
            place = "space" if name in own else "fixed"
            root.problems.append(unknown_name(name, NAMES, "hyperparameter") + f" in [{place}]")
    dimensions = [dimension for dimension in base.dimensions if dimension.name not in own]
    for name, tables in own.items():
        for table in tables if isinstance(tables, list) else [tables]:
            if name in NAMES and (dimension := _parse_dimension(name, table, root.problems)) is not None:
                dimensions.append(dimension)
    fixed = dict(base.fixed)
    for name, value in fixed_section.values.items():
        if name in own:
            root.problems.append(f"{name} is both in [fixed] and in [space]")
        fixed[name] = None if value == NONE_IN_TOML and not _is_word(name, value) else value
    fixed = {name: value for name, value in fixed.items() if name not in own}
    root.problems += [
        f"fixed: {name} must be {expected}, got {value!r}"
        for name, value in fixed.items()
        if name in NAMES and (expected := domain_of(name).problem(value)) is not None
    ]
    searched = [dimension for dimension in dimensions if dimension.name not in fixed]
    points = _parse_points(root, base)
    if isinstance(base, FunctionSpace) and searched:
        root.problems.append("space.function excludes ranges beside it: let the function suggest them")
    try:
        space = replace(base, dimensions=sort_dimensions(searched, fixed), fixed=fixed, points=points)
        if try_out and not root.problems:
            check_points(space)
        return space
    except ParameterError as error:
        root.problems.append(str(error))
        return Space(())


def _parse_base(section: Section, folder: Path) -> Space:
    """Return what [space] starts from: a preset, a parameter space of the authors, a function, or nothing."""
    preset = section.text("preset", None if section.values else DEFAULT_PRESET)
    official = section.text("official", None)
    function = section.text("function", None)
    given = {"preset": preset, "official": official, "function": function}
    named = [f"space.{key}={value!r}" for key, value in given.items() if value is not None]
    if len(named) > 1:
        section.problems.append(f"{' and '.join(named)} exclude each other")
    elif preset is not None and preset not in PRESETS:
        section.problems.append(unknown_name(str(preset), PRESETS, "preset") + " in [space]")
    elif preset is not None:
        return PRESETS[preset]
    elif official is not None:
        try:
            return make_official_space(folder / official)
        except ParameterError as error:
            section.problems.append(f"space.official: {error}")
    elif function is not None:
        return FunctionSpace(function=str(function))
    return Space(())


def _parse_points(root: Section, base: Space) -> tuple[Mapping[str, Value], ...]:
    points = root.take("points", list(base.points))
    if not (isinstance(points, (list, tuple)) and all(isinstance(point, dict) for point in points)):
        root.problems.append("points must be tables, written [[points]]")
        return ()
    root.problems += [
        unknown_name(name, NAMES, "hyperparameter") + f" in [[points]] {number}"
        for number, point in enumerate(points, 1)
        for name in point
        if name not in NAMES
    ]
    root.problems += [
        f"points {number}: {name} must be a number, text, true or false, got {value!r}"
        for number, point in enumerate(points, 1)
        for name, value in point.items()
        if not _is_plain(value)
    ]
    return tuple(points)


def _parse_dimension(name: str, table: Any, problems: list[str]) -> Dimension | None:
    """Read [space.NAME]; noted problems give None."""
    place, before = f"space.{name}", len(problems)
    if not isinstance(table, dict):
        problems.append(f"{place} must be a table with a type, got {table!r}")
        return None
    section = Section(table, place, problems)
    kind = section.expect("type", table.get("type") in ("float", "int", "choice"), "float, int or choice", None)
    when = section.expect("when", _is_condition(table.get("when", {})), "a table of NAME = [PLAIN VALUES]", {})
    conditions = {condition: tuple(values) for condition, values in when.items()}
    if kind == "choice":
        options = section.expect("options", _is_options(table.get("options")), "a list of two values or more", ())
        dimension = Dimension(name, "choice", options=tuple(options), when=conditions)
        values = list(dimension.options)
    else:
        low = section.expect("low", is_number(table.get("low")), "a number", 0)
        high = section.expect("high", is_number(table.get("high")), "a number", 0)
        step = section.expect("step", _is_step(table.get("step")), "a number > 0", None)
        log = section.flag("log", False)
        dimension = Dimension(name, kind, low, high, step, log, when=conditions)
        values = [low, high]
        if len(problems) > before:
            return None
        if low > high:
            problems.append(f"{place}: low must be <= high, got low={low!r}, high={high!r}")
        if log and (low <= 0 or step is not None):
            problems.append(f"{place}: log=true needs low > 0 and no step, got low={low!r}, step={step!r}")
        if step is not None and (high - low) / step > LARGEST_INTEGER:
            problems.append(f"{place}: step={step!r} is too small for a range from {low!r} to {high!r}")
        if kind == "int" and not all(isinstance(value, int) for value in (low, high, step or 1)):
            problems.append(f"{place}: low, high and step of an int must be whole numbers")
    section.reject_unknown()
    if len(problems) == before:
        problems += [
            f"{place}: {value!r} is not allowed, must be {expected}"
            for value in values
            if (expected := domain_of(name).problem(value)) is not None
        ]
    return dimension if len(problems) == before else None


def render_space(space: Space) -> dict[str, Any]:
    """Return the tables of a space, every preset written out: reading them gives an equal one."""
    ranges: dict[str, list[dict[str, Any]]] = {}
    for dimension in space.dimensions:
        ranges.setdefault(dimension.name, []).append(_render_dimension(dimension))
    function = {"function": space.function} if isinstance(space, FunctionSpace) else {}
    return {
        "fixed": {name: NONE_IN_TOML if value is None else value for name, value in space.fixed.items()},
        "points": space.fitted_points(),
        "space": function | {name: tables[0] if len(tables) == 1 else tables for name, tables in ranges.items()},
    }


def _render_dimension(dimension: Dimension) -> dict[str, Any]:
    table: dict[str, Any] = {"type": dimension.kind}
    if dimension.kind == "choice":
        table["options"] = list(dimension.options)
    else:
        table |= {"low": dimension.low, "high": dimension.high}
        if dimension.step is not None:
            table["step"] = dimension.step
        if dimension.log:
            table["log"] = True
    if dimension.when:
        table["when"] = {name: list(values) for name, values in dimension.when.items()}
    return table


def _is_word(name: str, value: object) -> bool:
    """Whether the text is a value of that hyperparameter, as 'none' is of `embedding`."""
    return name in NAMES and domain_of(name).problem(value) is None


def _is_step(value: object) -> bool:
    return value is None or (is_number(value) and value > 0)


def _is_options(value: object) -> bool:
    return isinstance(value, list) and len(value) >= 2


def _is_condition(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(values, list) and all(map(_is_plain, values)) for values in value.values()
    )


def _is_plain(value: object) -> bool:
    """Whether the value is one that a hyperparameter can have."""
    return isinstance(value, (str, bool)) or is_number(value)
