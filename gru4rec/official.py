"""Parameters of the authors' GRU4Rec, as hyperparameters of this project.

The names and their defaults are those of the authors' GRU4Rec for PyTorch. Names that only their Theano version has are
taken with the one value that means what this project does. How their files look is in `gru4rec.official_files`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gru4rec.errors import ParameterError, unknown_name
from gru4rec.official_files import parse_parameter_string, read_parameter_file

CONSTANTS: Mapping[str, Any] = {
    "clipnorm": None, "epsilon": 1e-6, "optimization_algorithm": "adagrad", "negatives": "shared",
    "mask_targets": False, "logq_correction": "published", "bptt": 1, "dropout": 0.0,
}  # fmt: skip
RENAMED: Mapping[str, str] = {
    "loss": "loss_fn", "layers": "hidden_size", "batch_size": "batch_size", "dropout_p_embed": "dropout_embedding",
    "dropout_p_hidden": "dropout_hidden", "learning_rate": "learning_rate", "momentum": "momentum",
    "n_sample": "num_negatives", "sample_alpha": "sample_alpha", "bpreg": "bpreg", "elu_param": "elu_param",
    "logq": "logq",
}  # fmt: skip
_LOSSES = {name: name for name in ("cross-entropy", "bpr-max", "top1", "top1-max", "bpr")} | {
    "xe_logit": "cross-entropy"
}


@dataclass(frozen=True)
class OfficialSettings:
    """What the authors' parameters mean here.

    Parameters
    ----------
    values : dict of str to value
        Hyperparameters of this project, fit for `HyperParameters.from_dict`, which checks their ranges.
    epochs : int
        Their `n_epochs`.
    """

    values: dict[str, Any]
    epochs: int


def read_official(source: Mapping[str, Any] | str | Path) -> OfficialSettings:
    """Read parameters of the authors' GRU4Rec.

    Parameters
    ----------
    source : mapping, str or Path
        Names and values; or a parameter file, which assigns one dict to `gru4rec_params` and is read as text; or a
        parameter string such as 'loss=bpr-max,layers=100'. What is absent has the default of their PyTorch version,
        also when the source was written for Theano.

    Raises
    ------
    ParameterError
        When the source cannot be read, or anything in it is unknown or has no counterpart here; all of it at once.
    """
    place = ""
    if isinstance(source, Mapping):
        pairs = [(str(name), value) for name, value in source.items()]
    elif isinstance(source, Path) or _is_file(source):
        place = f"{Path(source).name}: "
        pairs = read_parameter_file(Path(source))
    else:
        pairs = parse_parameter_string(source)
    given = dict(pairs)
    names = [name for name, _ in pairs]
    problems = [f"{name} is given twice" for name in given if names.count(name) > 1]
    settings = _translate(given, problems)
    if settings is None:
        raise ParameterError(place + "; ".join(problems))
    return settings


def read_value(name: str, value: object) -> Any:
    """Return the value of the authors' parameter `name` in the type that it should have.

    >>> read_value("layers", "100/100")
    [100, 100]

    Raises
    ------
    ParameterError
        When the name is unknown or the value has the wrong type.
    """
    if name not in _READERS:
        raise ParameterError(unknown_name(name, _READERS, "parameter of the authors' GRU4Rec"))
    reader = _READERS[name]
    try:
        return reader.convert(value)
    except (LookupError, OverflowError, TypeError, ValueError):
        raise ParameterError(f"{name} must be {reader.expected}, got {value!r}") from None


# --- values ----------------------------------------------------------------------------------------------------------


class _Reader(NamedTuple):
    """Turns a value, or its text, into the type it should have; raises any of the errors that `read_value` catches."""

    convert: Callable[[Any], Any]
    expected: str
    default: Any = None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)


def _count(value: Any) -> int:
    if (count := _whole(value)) < 1:
        raise ValueError
    return count


def _real(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    return {"True": True, "1": True, "False": False, "0": False}[str(value)]


def _layers(value: Any) -> list[int]:
    parts = value.split("/") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    if not parts:
        raise ValueError
    return [_count(part) for part in parts]


def _embedding(value: Any) -> int | str:
    if value == "layersize":
        return "layersize"
    if (columns := _whole(value)) < 0:
        raise ValueError
    return columns


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _settings_of_optimizer(value: Any) -> float:
    return 0.0 if value in ([], (), "", "[]") else _real(value)


_READERS: Mapping[str, _Reader] = {
    "loss": _Reader(lambda value: _LOSSES[value], f"one of {', '.join(_LOSSES)}", "cross-entropy"),
    "layers": _Reader(_layers, "whole numbers >= 1 such as [100] or 100/100", [100]),
    "batch_size": _Reader(_whole, "a whole number", 64),
    "dropout_p_embed": _Reader(_real, "a number", 0.0),
    "dropout_p_hidden": _Reader(_real, "a number", 0.0),
    "learning_rate": _Reader(_real, "a number", 0.05),
    "momentum": _Reader(_real, "a number", 0.0),
    "sample_alpha": _Reader(_real, "a number", 0.5),
    "n_sample": _Reader(_whole, "a whole number", 2048),
    "embedding": _Reader(_embedding, "a whole number >= 0 or 'layersize'", 0),
    "constrained_embedding": _Reader(_flag, "True or False", True),
    "n_epochs": _Reader(_count, "a whole number >= 1", 10),
    "bpreg": _Reader(_real, "a number", 1.0),
    "elu_param": _Reader(_real, "a number", 0.5),
    "logq": _Reader(_real, "a number", 0.0),
    "final_act": _Reader(_word, "a word"),
    "hidden_act": _Reader(_word, "a word"),
    "adapt": _Reader(_word, "a word"),
    "adapt_params": _Reader(_settings_of_optimizer, "empty"),
    "decay": _Reader(_settings_of_optimizer, "empty"),
    "lmbd": _Reader(_real, "a number"),
    "smoothing": _Reader(_real, "a number"),
    "sigma": _Reader(_real, "a number"),
    "grad_cap": _Reader(_real, "a number"),
    "init_as_normal": _Reader(_flag, "True or False"),
    "train_random_order": _Reader(_flag, "True or False"),
    "time_sort": _Reader(_flag, "True or False"),
}
# What this project does where the Theano version has a choice: the value, and what to do about another one.
_FOREGONE: Mapping[str, tuple[Any, str]] = {
    "hidden_act": ("tanh", "leave it out"),
    "adapt": ("adagrad", "leave it out, or set optimization_algorithm"),
    "adapt_params": (0.0, "leave it out; Adagrad has none"),
    "decay": (0.0, "leave it out; Adagrad has none"),
    "lmbd": (0.0, "leave it out, and set dropout"),
    "smoothing": (0.0, "leave it out"),
    "sigma": (0.0, "leave it out"),
    "grad_cap": (0.0, "leave it out, and set clipnorm"),
    "init_as_normal": (False, "leave it out"),
    "train_random_order": (False, "leave it out"),
    "time_sort": (True, "leave it out"),
}


# --- meaning ---------------------------------------------------------------------------------------------------------


def _translate(given: Mapping[str, Any], problems: list[str]) -> OfficialSettings | None:
    """Return what the parameters mean here; None, and at least one more problem, when there is any."""
    values = {name: reader.default for name, reader in _READERS.items() if reader.default is not None}
    for name, value in given.items():
        try:
            values[name] = read_value(name, value)
        except ParameterError as error:
            problems.append(str(error))
    for name, (only, remedy) in _FOREGONE.items():
        if values.get(name, only) != only:
            problems.append(f"{name} must be {only!r}, the only one there is here, got {given[name]!r}; {remedy}")
    layers = values["layers"]
    if len(set(layers)) > 1:
        problems.append(f"layers must all have the same size, got {layers}; for example {[layers[0]] * len(layers)}")
    if "final_act" in values:
        values["elu_param"] = _elu_param(values, "elu_param" in given, problems)
    if problems:
        return None
    translated = {ours: values[theirs] for theirs, ours in RENAMED.items() if theirs != "layers"}
    shape = {"num_layers": len(layers), "hidden_size": layers[0], **_embedding_of(values)}
    return OfficialSettings({**translated, **shape, **CONSTANTS}, values["n_epochs"])


def _embedding_of(values: Mapping[str, Any]) -> dict[str, Any]:
    if values["constrained_embedding"]:
        return {"embedding": "tied"}
    if values["embedding"] == 0:
        return {"embedding": "none"}
    columns = values["layers"][0] if values["embedding"] == "layersize" else values["embedding"]
    return {"embedding": "separate", "num_components": columns}


def _elu_param(values: Mapping[str, Any], also_given: bool, problems: list[str]) -> float:
    """Return the ELU's parameter that the final activation of the Theano version means."""
    activation, loss, current = values["final_act"], values["loss"], float(values["elu_param"])
    if loss == "cross-entropy":
        if activation not in {"softmax", "softmax_logit"}:
            problems.append(f"final_act of {loss} must be softmax or softmax_logit, got {activation!r}; leave it out")
        return current
    if loss != "bpr-max":
        if activation != "linear":
            problems.append(f"final_act of {loss} must be linear, got {activation!r}; leave it out")
        return current
    try:
        found = 0.0 if activation == "linear" else float(activation.removeprefix("elu-"))
        valid = activation == "linear" or activation.startswith("elu-")
    except ValueError:
        found, valid = current, False
    if not valid:
        problems.append(f"final_act of bpr-max must be linear or elu-X such as elu-0.5, got {activation!r}")
    elif also_given and found != current:
        problems.append(f"final_act={activation} and elu_param={current:g} exclude each other; leave one of them out")
    return found


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long, or a character that no file name has
        return False
