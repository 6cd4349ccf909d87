"""One trial as Ray runs it: one step = one epoch = one report of the validation metrics."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray import tune

from gru4rec.data.sessions import Sessions
from gru4rec.device import resolve_device
from gru4rec.errors import DivergedError, StorageError
from gru4rec.fitting import run_epoch
from gru4rec.hyperparameters import NAMES, HyperParameters
from gru4rec.model import Model
from gru4rec.nn.network import Network
from gru4rec.stopping import EarlyStopping, StoppingRule
from gru4rec.training import Trainer
from tuning.checkpoints import Checkpoints

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
    """Trains one configuration. Actors are reused: `reset_config` starts the next trial in the same process.

    A trial that has a checkpoint goes on from it, whoever wrote it: so it outlives its process, its node, and the
    search's own process. What it has reported before it reports again, for it may never have arrived.
    """

    def setup(self, config: dict[str, Any], task: TrialTask, checkpoints: Checkpoints) -> None:
        torch.set_num_threads(task.threads)
        self._task = task
        self._all_checkpoints = checkpoints
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
        self._checkpoints = self._all_checkpoints.of(config["trial"])
        self._identity = identity(config, config["seed"])
        self._curve: list[dict[str, Any]] = []
        self._news: dict[str, Any] = {}
        try:
            self._restore()
        except StorageError as error:
            self._news = {"storage_problem": str(error)}
        self._untold = list(self._curve)
        if self._curve:
            self._costs = {name: self._curve[-1][name] for name in self._task.costs}
        else:
            self._costs = measure_costs(self._trainer.network, self._task.train, self._task.costs)

    def step(self) -> dict[str, Any]:
        """Report an epoch: the next of those that the checkpoint knows, or one that is trained and validated now."""
        news, self._news = self._news, {}
        if "storage_problem" in news:
            return {"epoch": 0, **dict.fromkeys(self._task.metrics, math.nan), **news}
        if self._untold:
            return self._untold.pop(0) | news
        record = self._train()
        self._curve.append(record)
        try:
            news = {**news, **self._save(record)}
        except StorageError as error:
            news = {**news, "storage_problem": str(error)}
        return record | news

    def _train(self) -> dict[str, Any]:
        """Train and validate an epoch. A diverged trial reports NaN once and ends."""
        began = time.perf_counter()
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
            "epoch_seconds": time.perf_counter() - began,
            "validated_on": "all" if sample is None else "sample",
            "stopped_early": exhausted,
            "done": exhausted or epoch >= task.max_epochs,
        }

    def _save(self, record: dict[str, Any]) -> dict[str, int]:
        """Write a checkpoint when one is due; return its size to report."""
        settings = self._all_checkpoints
        over = record["done"] and not settings.keep_best
        if over or "diverged" in record or record["epoch"] % settings.every:
            return {}
        state = {
            "identity": self._identity,
            "trainer": self._trainer.state_dict(),
            "stopping": self._stopping.state_dict(),
            "curve": json.dumps(self._curve),
        }
        best = best_epoch(self._curve, self._task.criterion.metric) if settings.keep_best else 0
        return {"checkpoint_bytes": self._checkpoints.save(record["epoch"], state, best)}

    def _restore(self) -> None:
        """Go on from the last whole checkpoint of this trial, if there is one."""
        state, problems = self._checkpoints.load()
        if state is not None and state["identity"] != self._identity:
            problems.append(f"the checkpoint of epoch {state['trainer']['epoch']} is of other hyperparameters")
            state = None
        if state is not None:
            self._trainer.load_state_dict(state["trainer"])
            self._stopping.load_state_dict(state["stopping"])
            self._curve = json.loads(state["curve"])
            self._news["went_on_from"] = self._trainer.epoch
        if problems:
            self._news["problems"] = problems


def identity(hyperparameters: Mapping[str, Any], seed: int) -> str:
    """Return what a checkpoint must be of, to be used."""
    given = {name: hyperparameters[name] for name in NAMES if name in hyperparameters}
    return json.dumps({**given, "seed": seed}, sort_keys=True)


def best_epoch(curve: Sequence[dict[str, Any]], metric: str) -> int:
    """Return the epoch with the best value; one measured on all validation sessions goes before those on a sample."""
    best = max(curve, key=lambda record: (record["validated_on"] == "all", record[metric], -record["epoch"]))
    return int(best["epoch"])


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
