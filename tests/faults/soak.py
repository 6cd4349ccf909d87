"""A long search in short time: thousands of trials with epochs of milliseconds, and whether anything grows meanwhile.

    python tests/faults/soak.py --trials 2400

Trials, reports, suggestions, checkpoints and files are those of a search that lasts a day or more, on a real Ray with
real workers; only the epochs are short. What is looked at is the memory, the open files and the threads of the search's
own process, and the open files of its workers. The exit code is 1 when, from the first quarter of the trials to the
last, memory has grown by more than `GROWTH`, or files or threads are more.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from gru4rec.cli.output import render_table
from gru4rec.data.reading import read_log
from gru4rec.data.synthetic import generate_log
from gru4rec.stopping import StoppingRule
from tuning.checkpoints import Checkpoints
from tuning.journal import RUNNING
from tuning.presets import PRESETS
from tuning.progress import Progress
from tuning.ray_runtime import ray_for
from tuning.search import make_task, run_trials
from tuning.search_data import SearchData
from tuning.spec import SearchSpec
from tuning.terminal import captured_output

EPOCHS = 10
SLOTS = 2
LOOKS = 48
DAY_S = 86_400
GROWTH = 0.1  # a trial's record, Optuna's and Ray's: some 20 KiB
SPARE = 2  # files and threads: one that is just being written, one that is about to end


@dataclass(frozen=True)
class Look:
    """What the processes of a search take after some trials."""

    trials: int
    driver_mib: float
    driver_files: int
    driver_threads: int
    worker_files: int  # of the worker that has most


def look(trials: int) -> Look:
    """Look at this process and at the workers below it."""
    driver = psutil.Process()
    files = [0]
    for process in driver.children(recursive=True):
        try:
            if process.name().startswith("ray::"):
                files.append(process.num_fds())
        except psutil.NoSuchProcess:
            continue
    return Look(trials, driver.memory_info().rss / 2**20, driver.num_fds(), driver.num_threads(), max(files))


def soak(trials: int, folder: Path) -> tuple[list[Look], int]:
    """Run a search of so many trials, look at it from time to time, and count its epochs."""
    log = read_log(generate_log(30, 100))
    spec = SearchSpec(
        dataclasses.replace(PRESETS["full"], points=()),
        trials=trials,
        max_epochs=EPOCHS,
        criterion=StoppingRule("recall@20", 3),
        max_concurrent_trials=SLOTS,
    )
    looks: list[Look] = []

    def watch(progress: Progress) -> None:
        done = sum(count for state, count in progress.states.items() if state != RUNNING)
        if done >= len(looks) * trials // LOOKS:
            looks.append(look(done))

    task = make_task(spec, SearchData(log, log))
    with captured_output(folder / "ray.log"), ray_for(spec) as slots:
        checkpoints = Checkpoints(str(folder / "checkpoints"))
        result = run_trials(spec, task, folder, slots, checkpoints, on_progress=watch)
        looks.append(look(trials))
    ends = {record.state for record in result.trials}
    assert len(result.trials) == trials and RUNNING not in ends, f"{len(result.trials)} trials: {ends}"
    return looks, sum(record.epochs for record in result.trials)


def growth(looks: list[Look]) -> dict[str, float]:
    """Return by how much the median of each figure grew from the first quarter of the looks to the last."""
    quarter = len(looks) // 4
    first, last = looks[quarter // 2 : quarter], looks[-quarter:]  # it begins when all workers have begun
    names = [field.name for field in dataclasses.fields(Look)[1:]]
    medians = [
        {name: statistics.median(getattr(one, name) for one in some) for name in names} for some in (first, last)
    ]
    return {name: medians[1][name] - medians[0][name] for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2_400)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        os.environ["RAY_TMPDIR"] = name  # whoever starts Ray on this machine must not find ours
        looks, epochs = soak(options.trials, Path(name))
    rows = [dataclasses.asdict(one) for one in looks[:: LOOKS // 8]]
    print(render_table(rows, list(rows[0])))
    grown = growth(looks)
    share = grown["driver_mib"] / looks[0].driver_mib
    print(
        f"{options.trials} trials, {epochs} epochs in {time.monotonic() - began:.0f} s: as many as {SLOTS} slots do "
        f"in a day when an epoch takes {SLOTS * DAY_S / epochs:.1f} s; from the first quarter to the last:"
    )
    print(", ".join(f"{name} {value:+.1f}" for name, value in grown.items()) + f"; memory {share:+.1%}")
    return int(share > GROWTH or any(grown[name] > SPARE for name in grown if name != "driver_mib"))


if __name__ == "__main__":
    sys.exit(main())
