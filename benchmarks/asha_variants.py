"""Variants of ASHA on recorded curves, in a simulator of a few lines: which one finds good models first.

Configurations are drawn at random, so that only the stopping differs. A variant is a grace period, a reduction factor,
what is compared at a rung (the value there or the best so far), how many other values a rung needs before it cuts, and
who goes on:

quantile: who is not below the 1 - 1 / reduction_factor quantile of those before it, as in Ray.
rank: who is among the best 1 / reduction_factor, itself counted; a trial that lost its patience earlier counts as well.
promote: all wait, and the best 1 / reduction_factor go on when a worker is free, without lost work (the paper: Li et
al., MLSys 2020); when no configuration is left to begin, the best of those that wait go on.
promote anew: the same without checkpoints; what a trial had trained before it waited is trained once more.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from curves import Curve, Pool, full_seconds, median, target

MAX_EPOCHS = 10
BUDGETS = (100, 200, 400)
STOPPING = ("quantile", "rank")
NEVER = math.inf
MEAN = "mean share"


@dataclass(frozen=True)
class Variant:
    """One way to stop trials.

    Parameters
    ----------
    kind : {'none', 'quantile', 'rank', 'promote', 'promote anew'}
    grace_period, reduction_factor : int
    best_so_far : bool
        Compare the best value so far instead of the present one.
    min_values : int
        Values that a rung must hold before one more is stopped there.
    patience : int
        Epochs without improvement after which a trial ends by itself.
    """

    kind: str
    grace_period: int = 1
    reduction_factor: int = 4
    best_so_far: bool = False
    min_values: int = 1
    patience: int = 3

    @property
    def promotes(self) -> bool:
        """Whether trials wait at rungs instead of ending there."""
        return self.kind.startswith("promote")

    @property
    def rungs(self) -> list[int]:
        """Epochs at which trials are compared."""
        if self.kind == "none":
            return []
        powers = (self.grace_period * self.reduction_factor**k for k in itertools.count())
        return list(itertools.takewhile(lambda epoch: epoch < MAX_EPOCHS, powers))


@dataclass
class Trial:
    """A training on its way; `again` epochs come before the next one, because they were not kept."""

    curve: Curve
    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    again: int = 0


class Asha:
    """The rungs of one search."""

    def __init__(self, variant: Variant) -> None:
        self._variant = variant
        self._values: dict[int, list[tuple[float, Trial]]] = {rung: [] for rung in variant.rungs}
        self._promoted: dict[int, set[int]] = {rung: set() for rung in variant.rungs}

    def goes_on(self, trial: Trial, value: float) -> bool:
        """Whether a trial that has just been measured goes on at once."""
        if trial.epoch not in self._values:
            return True
        rung = self._values[trial.epoch]
        value = trial.best if self._variant.best_so_far else value
        before = [other for other, _ in rung]
        rung.append((value, trial))
        if self._variant.promotes:
            return False
        if len(before) < self._variant.min_values:
            return True
        if self._variant.kind == "quantile":
            return bool(value >= np.quantile(before, 1 - 1 / self._variant.reduction_factor))
        return sum(other > value for other in before) < max(1.0, len(rung) / self._variant.reduction_factor)

    def lost_patience(self, trial: Trial) -> None:
        """Let a trial that ended by itself be compared at later rungs, where the variant says so."""
        if self._variant.kind == "rank":
            for epoch in self._values:
                if epoch >= trial.epoch:
                    self._values[epoch].append((trial.best, trial))

    def promote(self, anyone: bool = False) -> Trial | None:
        """Take a waiting trial out of the highest rung that has one among its best 1 / reduction_factor, or at all."""
        if not self._variant.promotes:
            return None
        for epoch in sorted(self._values, reverse=True):
            rung = sorted(self._values[epoch], key=lambda entry: -entry[0])
            for _, trial in rung if anyone else rung[: len(rung) // self._variant.reduction_factor]:
                if id(trial) not in self._promoted[epoch]:
                    self._promoted[epoch].add(id(trial))
                    trial.again = trial.epoch if self._variant.kind == "promote anew" else 0
                    return trial
        return None


@dataclass
class Course:
    """What a search had found after each epoch that it finished: one entry an epoch, in order of time."""

    best: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def add(self, best: list[float], cpu_s: float) -> None:
        """Add epochs that ended at the same time."""
        self.best += best
        self.cpu_s += [cpu_s] * len(best)

    def epochs_to(self, value: float) -> float:
        """Return how many epochs it took to find this value."""
        return next((float(done) for done, best in enumerate(self.best, 1) if best >= value), NEVER)

    def cpu_s_to(self, value: float) -> float:
        """Return how many CPU seconds it took to find this value."""
        return next((spent for best, spent in zip(self.best, self.cpu_s, strict=True) if best >= value), NEVER)

    def best_after(self, epochs: int) -> float:
        """Return the best value of the first `epochs` epochs."""
        return self.best[min(epochs, len(self.best)) - 1]


def simulate(order: Sequence[Curve], variant: Variant, workers: int) -> Course:
    """Run one search over the curves in this order."""
    asha, fresh, course = Asha(variant), iter(order), Course()
    running: list[tuple[float, int, float, Trial]] = []
    count = itertools.count()
    best, finished_s = -math.inf, 0.0

    def start(trial: Trial | None, now: float) -> None:
        if trial is not None:
            seconds = sum(trial.curve.seconds[trial.epoch - trial.again : trial.epoch + 1])
            heapq.heappush(running, (now + seconds, next(count), now, trial))

    def next_trial() -> Trial | None:
        waiting = asha.promote()
        if waiting is not None:
            return waiting
        curve = next(fresh, None)
        return asha.promote(anyone=True) if curve is None else Trial(curve)

    for _ in range(workers):
        start(next_trial(), 0.0)
    while running:
        now, _, began, trial = heapq.heappop(running)
        finished_s += now - began
        spent_s = finished_s + sum(now - started for _, _, started, _ in running)
        course.add([best] * trial.again, spent_s)
        goes_on = _advance(trial, variant, asha)
        best = max(best, trial.best)
        course.add([best], spent_s)
        start(trial if goes_on else next_trial(), now)
    return course


def _advance(trial: Trial, variant: Variant, asha: Asha) -> bool:
    """Add an epoch to a trial; tell whether it goes on at once."""
    trial.epoch += 1
    trial.again = 0
    if trial.epoch > len(trial.curve.epochs):  # diverged
        return False
    value = trial.curve.values[trial.epoch - 1]
    if value > trial.best:
        trial.best, trial.best_epoch = value, trial.epoch
    if trial.epoch >= MAX_EPOCHS:
        return False
    if trial.epoch - trial.best_epoch >= variant.patience:
        asha.lost_patience(trial)
        return False
    return asha.goes_on(trial, value)


def variants() -> Iterator[Variant]:
    """Yield all that are compared: those that stop nothing, all combinations, and some with another patience."""
    yield Variant("none", patience=MAX_EPOCHS)
    yield Variant("none")
    for grace, factor, best in itertools.product((1, 2, 3), (2, 3, 4), (False, True)):
        for values in (1, 2, 3):
            yield Variant("quantile", grace, factor, best, values)
            yield Variant("rank", grace, factor, best, values)
        yield Variant("promote", grace, factor, best)
        yield Variant("promote anew", grace, factor, best)
    for kind, grace, factor, patience in itertools.product(STOPPING, (1, 2, 3), (2, 3, 4), (1, 2, MAX_EPOCHS)):
        yield Variant(kind, grace, factor, best_so_far=True, patience=patience)


def draw_orders(pool: Pool, seeds: int, known_first: bool) -> list[list[Curve]]:
    """Return what searches try, in order: a random half of the pool each, so that not all have the same best curve.

    `known_first` puts the known-good points before, in a random order too.
    """
    orders = []
    for seed in range(seeds):
        half = pool.shuffled(seed)[: max(1, len(pool.random) // 2)]
        known = list(np.random.default_rng(seed).permutation(len(pool.portfolio))) if known_first else []
        orders.append([*(pool.portfolio[index] for index in known), *half])
    return orders


def measure(orders: Sequence[Sequence[Curve]], variant: Variant, workers: int) -> dict[str, Any]:
    """Run a variant over each order; return its figures. The target is the best curve of the order.

    Shares are of the CPU seconds of training all of an order to the end; in their means, a target that was never
    reached counts as all of them.
    """
    courses = [simulate(order, variant, workers) for order in orders]
    goals = [target(order, len(order)) for order in orders]
    everything = [full_seconds(order, len(order)) for order in orders]
    pairs = list(zip(courses, goals, strict=True))
    cpu_s = [course.cpu_s_to(goal) for course, goal in pairs]
    shares = np.minimum(np.array(cpu_s) / everything, 1.0)
    near = np.minimum(np.array([course.cpu_s_to(goal - 0.002) for course, goal in pairs]) / everything, 1.0)
    return {
        "variant": variant.kind,
        "grace": variant.grace_period,
        "factor": variant.reduction_factor,
        "compares": "best" if variant.best_so_far else "present",
        "min values": variant.min_values,
        "patience": variant.patience,
        "workers": workers,
        "epochs": median([course.epochs_to(goal) for course, goal in pairs]),
        "CPU s": median(cpu_s),
        MEAN: float(np.mean(shares)),
        "+-": float(np.std(shares) / np.sqrt(len(orders))),
        "mean -0.002": float(np.mean(near)),
        "reached": float(np.mean(np.isfinite(cpu_s))),
        **{f"lost@{n}": float(np.mean([goal - course.best_after(n) for course, goal in pairs])) for n in BUDGETS},
    }


def marginals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean figures of each level of each factor, over the variants that have the other factors in common."""
    figures = (MEAN, "mean -0.002", "reached", *(f"lost@{budget}" for budget in BUDGETS))
    cells = [row for row in rows if row["variant"] != "none"]
    usual = [row for row in cells if row["patience"] == Variant.patience]
    stopping = [row for row in usual if row["variant"] in STOPPING]
    plain = [
        row for row in cells if row["variant"] in STOPPING and row["compares"] == "best" and row["min values"] == 1
    ]
    comparable = {"variant": usual, "grace": usual, "factor": usual, "compares": usual}
    summary = []
    for factor, of_factor in {**comparable, "min values": stopping, "patience": plain}.items():
        for level in sorted({row[factor] for row in of_factor}):
            chosen = [row for row in of_factor if row[factor] == level]
            means = {figure: float(np.mean([row[figure] for row in chosen])) for figure in figures}
            summary.append({"what": factor, "level": str(level), **means})
    return summary
