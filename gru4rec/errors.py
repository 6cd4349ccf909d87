"""Every error that gru4rec-tune raises on purpose, and the exit code it gives a command.

::

    GRU4RecError
    ├── ParameterError        a parameter's value or name (also a ValueError)      exit 2
    ├── DataError             a log that cannot be read or used (also ValueError)  exit 1
    ├── ModelFolderError      a model folder or file that is damaged or unknown    exit 1
    ├── ExportError           a model that cannot be had as ONNX                   exit 1
    ├── DivergedError         training whose loss left the finite numbers          exit 1
    ├── SearchError           a search that failed                                 exit 1
    │   ├── SpecificationError    a search.toml that cannot be run                 exit 2
    │   └── StorageError          a folder or URI that cannot be read or written   exit 1
    └── ClusterError          a cluster that is unreachable or unfit               exit 3
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GRU4RecError(Exception):
    """Base of all errors of this project.

    Parameters
    ----------
    message : str
        The value, what was expected and where it came from, on one line.
    hint : str, optional
        What to do about it; appended to the message.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(f"{message}; hint: {hint}" if hint else message)


class ParameterError(GRU4RecError, ValueError):
    """A parameter has an unknown name or a value outside its range."""

    exit_code = 2


class DataError(GRU4RecError, ValueError):
    """A log cannot be read, or holds nothing to learn from."""


class ModelFolderError(GRU4RecError):
    """A model folder, or a model file to convert, is incomplete, damaged or of an unknown format."""


class ExportError(GRU4RecError):
    """A model cannot be written as ONNX, or what was written does not compute what the model does."""


class DivergedError(GRU4RecError):
    """The training loss became NaN or infinite."""


class SearchError(GRU4RecError):
    """A search failed, or its result folder cannot be used."""


class SpecificationError(SearchError):
    """A search specification has problems; the message lists all of them."""

    exit_code = 2


class StorageError(SearchError):
    """A folder or a URI cannot be read or written."""


class ClusterError(GRU4RecError):
    """A cluster is unreachable, or cannot run what was asked."""

    exit_code = 3


def unknown_name(name: str, known: Iterable[str], what: str) -> str:
    """Return the text for a name that is not one of `known`, with the nearest spelling.

    >>> unknown_name("learning_rat", ["learning_rate", "dropout"], "hyperparameter")
    "unknown hyperparameter 'learning_rat'; did you mean 'learning_rate'?"
    >>> unknown_name("zzz", ["a", "b"], "loss")
    "unknown loss 'zzz'; known: a, b"
    """
    names = [str(option) for option in known]
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"unknown {what} {name!r}; did you mean {close[0]!r}?"
    return f"unknown {what} {name!r}; known: {', '.join(names)}"
