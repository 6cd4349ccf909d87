"""CPU seconds of training up to a validation recall@20: ours and the authors' GRU4Rec, with two settings each.

    python benchmarks/time_to_accuracy.py --official FOLDER [--data FOLDER] [--seeds 5] [--target 0.715]
                                          [--max-epochs 8] [--json FILE]

The FOLDER of --official is a checkout of the authors' code for PyTorch (research only, so not part of this project),
which is run as `parity_official` does; without it ours alone is measured. Of the two settings, one is the fastest that
was found with the 2,048 negatives of all the authors' parameter files, the other the fastest that was found. Both were
chosen by the validation log of yoochoose_24h, with seeds from 100 on; an earlier "fast" (112 units, 512 negatives) gave
way after seeds 0 to 4 had been measured. Both codes have all parameters of both. train_tr.parquet of --data trains,
train_valid.parquet validates.

Seed by seed all take turns, so that they see the same machine. The seconds are those of making the model and training
it up to the end of the first epoch at which the target is reached. One evaluator, ours, ranks for both, off the clock.
The authors' store of drawn negatives holds 100 mini-batches, not ten million items, so that few are drawn in vain.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from parity_official import DATA, EnoughStepsError, Official, our_weights

from gru4rec.cli.output import note, print_table
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions
from gru4rec.errors import DivergedError
from gru4rec.evaluation import compute_ranks
from gru4rec.fitting import align_validation
from gru4rec.hyperparameters import HyperParameters
from gru4rec.metrics import compute_metrics
from gru4rec.nn.network import Network
from gru4rec.training import Trainer

METRICS = ("recall@20", "mrr@20")
_COMMON = {
    "loss": "bpr-max", "embedding": 0, "constrained_embedding": True, "sample_alpha": 0.2,
    "dropout_p_embed": 0.4, "dropout_p_hidden": 0.2, "bpreg": 1.0, "elu_param": 0.5,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {  # under the authors' names
    "2,048 negatives": {**_COMMON, "layers": [112], "n_sample": 2048, "batch_size": 96, "learning_rate": 0.12},
    "fast": {**_COMMON, "layers": [96], "n_sample": 768, "batch_size": 48, "learning_rate": 0.1},
}


@dataclass
class Race:
    """One training against a clock that stands still while the model is ranked.

    Parameters
    ----------
    validation : Sessions
    target : float
        Of recall@20.
    max_epochs : int
    """

    validation: Sessions
    target: float
    max_epochs: int
    epochs: list[dict[str, float]] = field(default_factory=list)
    _began: float = field(default_factory=time.process_time)

    def end_epoch(self, network: Callable[[], Network]) -> bool:
        """Rank the model as it is at the end of an epoch; return whether that was the last one."""
        cpu_s = time.process_time() - self._began
        figures = compute_metrics(compute_ranks(network(), self.validation).ranks, METRICS)
        self.epochs.append({**figures, "cpu_s": cpu_s})
        self._began = time.process_time() - cpu_s
        return self.reached or len(self.epochs) == self.max_epochs

    @property
    def reached(self) -> bool:
        """Whether the last epoch has the target."""
        return bool(self.epochs) and self.epochs[-1][METRICS[0]] >= self.target

    @property
    def cpu_s(self) -> float:
        """CPU seconds of training up to the target; infinite when it was not reached."""
        return self.epochs[-1]["cpu_s"] if self.reached else math.inf


Runner = Callable[[dict[str, Any], int, Race], None]
"""(settings, seed, the race to run) -> None."""


def train_ours(train: Sessions, settings: dict[str, Any], seed: int, race: Race) -> None:
    """Train with this project."""
    trainer = Trainer(HyperParameters.from_official(settings), train, seed=seed)
    last = False
    while not last:
        trainer.train_epoch()
        last = race.end_epoch(lambda: trainer.network)


def train_theirs(official: Official, train: Sessions, settings: dict[str, Any], seed: int, race: Race) -> None:
    """Train with the authors' code."""
    classes, models = official.module, []
    fit, mini_batches = classes.GRU4Rec.fit, classes.SessionDataIterator.__call__
    hyperparameters = HyperParameters.from_official(settings)

    def fit_watched(model: Any, frame: Any) -> None:
        models.append(model)
        fit(model, frame, sample_cache_max_size=100 * settings["n_sample"])

    def epoch(iterator: Any, **options: Any) -> Iterator[Any]:
        yield from mini_batches(iterator, **options)
        if race.end_epoch(lambda: Network(train.num_items, hyperparameters, our_weights(models[0]))):
            raise EnoughStepsError

    with (
        mock.patch.object(classes.GRU4Rec, "fit", fit_watched),
        mock.patch.object(classes.SessionDataIterator, "__call__", epoch),
    ):
        official.train(settings, seed, race.max_epochs)


