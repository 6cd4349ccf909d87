"""Draws docs/rungs.svg: recorded trials one after the other, and where ASHA ends them.

    python docs/draw_rungs.py

The curves are the first of benchmarks/curves/yoochoose_24h.ndjson; a trial is drawn up to the epoch at which it ended.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from gru4rec.files import atomic_file
from gru4rec.stopping import EarlyStopping
from tuning.schedule import make_scheduler
from tuning.space import Space
from tuning.spec import SearchSpec

CURVES = Path(__file__).parents[1] / "benchmarks" / "curves" / "yoochoose_24h.ndjson"
TRIALS = 20
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 360, 60, 30, 40
LOWEST, HIGHEST = 0.4, 0.75
STYLE = (
    "text{font:13px sans-serif;fill:#555} .rung{stroke:#999;stroke-dasharray:4 4} .on{stroke:#1b6ca8;stroke-width:2}"
    " .off{stroke:#c9a227;stroke-width:1.3} polyline{fill:none} .end{fill:#c9a227} .win{fill:#1b6ca8}"
)


def main() -> None:
    """Play the trials and write the picture."""
    lines = [json.loads(line) for line in CURVES.read_text(encoding="utf-8").splitlines()]
    curves = [[epoch["recall@20"] for epoch in line["epochs"]] for line in lines if line["source"] == "random"]
    spec = SearchSpec(Space(()), trials=TRIALS)
    scheduler = make_scheduler(spec)
    shapes = [
        f'<line class="rung" x1="{x(rung):.1f}" x2="{x(rung):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text x="{x(rung):.1f}" y="{TOP - 10}" text-anchor="middle">rung {number}: epoch {rung}</text>'
        for number, rung in enumerate(spec.rungs, 1)
    ]
    for number, curve in enumerate([curve for curve in curves if len(curve) == spec.max_epochs][:TRIALS]):
        trained = curve[: play(scheduler, spec, number, curve)]
        finished = len(trained) == spec.max_epochs
        points = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in enumerate(trained, 1))
        shapes.append(f'<polyline class="{"on" if finished else "off"}" points="{points}"/>')
        last = f'cx="{x(len(trained)):.1f}" cy="{y(trained[-1]):.1f}"'
        shapes.append(f'<circle class="{"win" if finished else "end"}" r="3.5" {last}/>')
    for value in (0.4, 0.5, 0.6, 0.7):
        shapes.append(f'<text x="{LEFT - 12}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
    shapes.append(f'<text x="{LEFT - 12}" y="{TOP - 10}" text-anchor="end">recall</text>')
    shapes += [
        f'<text x="{x(epoch):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{epoch}</text>'
        for epoch in range(1, spec.max_epochs + 1)
    ]
    shapes.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">epoch</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><style>{STYLE}</style>'
    with atomic_file(Path(__file__).parent / "rungs.svg") as temporary:
        temporary.write_text("\n".join([head, *shapes, "</svg>"]) + "\n", encoding="utf-8")


def play(scheduler: object, spec: SearchSpec, number: int, curve: list[float]) -> int:
    """Return the epoch at which a trial ends."""
    trial = SimpleNamespace(trial_id=str(number))
    stopping = EarlyStopping(spec.criterion)
    epoch = 0
    for epoch, value in enumerate(curve, 1):
        stopping.update(value)
        done = stopping.exhausted or epoch == spec.max_epochs
        result = {"epoch": epoch, "recall@20": value, "best": stopping.best_value, "stopped_early": stopping.exhausted}
        if done or scheduler.on_trial_result(None, trial, result) == "STOP":
            break
    scheduler.on_trial_complete(None, trial, result)
    return epoch


def x(epoch: int) -> float:
    """Return where an epoch is."""
    return LEFT + (epoch - 0.5) * (WIDTH - LEFT) / 10


def y(value: float) -> float:
    """Return where a value is; those below the lowest are at the bottom."""
    share = (max(value, LOWEST) - LOWEST) / (HIGHEST - LOWEST)
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


if __name__ == "__main__":
    main()
