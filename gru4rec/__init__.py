"""GRU4Rec, exact and fast: read a log, train, evaluate, recommend, save and load.

Names are imported when first used, so that `import gru4rec` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gru4rec.data.reading import LogFormat, read_log
    from gru4rec.data.sessions import ItemVocabulary, Sessions
    from gru4rec.data.splitting import filter_support, split_last_days, split_last_item, split_time_share
    from gru4rec.errors import GRU4RecError
    from gru4rec.estimator import GRU4RecCrossEntropy, GRU4RecNegSampling
    from gru4rec.hyperparameters import HyperParameters
    from gru4rec.model import Model
    from gru4rec.model_folder import load_model, save_model
    from gru4rec.stopping import EarlyStopping, EarlyStoppingException, StoppingCriterion, StoppingRule
    from gru4rec.training import Trainer

_MODULES = {
    "EarlyStopping": "gru4rec.stopping",
    "EarlyStoppingException": "gru4rec.stopping",
    "GRU4RecCrossEntropy": "gru4rec.estimator",
    "GRU4RecError": "gru4rec.errors",
    "GRU4RecNegSampling": "gru4rec.estimator",
    "HyperParameters": "gru4rec.hyperparameters",
    "ItemVocabulary": "gru4rec.data.sessions",
    "LogFormat": "gru4rec.data.reading",
    "Model": "gru4rec.model",
    "Sessions": "gru4rec.data.sessions",
    "StoppingCriterion": "gru4rec.stopping",
    "StoppingRule": "gru4rec.stopping",
    "Trainer": "gru4rec.training",
    "filter_support": "gru4rec.data.splitting",
    "load_model": "gru4rec.model_folder",
    "read_log": "gru4rec.data.reading",
    "save_model": "gru4rec.model_folder",
    "split_last_days": "gru4rec.data.splitting",
    "split_last_item": "gru4rec.data.splitting",
    "split_time_share": "gru4rec.data.splitting",
}

__all__ = [
    "EarlyStopping",
    "EarlyStoppingException",
    "GRU4RecCrossEntropy",
    "GRU4RecError",
    "GRU4RecNegSampling",
    "HyperParameters",
    "ItemVocabulary",
    "LogFormat",
    "Model",
    "Sessions",
    "StoppingCriterion",
    "StoppingRule",
    "Trainer",
    "filter_support",
    "load_model",
    "read_log",
    "save_model",
    "split_last_days",
    "split_last_item",
    "split_time_share",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'gru4rec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
