"""search.toml <-> `SearchSpec`. All problems of a file are reported together, each with its key path."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from gru4rec.data.reading import LogFormat
from gru4rec.errors import GRU4RecError, ParameterError, SpecificationError, unknown_name
from gru4rec.hyperparameters import NAMES, Integer, domain_of
from gru4rec.stopping import StoppingRule
from tuning.official_space import make_official_space
from tuning.space import PRESETS, Dimension, Space, Value, check_points, sort_dimensions

DEFAULT_PRESET = "full"
NONE_IN_TOML = "none"  # TOML has no null


@dataclass(frozen=True)
class DataSpec:
    """The logs of a search.

    Parameters
    ----------
    train, validation : Path
        Trials learn from the one and are compared on the other.
    train_full : Path, optional
        What the winner is trained on anew; without it, train and validation together.
    test : Path, optional
        Looked at once, by the winner.
    log_format : LogFormat
    """

    train: Path
    validation: Path
    train_full: Path | None = None
    test: Path | None = None
    log_format: LogFormat = field(default_factory=LogFormat)


@dataclass(frozen=True)
class SearchSpec:
    """Everything that defines a search; the same specification with one worker gives the same trials and numbers.

    Parameters
    ----------
    space : Space
    data : DataSpec, optional
        None when the logs are given to `tune` in memory.
    trials : int
        Configurations to try.
    max_epochs : int
        Epochs that a trial gets at most (ASHA's R).
    seed : int
        Of the sampler; each trial's own seed derives from it and the trial's number.
    criterion : StoppingRule
        What to maximise, and the patience of each trial.
    grace_period : int or 'auto'
        Epochs before ASHA may stop a trial (ASHA's r). 'auto' is a quarter of `max_epochs`, rounded up: losses learn at
        different speeds, and after one epoch the slower one looks worse that wins after three.
    reduction_factor : int
        At each rung about one in so many trials goes on (ASHA's eta).
    max_concurrent_trials : int or 'auto'
        'auto' fills the machine or the cluster.
    cpus_per_trial : int
        Also the threads that a trial computes with.
    gpus_per_trial : float
    time_budget_s : float, optional
        Stop the search after so many seconds.
    refit : bool
        Train the winner anew on all the training data; otherwise on the part that trials saw.
    """

    space: Space
    data: DataSpec | None = None
    trials: int = 20
    max_epochs: int = 10
    seed: int = 0
    criterion: StoppingRule = field(default_factory=lambda: StoppingRule("recall@20", 3))
    grace_period: int | Literal["auto"] = "auto"
    reduction_factor: int = 3
    max_concurrent_trials: int | Literal["auto"] = "auto"
    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    time_budget_s: float | None = None
    refit: bool = True

    def __post_init__(self) -> None:
        if self.criterion.minimize:
            raise SpecificationError(
                f"stopping.metric must be a rank metric such as 'recall@20', got {self.criterion.metric!r}"
            )
        if self.grace_period == "auto":
            object.__setattr__(self, "grace_period", math.ceil(self.max_epochs / 4))
        if int(self.grace_period) > self.max_epochs:
            raise SpecificationError(
                f"stopping.grace_period must be <= search.max_epochs ({self.max_epochs}), got {self.grace_period}"
            )


def read_spec(path: str | Path, official_space: Path | None = None) -> SearchSpec:
    """Read search.toml; the paths in it are relative to its folder.

    Parameters
    ----------
    path : str or Path
    official_space : Path, optional
        A parameter space of the authors' GRU4Rec, which replaces [space] except for a range of `loss_fn`.

    Raises
    ------
    SpecificationError
        When the file cannot be read, or anything in it is unknown or out of range.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecificationError(f"{path} cannot be read: {error}") from None
    if official_space is not None:
        before = content.get("space")
        loss = {"loss_fn": before["loss_fn"]} if isinstance(before, dict) and "loss_fn" in before else {}
        content["space"] = {"official": str(official_space.resolve()), **loss}
    return parse_spec(content, path.name, path.resolve().parent)


def parse_spec(content: Mapping[str, Any], source: str, folder: Path) -> SearchSpec:
    """Turn the content of a search.toml into a specification; see `read_spec`."""
    problems: list[str] = []
    root = _Section(content, "", problems)
    data = _parse_data(root.section("data"), folder)
    search, stopping = root.section("search"), root.section("stopping")
    settings: dict[str, Any] = {
        "trials": search.number("trials", 20, Integer(1)),
        "max_epochs": search.number("max_epochs", 10, Integer(1)),
        "seed": search.number("seed", 0, Integer(0)),
        "max_concurrent_trials": search.number("max_concurrent_trials", "auto", Integer(1, words=("auto",))),
        "cpus_per_trial": search.number("cpus_per_trial", 1, Integer(1)),
        "gpus_per_trial": search.amount("gpus_per_trial", 0.0),
        "time_budget_s": search.amount("time_budget_s", None),
        "refit": search.flag("refit", True),
        "grace_period": stopping.number("grace_period", "auto", Integer(1, words=("auto",))),
        "reduction_factor": stopping.number("reduction_factor", 3, Integer(2)),
    }
    metric = stopping.text("metric", "recall@20")
    patience = stopping.number("max_iter_no_change", 3, Integer(1))
    min_improvement = stopping.amount("min_improvement", 0.0)
    space = _parse_space(root, folder)
    for section in (root, search, stopping):
        section.reject_unknown()
    if not problems:
        try:
            criterion = StoppingRule(str(metric), int(patience), float(min_improvement or 0.0))
            return SearchSpec(space=space, data=data, criterion=criterion, **settings)
        except GRU4RecError as error:
            problems.append(str(error) if isinstance(error, SpecificationError) else f"stopping: {error}")
    if len(problems) == 1:
        raise SpecificationError(f"{source}: {problems[0]}")
    raise SpecificationError("\n  ".join([f"{source}: {len(problems)} problems", *problems]))


def render_spec(spec: SearchSpec) -> str:
    """Return the search.toml of a specification, every default written out: reading it gives an equal one."""
    return tomli_w.dumps(to_dict(spec))


def to_dict(spec: SearchSpec) -> dict[str, Any]:
    """Return the content of the search.toml of a specification."""
    content: dict[str, Any] = {}
    if spec.data is not None:
        paths = {name: getattr(spec.data, name) for name in ("train", "validation", "train_full", "test")}
        content["data"] = {name: str(path) for name, path in paths.items() if path is not None}
        content["data"] |= dataclasses.asdict(spec.data.log_format)
    names = ("trials", "max_epochs", "seed", "max_concurrent_trials", "cpus_per_trial", "gpus_per_trial",
             "time_budget_s", "refit")  # fmt: skip
    content["search"] = {name: getattr(spec, name) for name in names if getattr(spec, name) is not None}
    content["stopping"] = {
        **dataclasses.asdict(spec.criterion),
        "grace_period": spec.grace_period,
        "reduction_factor": spec.reduction_factor,
    }
    content["fixed"] = {name: NONE_IN_TOML if value is None else value for name, value in spec.space.fixed.items()}
    content["points"] = spec.space.fitted_points()
    content["space"] = {dimension.name: _render_dimension(dimension) for dimension in spec.space.dimensions}
    return content


class _Section:
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

    def section(self, key: str) -> _Section:
        value = self.values.get(key, {})
        value = self.expect(key, isinstance(value, dict), "a table", {})
        return _Section(value if isinstance(value, dict) else {}, self.place(key), self.problems)

    def number(self, key: str, default: Any, domain: Integer) -> Any:
        problem = domain.problem(self.values.get(key, default))
        return self.expect(key, problem is None, str(problem), default)

    def amount(self, key: str, default: float | None) -> float | None:
        value = self.values.get(key, default)
        good = value is None or (_is_number(value) and math.isfinite(value) and value >= 0)
        found = self.expect(key, good, "a number >= 0", default)
        return None if found is None else float(found)

    def flag(self, key: str, default: bool) -> Any:
        return self.expect(key, isinstance(self.values.get(key, default), bool), "true or false", default)

    def text(self, key: str, default: str | None) -> Any:
        value = self.values.get(key, default)
        return self.expect(key, value is None or isinstance(value, str), "text", default)

    def reject_unknown(self) -> None:
        where = f" in [{self.path}]" if self.path else ""
        self.problems += [unknown_name(key, self.known, "key") + where for key in self.values if key not in self.known]


def _parse_data(section: _Section, folder: Path) -> DataSpec | None:
    paths = {name: section.text(name, None) for name in ("train", "validation", "train_full", "test")}
    columns = {name: section.text(name, default) for name, default in dataclasses.asdict(LogFormat()).items()}
    section.reject_unknown()
    if not section.values:
        return None
    for name in ("train", "validation"):
        if not paths[name]:
            section.problems.append(f"data.{name} is missing: name a .csv, .tsv or .parquet file")
    try:
        log_format = LogFormat(**columns)
    except ParameterError as error:
        section.problems.append(f"data: {error}")
        return None
    if not (paths["train"] and paths["validation"]):
        return None
    return DataSpec(log_format=log_format, **{name: folder / path for name, path in paths.items() if path})


def _parse_space(root: _Section, folder: Path) -> Space:
    fixed_section, space_section = root.section("fixed"), root.section("space")
    base = _parse_base(space_section, folder)
    own = {name: value for name, value in space_section.values.items() if name not in space_section.known}
    for name in [*own, *fixed_section.values]:
        if name not in NAMES:
            place = "space" if name in own else "fixed"
            root.problems.append(unknown_name(name, NAMES, "hyperparameter") + f" in [{place}]")
    dimensions = {dimension.name: dimension for dimension in base.dimensions}
    for name, table in own.items():
        if name in NAMES and (dimension := _parse_dimension(name, table, root.problems)) is not None:
            dimensions[name] = dimension
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
    searched = [dimension for name, dimension in dimensions.items() if name not in fixed]
    points = _parse_points(root, base)
    try:
        space = Space(sort_dimensions(searched, fixed), fixed, points)
        if not root.problems:
            check_points(space)
        return space
    except ParameterError as error:
        root.problems.append(str(error))
        return Space(())


def _parse_base(section: _Section, folder: Path) -> Space:
    """Return what [space] starts from: a preset, a parameter space of the authors, or nothing."""
    preset = section.text("preset", None if section.values else DEFAULT_PRESET)
    official = section.text("official", None)
    if preset is not None and official is not None:
        section.problems.append(f"space.preset={preset!r} and space.official={official!r} exclude each other")
    elif preset is not None and preset not in PRESETS:
        section.problems.append(unknown_name(str(preset), PRESETS, "preset") + " in [space]")
    elif preset is not None:
        return PRESETS[preset]
    elif official is not None:
        try:
            return make_official_space(folder / official)
        except ParameterError as error:
            section.problems.append(f"space.official: {error}")
    return Space(())


def _parse_points(root: _Section, base: Space) -> tuple[Mapping[str, Value], ...]:
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
    return tuple(points)


def _parse_dimension(name: str, table: Any, problems: list[str]) -> Dimension | None:
    """Read [space.NAME]; noted problems give None."""
    place, before = f"space.{name}", len(problems)
    if not isinstance(table, dict):
        problems.append(f"{place} must be a table with a type, got {table!r}")
        return None
    section = _Section(table, place, problems)
    kind = section.expect("type", table.get("type") in {"float", "int", "choice"}, "float, int or choice", None)
    when = section.expect("when", _is_condition(table.get("when", {})), "a table of NAME = [VALUES]", {})
    conditions = {condition: tuple(values) for condition, values in when.items()}
    if kind == "choice":
        options = section.expect("options", _is_options(table.get("options")), "a list of two values or more", ())
        dimension = Dimension(name, "choice", options=tuple(options), when=conditions)
        values = list(dimension.options)
    else:
        low = section.expect("low", _is_number(table.get("low")), "a number", 0)
        high = section.expect("high", _is_number(table.get("high")), "a number", 0)
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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_step(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0)


def _is_options(value: object) -> bool:
    return isinstance(value, list) and len(value) >= 2


def _is_condition(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(values, list) for values in value.values())
