"""The best trials once more with other seeds: one seed's luck should not choose the winner."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
import torch

from gru4rec.device import resolve_device
from gru4rec.errors import DivergedError
from gru4rec.fitting import fit_trainer
from gru4rec.hyperparameters import HyperParameters
from gru4rec.training import Trainer
from tuning.progress import TrialRecord
from tuning.searcher import trial_seed
from tuning.spec import SearchSpec
from tuning.trainable import TrialTask

RETRIES = 3  # of a training whose process or node died


@dataclass(frozen=True)
class Confirmation:
    """A trial's metrics with other seeds.

    Parameters
    ----------
    trial : int
    metrics : dict of str to list of float
        A value for each seed, after as many epochs as the trial was best at; NaN where the training diverged.
    """

    trial: int
    metrics: dict[str, list[float]]

    def mean(self, metric: str) -> float:
        """Return the mean over the seeds, minus infinity when one of them diverged."""
        mean = statistics.fmean(self.metrics[metric])
        return mean if math.isfinite(mean) else -math.inf


def confirm_trials(
    spec: SearchSpec, task: TrialTask, best: list[TrialRecord], seeds: int, say: Callable[[str], None]
) -> list[Confirmation]:
    """Train each of the trials again with `seeds` other seeds, on the Ray of this process, all side by side."""
    say(f"confirming the best {len(best)} trials with {seeds} other seeds each")
    shared = ray.put(task)
    remote = ray.remote(num_cpus=spec.cpus_per_trial, num_gpus=spec.gpus_per_trial, max_retries=RETRIES)(_train)
    runs = [
        [
            remote.remote(shared, trial.hyperparameters, trial_seed(spec.seed, trial.number, number), trial.best_epoch)
            for number in range(seeds)
        ]
        for trial in best
    ]
    return [
        Confirmation(trial.number, {key: [found[key] for found in ray.get(of_trial)] for key in task.metrics})
        for trial, of_trial in zip(best, runs, strict=True)
    ]


def _train(task: TrialTask, hyperparameters: dict[str, Any], seed: int, epochs: int) -> dict[str, float]:
    torch.set_num_threads(task.threads)
    device = resolve_device(task.device)
    trainer = Trainer(HyperParameters.from_dict(hyperparameters), task.train, seed=seed, device=device)
    try:
        fit_trainer(trainer, epochs)
        return trainer.validate(task.validation, task.metrics)
    except DivergedError:
        return dict.fromkeys(task.metrics, math.nan)
