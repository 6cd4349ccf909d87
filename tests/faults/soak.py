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
GROWTH = 0.1  # a trial's record, Optuna's and Ray's: some 16 KiB
SPARE_FILES = 4  # a worker that is just starting, a file that is just being written


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


def growth(looks: list[Look]) -> tuple[float, int, int, int]:
    """Return by which share memory, and by how much files, threads and files of workers grew between the quarters."""
    quarter = len(looks) // 4
    first, last = looks[quarter // 2 : quarter], looks[-quarter:]
    memory = [statistics.median(one.driver_mib for one in some) for some in (first, last)]
    counts = [
        max(getattr(one, name) for one in last) - max(getattr(one, name) for one in first)
        for name in ("driver_files", "driver_threads", "worker_files")
    ]
    return memory[1] / memory[0] - 1.0, counts[0], counts[1], counts[2]


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
    memory, *counts = growth(looks)
    print(
        f"{options.trials} trials, {epochs} epochs in {time.monotonic() - began:.0f} s: as many as {SLOTS} slots do "
        f"in a day when an epoch takes {SLOTS * DAY_S / epochs:.1f} s; from the first quarter to the last:"
    )
    print("memory {:+.1%}, files {:+d}, threads {:+d}, files of workers {:+d}".format(memory, *counts))
    return int(memory > GROWTH or any(count > SPARE_FILES for count in counts))


if __name__ == "__main__":
    sys.exit(main())
