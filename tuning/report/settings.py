"""The winner's settings as text to copy: for a search.toml, for the command line, and for Python."""

from __future__ import annotations

from typing import Any

import tomli_w

from gru4rec.hyperparameters import HyperParameters
from tuning.progress import TrialRecord
from tuning.space_file import NONE_IN_TOML

SAMPLING = (
    "loss_fn", "num_negatives", "negatives", "sample_alpha", "bpreg", "elu_param", "logq", "logq_correction",
    "mask_targets",
)  # fmt: skip
"""What the estimator with the full softmax has no parameter for."""


def render_fixed(trial: TrialRecord) -> str:
    """Return the [fixed] of a search.toml in which every trial has the settings of this one."""
    values = {name: NONE_IN_TOML if value is None else value for name, value in trial.hyperparameters.items()}
    return tomli_w.dumps({"fixed": values})


def render_python(trial: TrialRecord) -> str:
    """Return Python that makes the estimator of a trial; its fit trains what the trial trained."""
    given = trial.hyperparameters
    hyperparameters = HyperParameters.from_dict(given)
    full = hyperparameters.num_negatives == "all"
    name = "GRU4RecCrossEntropy" if full else "GRU4RecNegSampling"
    omitted = SAMPLING if full else ()
    settings: dict[str, Any] = {key: value for key, value in given.items() if key not in omitted}
    settings |= {"max_epochs": trial.best_epoch, "seed": trial.seed}
    lines = "".join(f"    {key}={value!r},\n" for key, value in settings.items())
    return f"from gru4rec import {name}\n\nmodel = {name}(\n{lines})\n"
