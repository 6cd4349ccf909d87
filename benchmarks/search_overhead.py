"""What the search itself costs: trials per second, and CPU time of the driving process per trial and per report.

    python benchmarks/search_overhead.py [--rounds 3] [--json FILE]

Every trial is real, but tiny (a few milliseconds an epoch), so that what is left is overhead: suggestion, actor reuse,
scheduling, reports, files. One search has many trials of one report, the other few trials of many reports. Figures are
taken from the first report to the last, so that starting Ray and its workers is outside.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from gru4rec.cli.output import print_table
from gru4rec.data.reading import read_log
from gru4rec.data.synthetic import generate_log
from gru4rec.stopping import StoppingRule
from tuning.checkpoints import Checkpoints
from tuning.presets import PRESETS
from tuning.progress import Progress
from tuning.ray_runtime import ray_for
from tuning.search import make_task, run_trials
from tuning.search_data import SearchData
from tuning.spec import SearchSpec
from tuning.terminal import captured_output

SEARCHES = {"many trials": (200, 1), "many reports": (4, 250)}


def measure(trials: int, epochs: int, data: SearchData) -> dict[str, Any]:
    """Run one search; return its rates."""
    spec = SearchSpec(
        dataclasses.replace(PRESETS["full"], points=()),
        trials=trials,
        max_epochs=epochs,
        criterion=StoppingRule("recall@20", epochs),
        grace_period=epochs,
    )
    task = make_task(spec, data)
    marks: list[tuple[int, float, float]] = []

    def mark(progress: Progress) -> None:
        if progress.epochs and (not marks or progress.epochs > marks[-1][0]):
            marks.append((progress.epochs, time.time(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder, captured_output(Path(folder) / "ray.log"), ray_for(spec) as slots:
        at_once = slots.now()
        result = run_trials(spec, task, Path(folder), slots, Checkpoints(folder), on_progress=mark)
    (first_report, first_s, first_cpu_s), (last_report, last_s, last_cpu_s) = marks[0], marks[-1]
    reports, wall_s, cpu_s = last_report - first_report, last_s - first_s, last_cpu_s - first_cpu_s
    training_s = sum(record.seconds for record in result.trials)
    return {
        "slots": at_once,
        "reports/s": reports / wall_s,
        "driver CPU ms/report": 1000 * cpu_s / reports,
        "slot ms/report": 1000 * wall_s * at_once / reports,
        "of it training ms": 1000 * training_s / last_report,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    log = read_log(generate_log(30, 100))
    rows = []
    for name, (trials, epochs) in SEARCHES.items():
        runs = [measure(trials, epochs, SearchData(log, log)) for _ in range(options.rounds)]
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        rows.append({"search": f"{name} ({trials} x {epochs})", **medians})
    print(f"medians of {options.rounds} searches each; a trial of 'many trials' has one report")
    print_table(rows, list(rows[0]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
