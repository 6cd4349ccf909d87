"""One trial as Ray runs it: one step = one epoch = one report of the validation metrics."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import tune

from gru4rec.data.sessions import Sessions
from gru4rec.device import resolve_device
from gru4rec.errors import DivergedError
from gru4rec.fitting import run_epoch
from gru4rec.hyperparameters import NAMES, HyperParameters
from gru4rec.model import Model
from gru4rec.nn.network import Network
from gru4rec.stopping import EarlyStopping, StoppingRule
from gru4rec.training import Trainer

CHECKPOINT = "state.pt"
RECOMMENDATIONS = 25  # timed, to have their median


@dataclass(frozen=True)
class TrialTask:
    """What all trials of a search have in common; it lies in the object store once, its arrays are read in place.

    Parameters
    ----------
    train, validation : Sessions
        Without ids (`Sessions.without_ids`), over the vocabulary of the training log.
    sample : Sessions, optional
        Part of the validation sessions, for the epochs before `validated_fully_from`.
    validated_fully_from : int
    metrics : tuple of str
        Keys to report.
    costs : tuple of str
        To report beside them, see `measure_costs`.
    criterion : StoppingRule
    max_epochs : int
    threads : int
    device : str
    """

    train: Sessions
    validation: Sessions
    sample: Sessions | None
    validated_fully_from: int
    metrics: tuple[str, ...]
    costs: tuple[str, ...]
    criterion: StoppingRule
    max_epochs: int
    threads: int
    device: str


class GRU4RecTrainable(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """Trains one configuration. Actors are reused: `reset_config` starts the next trial in the same process."""

    def setup(self, config: dict[str, Any], task: TrialTask) -> None:
        torch.set_num_threads(task.threads)
        self._task = task
        self._node = ray.get_runtime_context().get_node_id()
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
        self._costs = measure_costs(self._trainer.network, self._task.train, self._task.costs)

    def step(self) -> dict[str, Any]:
        """Train and validate an epoch. A diverged trial reports NaN once and ends."""
        task, metric = self._task, self._task.criterion.metric
        epoch = self._trainer.epoch + 1
        sample = task.sample if epoch < task.validated_fully_from else None
        if epoch == task.validated_fully_from:
            self._stopping = EarlyStopping(task.criterion)  # values of the sample do not compare with those of all
        try:
            record = run_epoch(self._trainer, sample or task.validation, task.metrics)
            self._stopping.update(record[metric])
            best = self._stopping.best_value
            exhausted = self._stopping.exhausted and epoch < task.max_epochs
            if exhausted and sample is not None:
                record |= self._trainer.validate(task.validation, task.metrics)
                best, sample = record[metric], None
        except DivergedError as error:
            nothing = dict.fromkeys(task.metrics, math.nan)
            return {"epoch": epoch, **nothing, "diverged": str(error), "done": True}
        return {
            **record,
            **self._costs,
            "best": best,
            "node": self._node,
            "validated_on": "all" if sample is None else "sample",
            "stopped_early": exhausted,
            "done": exhausted or epoch >= task.max_epochs,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        state = {"trainer": self._trainer.state_dict(), "stopping": self._stopping.state_dict()}
        torch.save(state, Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint: str) -> None:
        state = torch.load(Path(checkpoint) / CHECKPOINT, weights_only=True)
        self._trainer.load_state_dict(state["trainer"])
        self._stopping.load_state_dict(state["stopping"])


def measure_costs(network: Network, sessions: Sessions, names: Sequence[str]) -> dict[str, float]:
    """Return what a model costs: 'parameters', its numbers; 'recommend_ms', the median time of 20 best items.

    The time is that of the first of the sessions, without what a service adds to it.
    """
    costs: dict[str, float] = {}
    if "parameters" in names:
        costs["parameters"] = sum(weight.numel() for weight in network.weights.values())
    if "recommend_ms" in names:
        first = sessions.select_sessions(np.arange(sessions.num_sessions) == 0)
        model = Model(network, sessions.items)
        costs["recommend_ms"] = statistics.median(
            _timed_ms(lambda: model.best_items(first, 20)) for _ in range(RECOMMENDATIONS)
        )
    return costs


def _timed_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)