def words(settings: dict[str, Any]) -> str:
    """Return what sets the settings apart, in one line."""
    names = {
        "n_sample": "negatives", "sample_alpha": "alpha", "layers": "units", "batch_size": "batch",
        "learning_rate": "rate", "momentum": "momentum", "dropout_p_embed": "dropout", "dropout_p_hidden": "and",
        "bpreg": "bpreg", "elu_param": "elu", "logq": "logq",
    }  # fmt: skip
    values = {name: value[0] if isinstance(value, list) else value for name, value in settings.items()}
    return " ".join([values["loss"], *(f"{names[name]} {values[name]:g}" for name in names if name in values)])


def summarise(races: dict[tuple[str, str], list[Race]]) -> list[dict[str, Any]]:
    """Return a row of the table for each code and setting; the ratio is the median of those to ours, fast, by seed."""
    rows = []
    for (code, name), runs in races.items():
        seconds = statistics.median(run.cpu_s for run in runs)
        ratios = [run.cpu_s / ours.cpu_s for run, ours in zip(runs, races["ours", "fast"], strict=True)]
        lasts = [run.epochs[-1] for run in runs if run.epochs]
        rows.append(
            {
                "code": code,
                "settings": name,
                "reached": f"{sum(run.reached for run in runs)} of {len(runs)}",
                "epochs": statistics.median(len(run.epochs) for run in runs),
                "CPU s": seconds if math.isfinite(seconds) else None,
                **{metric: statistics.mean(last[metric] for last in lasts) if lasts else None for metric in METRICS},
                "times ours fast": ratio if math.isfinite(ratio := statistics.median(ratios)) else None,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="checkout of the authors' GRU4Rec for PyTorch")
    parser.add_argument("--data", type=Path, default=DATA / "yoochoose_24h")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--target", type=float, default=0.715, help="recall@20")
    parser.add_argument("--max-epochs", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logs = [options.data / name for name in ("train_tr.parquet", "train_valid.parquet")]
    if missing := [log for log in logs if not log.is_file()]:
        print(f"{missing[0]} is not there: skipped")
        return
    train = read_log(logs[0])
    train = train.select_sessions(train.lengths >= 2).with_own_items()
    validation = align_validation(read_log(logs[1]), train)

    races: dict[tuple[str, str], list[Race]] = {}
    for seed in range(options.seeds):
        for code, run in _codes(options.official, train).items():
            for name, settings in SETTINGS.items():
                race = Race(validation, options.target, options.max_epochs)
                with contextlib.suppress(DivergedError):  # then it has not reached the target
                    run(settings, seed, race)
                races.setdefault((code, name), []).append(race)
                note(f"{code}, {name}, seed {seed}: {race.epochs}")
    rows = summarise(races)
    print(f"{train.num_targets:,} targets, {train.num_items:,} items, 1 thread, to recall@20 of {options.target:g}")
    for name, settings in SETTINGS.items():
        print(f"{name}: {words(settings)}")
    print_table(rows, list(rows[0]))
    if options.json:
        raw = [
            {"code": code, "settings": SETTINGS[name], "target": options.target, "seeds": [run.epochs for run in runs]}
            for (code, name), runs in races.items()
        ]
        options.json.write_text(json.dumps({"table": rows, "runs": raw}, indent=2), encoding="utf-8")


def _codes(folder: Path | None, train: Sessions) -> dict[str, Runner]:
    codes: dict[str, Runner] = {"ours": partial(train_ours, train)}
    if folder is not None and not (folder / "gru4rec_pytorch.py").is_file():
        print(f"{folder / 'gru4rec_pytorch.py'} is not there: ours alone")
    elif folder is not None:
        codes["authors"] = partial(train_theirs, Official(folder, train), train)
    return codes


if __name__ == "__main__":
    main()
