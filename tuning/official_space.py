"""Parameter spaces of the authors' GRU4Rec as `Space`: the ranges of their file, and their constants beside them.

It gives what their paropt.py would try. What [fixed] and [space] of search.toml change about it is up to `tuning.spec`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gru4rec.errors import ParameterError, unknown_name
from gru4rec.hyperparameters import domain_of
from gru4rec.official import RENAMED, read_official, read_value
from gru4rec.official_files import OfficialDimension, read_official_space
from tuning.space import Dimension, Space, Value, sort_dimensions

_ONLY_FOR = {"bpreg": "bpr-max", "elu_param": "bpr-max", "logq": "cross-entropy"}
_NOT_SEARCHED = {
    "n_epochs": "set search.max_epochs",
    "embedding": "set embedding, and num_components, in [fixed]",
    "constrained_embedding": "set embedding in [fixed]",
}
_FULL_CORRECTION = 1.0  # logq that the authors recommend for cross-entropy; it has no effect on other losses


def make_official_space(path: str | Path) -> Space:
    """Read a parameter space of the authors; what it leaves out has their constants and defaults.

    The loss is searched when the file has it. Otherwise it is 'bpr-max' for a file with `bpreg` or `elu_param`, else
    'cross-entropy', with a full logQ correction. A categorical parameter of one value is a constant.

    Raises
    ------
    ParameterError
        When the file cannot be read, or has a parameter that is unknown, out of range or not to be searched; all of it
        at once.
    """
    found = read_official_space(path)
    bpr_max = any(_ONLY_FOR.get(official.name) == "bpr-max" for official in found)
    constants: dict[str, Any] = {"loss": "bpr-max" if bpr_max else "cross-entropy", "logq": _FULL_CORRECTION}
    dimensions: list[Dimension] = []
    problems: list[str] = []
    for official in found:
        try:
            dimension = _make_dimension(official)
        except ParameterError as error:
            problems.append(f"line {official.line}: {error}")
            continue
        if official.dtype == "categorical":
            constants[official.name] = official.values[0]
        if len(dimension.options) != 1:
            dimensions.append(dimension)
    if problems:
        raise ParameterError(f"{Path(path).name}: " + "; ".join(problems))
    searched = {dimension.name for dimension in dimensions}
    fixed = {name: value for name, value in read_official(constants).values.items() if name not in searched}
    return Space(sort_dimensions(dimensions, fixed), fixed)


def _make_dimension(official: OfficialDimension) -> Dimension:
    if official.name in _NOT_SEARCHED:
        raise ParameterError(f"{official.name} cannot be searched; {_NOT_SEARCHED[official.name]}")
    if official.name not in RENAMED:
        raise ParameterError(unknown_name(official.name, [*RENAMED, *_NOT_SEARCHED], "parameter of a space"))
    name = RENAMED[official.name]
    when = {"loss_fn": (_ONLY_FOR[name],)} if name in _ONLY_FOR else {}
    values: tuple[Value, ...]
    if official.dtype == "categorical":
        values = _options(official)
        dimension = Dimension(name, "choice", options=values, when=when)
    elif official.dtype == "int":
        values = low, high = _whole(official, official.values[0]), _whole(official, official.values[1])
        step = _whole(official, official.step or 1)
        dimension = Dimension(name, "int", low, high, None if step == 1 else step, official.log, when=when)
    elif official.dtype == "float":
        values = lowest, highest = float(official.values[0]), float(official.values[1])
        dimension = Dimension(name, "float", lowest, highest, official.step, official.log, when=when)
    else:
        raise ParameterError(f"dtype must be int, float or categorical, got {official.dtype!r}")
    if dimension.log and (dimension.low <= 0 or dimension.step is not None):
        raise ParameterError(f"{official.name}: log needs values > 0 and no step, got {list(official.values)}")
    bad = [(value, expected) for value in values if (expected := domain_of(name).problem(value)) is not None]
    if bad:
        raise ParameterError("; ".join(f"{official.name} must be {expected}, got {value!r}" for value, expected in bad))
    return dimension


def _options(official: OfficialDimension) -> tuple[Value, ...]:
    """Return the distinct options, as values of this project; layers become their common size."""
    options = [read_value(official.name, value) for value in official.values]
    if official.name != "layers":
        return tuple(dict.fromkeys(options))
    if len({len(layers) for layers in options}) > 1 or any(len(set(layers)) > 1 for layers in options):
        raise ParameterError(f"layers must be as many in each option and of the same size, got {list(official.values)}")
    return tuple(dict.fromkeys(layers[0] for layers in options))


def _whole(official: OfficialDimension, value: float) -> int:
    if not float(value).is_integer():
        raise ParameterError(f"{official.name} is int: values and step must be whole numbers, got {value!r}")
    return int(value)
