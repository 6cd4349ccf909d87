"""One trial as Ray runs it: one step = one epoch = one report of the validation metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from gru4rec.data.sessions import Sessions
from gru4rec.device import resolve_device
from gru4rec.errors import DivergedError
from gru4rec.fitting import run_epoch
from gru4rec.hyperparameters import NAMES, HyperParameters
from gru4rec.stopping import EarlyStopping, StoppingRule
from gru4rec.training import Trainer

CHECKPOINT = "state.pt"


@dataclass(frozen=True)
class TrialTask:
    """What all trials of a search have in common; it lies in the object store once, its arrays are read in place.

    Parameters
    ----------
    train, validation : Sessions
        Without ids (`Sessions.without_ids`), over the vocabulary of the training log.
    metrics : tuple of str
        Keys to report.
    criterion : StoppingRule
    max_epochs : int
    threads : int
    device : str
    """

    train: Sessions
    validation: Sessions
    metrics: tuple[str, ...]
    criterion: StoppingRule
    max_epochs: int
    threads: int
    device: str


class GRU4RecTrainable(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """Trains one configuration. Actors are reused: `reset_config` starts the next trial in the same process."""

    def setup(self, config: dict[str, Any], task: TrialTask) -> None:
        torch.set_num_threads(task.threads)
        self._task = task
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        hyperparameters = HyperParameters.from_dict({name: config[name] for name in NAMES if name in config})
        self._stopping = EarlyStopping(self._task.criterion)
        self._trainer = Trainer(
            hyperparameters, self._task.train, seed=config["seed"], device=resolve_device(self._task.device)
        )

    def step(self) -> dict[str, Any]:
        """Train and validate an epoch. A diverged trial reports NaN once and ends."""
        metric = self._task.criterion.metric
        try:
            record = run_epoch(self._trainer, self._task.validation, self._task.metrics)
        except DivergedError as error:
            nothing = dict.fromkeys(self._task.metrics, math.nan)
            return {"epoch": self._trainer.epoch, **nothing, "diverged": str(error), "done": True}
        self._stopping.update(record[metric])
        exhausted = self._stopping.exhausted and record["epoch"] < self._task.max_epochs
        return {
            **record,
            "best": self._stopping.best_value,
            "stopped_early": exhausted,
            "done": exhausted or record["epoch"] >= self._task.max_epochs,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        state = {"trainer": self._trainer.state_dict(), "stopping": self._stopping.state_dict()}
        torch.save(state, Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint: str) -> None:
        state = torch.load(Path(checkpoint) / CHECKPOINT, weights_only=True)
        self._trainer.load_state_dict(state["trainer"])
        self._stopping.load_state_dict(state["stopping"])
