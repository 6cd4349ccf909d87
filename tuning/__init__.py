"""Hyperparameter search for GRU4Rec on Ray Tune, Optuna and ASHA.

Names are imported when first used, so that the command line need not load Ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuning.result import SearchResult, load_result
    from tuning.search import resume, tune
    from tuning.search_data import SearchData
    from tuning.space import Dimension, Space
    from tuning.spec import SearchSpec, read_spec

_MODULES = {
    "Dimension": "tuning.space",
    "SearchData": "tuning.search_data",
    "SearchResult": "tuning.result",
    "SearchSpec": "tuning.spec",
    "Space": "tuning.space",
    "load_result": "tuning.result",
    "read_spec": "tuning.spec",
    "resume": "tuning.search",
    "tune": "tuning.search",
}

__all__ = [
    "Dimension",
    "SearchData",
    "SearchResult",
    "SearchSpec",
    "Space",
    "load_result",
    "read_spec",
    "resume",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'tuning' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
