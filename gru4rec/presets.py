"""Published best settings of six data sets, by name.

The figures are those of the parameter files that the authors' GRU4Rec for PyTorch comes with, under the authors' names.
They were chosen by recall and MRR on validation sessions: of 200 trials for each embedding and loss, except for rsc15.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gru4rec.errors import ParameterError, unknown_name
from gru4rec.hyperparameters import HyperParameters
from gru4rec.official import OfficialSettings, read_official

_COLUMNS = (
    "loss", "layers", "batch_size", "dropout_p_embed", "dropout_p_hidden", "learning_rate", "momentum", "sample_alpha",
    "bpreg", "elu_param", "logq",
)  # fmt: skip
_COMMON = {"constrained_embedding": True, "embedding": 0, "n_sample": 2048, "n_epochs": 10}
_TABLE = {
    "yoochoose":    ("cross-entropy", [480],  48, 0.0,  0.2,  0.07,  0.0,  0.2, 0.0,  0.0, 1.0),
    "rees46":       ("cross-entropy", [512], 240, 0.45, 0.0,  0.065, 0.0,  0.5, 0.0,  0.0, 1.0),
    "coveo":        ("bpr-max",       [512], 144, 0.35, 0.0,  0.05,  0.4,  0.2, 1.85, 1.0, 0.0),
    "retailrocket": ("bpr-max",       [224],  80, 0.5,  0.05, 0.05,  0.4,  0.4, 1.95, 0.5, 0.0),
    "diginetica":   ("bpr-max",       [512], 128, 0.5,  0.3,  0.05,  0.15, 0.3, 0.9,  1.0, 0.0),
    "rsc15":        ("cross-entropy", [100],  32, 0.0,  0.4,  0.2,   0.2,  0.5, 0.0,  0.0, 1.0),
}  # fmt: skip
_SOURCES = {
    "yoochoose": "paramfiles/yoochoose_xe_shared_best.py",
    "rees46": "paramfiles/rees46_xe_shared_best.py",
    "coveo": "paramfiles/coveo_bprmax_shared_best.py",
    "retailrocket": "paramfiles/retailrocket_bprmax_shared_best.py",
    "diginetica": "paramfiles/diginetica_bprmax_shared_best.py",
    # For RSC15 the README of that repository has other figures than this file: dropout_p_embed 0.1, dropout_p_hidden 0,
    # learning_rate 0.1, momentum 0, sample_alpha 0.75.
    "rsc15": "paramfiles/rsc15_xe_shared_100_best.py",
}


@dataclass(frozen=True)
class Preset:
    """The best published setting of one data set.

    Parameters
    ----------
    official : mapping of str to value
        Under the authors' names.
    source : str
        File of the repository hidasib/GRU4Rec_PyTorch_Official.
    """

    official: Mapping[str, Any]
    source: str

    @property
    def settings(self) -> OfficialSettings:
        """The setting under the names of this project, and the epochs that it is for."""
        return read_official(self.official)


PRESETS: Mapping[str, Preset] = {
    name: Preset({**dict(zip(_COLUMNS, row, strict=True)), **_COMMON}, _SOURCES[name]) for name, row in _TABLE.items()
}


def find_preset(name: str) -> Preset:
    """Return the preset of that name.

    Raises
    ------
    ParameterError
        When there is none.
    """
    if name not in PRESETS:
        raise ParameterError(unknown_name(name, PRESETS, "preset"))
    return PRESETS[name]


def preset(name: str) -> HyperParameters:
    """Return the best published hyperparameters of a data set.

    >>> preset("retailrocket").hidden_size
    224

    Raises
    ------
    ParameterError
        When there is none of that name.
    """
    return HyperParameters.from_dict(find_preset(name).settings.values, f"preset {name}")
