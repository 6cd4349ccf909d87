"""How fast different searches find good models, by replaying recorded learning curves through Ray Tune's controller.

    python benchmarks/search_efficiency.py [--curves FILE] [--seeds 11] [--workers 4 16 ...] [--quick] [--json FILE]
    python benchmarks/search_efficiency.py --variants [--curves FILE] [--json FILE]

Nothing is trained: see replay.py for what is real and what is simulated, pool_search.py for how a searcher chooses from
the recorded configurations. The measure is CPU seconds of training and validation, as recorded, until an epoch first
reaches the target: the best validation recall@20 that a random search of 100 configurations, each trained to its end,
finds in that seed's order of the pool.

The searches: ours (known-good points, TPE, ASHA, patience: all defaults), ours without the points, our scheduler on
random configurations, random configurations trained to their end, the authors' scheme (Optuna's TPE of their time,
every training to its end), and Ray's own ASHA (grace_period 1, reduction_factor 4) on random configurations. Then ours
without the points (the first of them may be all that it takes) on more and more simulated workers, with as many trials
as keep them busy, so that configurations of the pool come more than once. `--variants` compares variants of ASHA
instead, in the small simulator of asha_variants.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import multiprocessing
import resource
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from asha_variants import MEAN, draw_orders, marginals, measure, variants
from curves import MEASURES, METRIC, Curve, Pool, full_seconds, median, read_curves, synthetic_pool, target
from memory import peak_growth
from pool_search import LastValueSearcher, Nearest, PoolRandom, SnappingAsk
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from replay import Replay, Replayed, small_ray

from gru4rec.cli.output import note, print_table
from gru4rec.files import atomic_file
from gru4rec.stopping import StoppingRule
from tuning.presets import PRESETS
from tuning.schedule import make_scheduler
from tuning.searcher import make_searcher
from tuning.spec import SearchSpec
from tuning.terminal import captured_output

SPACE = PRESETS["full"]
BARE_SPACE = dataclasses.replace(SPACE, points=())
OFFICIAL_STARTUP_TRIALS = 10  # Optuna's default, which the authors' paropt.py leaves alone
NEAR = 0.01  # below the target, which one configuration of the pool alone may reach
TRIALS_OF_TARGET = 100
NUM_OWN_POINTS = 2  # of KNOWN_GOOD
WORKERS = (4, 16, 64, 256, 1024)
LOG = Path(tempfile.gettempdir()) / "search_efficiency.log"
COLORS = ("#1b6ca8", "#3aa0d8", "#7a4fb5", "#b58ad8", "#999999", "#c9a227", "#c0392b")
STEPS = 60  # of the curves of the best value so far

Search = tuple[SearchSpec, Any, Any]
Setup = Callable[[Replay, Pool, int], Search]


def ours(replay: Replay, pool: Pool, seed: int) -> Search:
    """Our searcher and scheduler with all defaults."""
    points = min(len(SPACE.fitted_points()), len(pool.portfolio))
    spec = SearchSpec(SPACE, trials=points + len(pool.random), seed=seed)
    return _ours(replay, spec, [*pool.portfolio, *pool.random])


def ours_with_published_points(replay: Replay, pool: Pool, seed: int) -> Search:
    """The same with the points that others published; those of our own were partly chosen on this log."""
    space = dataclasses.replace(SPACE, points=SPACE.points[NUM_OWN_POINTS:])
    published = pool.portfolio[NUM_OWN_POINTS:]
    return _ours(
        replay, SearchSpec(space, trials=len(published) + len(pool.random), seed=seed), [*published, *pool.random]
    )


def ours_without_points(replay: Replay, pool: Pool, seed: int) -> Search:
    """The same without the known-good points."""
    return _ours(replay, SearchSpec(BARE_SPACE, trials=len(pool.random), seed=seed), pool.random)


def random_with_our_scheduler(replay: Replay, pool: Pool, seed: int) -> Search:
    """Our scheduler and patience, nothing to choose by."""
    spec = SearchSpec(BARE_SPACE, trials=len(pool.random), seed=seed)
    return spec, PoolRandom(METRIC, replay, pool.shuffled(seed)), make_scheduler(spec)


def random_to_the_end(replay: Replay, pool: Pool, seed: int) -> Search:
    """Random configurations, all epochs of each."""
    spec = _without_patience(min(TRIALS_OF_TARGET, len(pool.random)), seed)
    return spec, PoolRandom(METRIC, replay, pool.shuffled(seed)), FIFOScheduler()


def official(replay: Replay, pool: Pool, seed: int) -> Search:
    """Optuna as the authors use it: no stopping, a trial's value is that of its last epoch."""
    spec = _without_patience(len(pool.random), seed)
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=OFFICIAL_STARTUP_TRIALS, multivariate=False, constant_liar=False
    )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    searcher = LastValueSearcher(spec, study)
    _snap(study, replay, spec, pool.random)
    return spec, searcher, FIFOScheduler()


def ray_asha(replay: Replay, pool: Pool, seed: int) -> Search:
    """Ray's scheduler with its defaults."""
    np.random.seed(seed)  # Ray draws brackets from this generator
    spec = _without_patience(len(pool.random), seed)
    scheduler = ASHAScheduler(
        time_attr="epoch", metric=METRIC, mode="max", max_t=spec.max_epochs, grace_period=1, reduction_factor=4
    )
    return spec, PoolRandom(METRIC, replay, pool.shuffled(seed)), scheduler


METHODS: dict[str, Setup] = {
    "ours": ours,
    "ours, published points only": ours_with_published_points,
    "ours without points": ours_without_points,
    "our scheduler, random": random_with_our_scheduler,
    "random to the end": random_to_the_end,
    "authors' scheme": official,
    "Ray's ASHA, random": ray_asha,
}


def compare(pool: Pool, seeds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a row for each method, and the curves of the best value so far against CPU seconds."""
    order = {seed: pool.shuffled(seed) for seed in range(seeds)}
    goals = [target(order[seed], TRIALS_OF_TARGET) for seed in order]
    everything = [full_seconds(order[seed], TRIALS_OF_TARGET) for seed in order]
    runs: dict[str, list[Replayed]] = {}
    for name, setup in METHODS.items():
        note(name)
        runs[name] = [run(setup, pool, seed) for seed in order]
    rows = [_row(name, replays, goals, everything) for name, replays in runs.items()]
    rival = next(row for row in rows if row["search"] == "Ray's ASHA, random")
    for row in rows:
        row["of Ray's ASHA"] = row["CPU s"] / rival["CPU s"]
    grid = np.geomspace(0.002, 1.0, STEPS) * median(everything)
    courses = {name: [_median_best(replays, moment) for moment in grid] for name, replays in runs.items()}
    return rows, {
        "CPU s": grid.tolist(),
        METRIC: courses,
        "target": median(goals),
        "all 100, CPU s": median(everything),
    }


def run(setup: Setup, pool: Pool, seed: int) -> Replayed:
    """Run one search on one worker."""
    replay = Replay(workers=1)
    return replay.run(*setup(replay, pool, seed))


def scale(pool: Pool, workers: int, seed: int) -> dict[str, Any]:
    """Run our search on so many workers in a process of its own, so that its memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_scale_here, pool, workers, seed).result()


def _scale_here(pool: Pool, workers: int, seed: int) -> dict[str, Any]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    goal = target(pool.shuffled(seed), TRIALS_OF_TARGET)
    with small_ray():
        before = _resident_bytes()
        replay = Replay(workers)
        spec = SearchSpec(BARE_SPACE, trials=max(200, 4 * workers), seed=seed)
        search = _ours(replay, spec, pool.random, reuse=True)
        replayed, growth = peak_growth(lambda: replay.run(*search, totals=True))
    return {
        "workers": workers,
        "seed": seed,
        "trials": len(replayed.starts),
        "reports": len(replayed.reports),
        "s to target": replayed.time_to(goal),
        "s to -0.01": replayed.time_to(goal - NEAR),
        "whole search s": replayed.elapsed_s,
        "controller ms/report": 1000 * replayed.controller_s / len(replayed.reports),
        "controller load": replayed.controller_s / replayed.elapsed_s,
        "idle share": replayed.idle_share,
        "trained s/s": sum(end - begin for begin, end in replayed.busy) / replayed.elapsed_s,
        "driver MB": (before + growth) / 1e6,
        "of it before MB": before / 1e6,
    }


def scale_table(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the medians of each number of workers, and speed-ups over one worker."""
    rows = []
    for workers in dict.fromkeys(point["workers"] for point in points):
        chosen = [point for point in points if point["workers"] == workers]
        rows.append({key: median([point[key] for point in chosen]) for key in chosen[0] if key != "seed"})
        rows[-1] |= {key: int(rows[-1][key]) for key in ("workers", "trials", "reports")}
    for row in rows:
        row["speed-up"] = rows[0]["s to -0.01"] / row["s to -0.01"]
    return rows


def picture(course: dict[str, Any], measure: str, file: Path) -> None:
    """Draw the best value so far against CPU seconds, on a logarithmic scale, as SVG."""
    width, height, left, top, bottom = 760, 400, 60, 30, 45
    seconds = np.log10(course["CPU s"])
    lowest, highest = course["target"] - 0.06, course["target"] + 0.02

    def x(value: float) -> float:
        return left + (value - seconds[0]) / (seconds[-1] - seconds[0]) * (width - left - 190)

    def y(value: float) -> float:
        return height - bottom - (max(value, lowest) - lowest) / (highest - lowest) * (height - bottom - top)

    shapes = [
        f'<line x1="{left}" x2="{width - 190}" y1="{y(course["target"]):.1f}" y2="{y(course["target"]):.1f}" '
        'stroke="#888" stroke-dasharray="4 4"/>'
    ]
    for number, (name, best) in enumerate(course[METRIC].items()):
        known = [(x(at), y(value)) for at, value in zip(seconds, best, strict=True) if value is not None]
        steps = [point for (a, b), (c, _) in itertools.pairwise(known) for point in ((a, b), (c, b))]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*steps, known[-1]])
        color = COLORS[number % len(COLORS)]
        shapes.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        shapes.append(f'<text x="{width - 180}" y="{top + 20 * number + 10}" style="fill:{color}">{name}</text>')
    for power in range(math.ceil(seconds[0]), math.floor(seconds[-1]) + 1):
        shapes.append(f'<text x="{x(power):.1f}" y="{height - bottom + 20}" text-anchor="middle">{10**power}</text>')
    for value in np.arange(math.ceil(lowest * 50) / 50, highest, 0.02):
        shapes.append(f'<text x="{left - 10}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    shapes.append(f'<text x="{left}" y="{top - 12}">best validation {measure}, median of the seeds</text>')
    shapes.append(
        f'<text x="{left}" y="{height - 5}">CPU seconds; dotted: the best of 100 trainings to their end</text>'
    )
    style = "<style>text{font:13px sans-serif;fill:#555}</style>"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{style}'
    with atomic_file(file) as temporary:
        temporary.write_text("\n".join([head, *shapes, "</svg>"]) + "\n", encoding="utf-8")
    note(f"wrote {file}")


def _row(name: str, replays: Sequence[Replayed], goals: Sequence[float], everything: Sequence[float]) -> dict[str, Any]:
    spent = [replayed.cpu_s_to(goal) for replayed, goal in zip(replays, goals, strict=True)]
    near = [replayed.cpu_s_to(goal - NEAR) for replayed, goal in zip(replays, goals, strict=True)]
    shares = [seconds / all_s for seconds, all_s in zip(spent, everything, strict=True)]
    near_shares = [seconds / all_s for seconds, all_s in zip(near, everything, strict=True)]
    return {
        "search": name,
        "CPU s": median(spent),
        "of all 100": median(shares),
        "reached": sum(map(math.isfinite, spent)) / len(spent),
        "CPU s to -0.01": median(near),
        "of all 100, -0.01": median(near_shares),
        "reached -0.01": sum(map(math.isfinite, near)) / len(near),
        "ms/report": median([1000 * r.controller_s / len(r.reports) for r in replays]),
        "shares": shares,
        "near_shares": near_shares,
    }


def _median_best(replays: Sequence[Replayed], cpu_s: float) -> float | None:
    """Return the median over searches of the best value at so many CPU seconds; None before there is one in half."""
    best = [max((r.value for r in replayed.reports if r.at <= cpu_s), default=-math.inf) for replayed in replays]
    middle = median(best)
    return middle if math.isfinite(middle) else None


def _ours(replay: Replay, spec: SearchSpec, curves: Sequence[Curve], reuse: bool = False) -> Search:
    searcher = make_searcher(spec, f"{len(spec.space.points)} points, seed {spec.seed}")
    _snap(searcher.study, replay, spec, curves, reuse)
    return spec, searcher, make_scheduler(spec)


def _snap(study: optuna.Study, replay: Replay, spec: SearchSpec, curves: Sequence[Curve], reuse: bool = False) -> None:
    """Let a study try the curves only."""
    nearest = Nearest(spec.space, curves, reuse)
    study.ask = SnappingAsk(study, spec.space, spec.seed, replay, nearest)


def _without_patience(trials: int, seed: int) -> SearchSpec:
    spec = SearchSpec(BARE_SPACE, trials=trials, seed=seed)
    return dataclasses.replace(spec, criterion=StoppingRule(METRIC, spec.max_epochs))


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def _compare_variants(pool: Pool, seeds: int) -> dict[str, list[dict[str, Any]]]:
    results = {}
    for name, known_first in {"random": False, "known-good points first, then random": True}.items():
        orders = draw_orders(pool, seeds, known_first)
        rows = [measure(orders, variant, workers) for workers in (1, 2, 4, 16) for variant in variants()]
        for workers in (1, 2, 4, 16):
            here = sorted((row for row in rows if row["workers"] == workers), key=lambda row: row[MEAN])
            plain = [row for row in here if row["variant"] == "none"]
            print(f"\n{name}, {workers} workers, {seeds} halves of the pool: the 12 best of {len(here)}, and none")
            print_table([*here[:12], *plain], list(here[0]))
            summary = marginals(here)
            print(f"\n{name}, {workers} workers: means over the other factors")
            print_table(summary, list(summary[0]))
        results[name] = rows
    return results


def _compare_searches(pool: Pool, seeds: int, workers: Sequence[int], options: argparse.Namespace) -> dict[str, Any]:
    with captured_output(options.log), small_ray():
        rows, course = compare(pool, seeds)
    shown = [key for key in rows[0] if "shares" not in key]
    print(f"medians of {seeds} seeds; all 100 to their end: {course['all 100, CPU s']:,.0f} CPU s")
    print_table(rows, shown)
    if options.picture:
        picture(course, options.measure, options.picture)
    points = []
    for count in (1, *workers) if workers else ():
        for seed in range(min(seeds, 3) if count <= 64 else 1):
            note(f"{count} workers, seed {seed}")
            points.append(scale(pool, count, seed))
    if points:
        table = scale_table(points)
        print_table(table, list(table[0]))
    return {"methods": rows, "course": course, "scale": points}


def main() -> None:
    """Compare searches, or variants of ASHA."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, default=Path(__file__).parent / "curves" / "yoochoose_24h.ndjson")
    parser.add_argument("--measure", choices=MEASURES, default=METRIC, help="validation metric to search by")
    parser.add_argument("--seeds", type=int, default=11)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS, help="simulated workers; none: no scaling")
    parser.add_argument("--quick", action="store_true", help="3 seeds, 4 and 16 workers, made-up curves")
    parser.add_argument("--variants", action="store_true", help="compare variants of ASHA instead")
    parser.add_argument("--picture", type=Path, help="SVG to write: the best value so far against CPU seconds")
    parser.add_argument("--log", type=Path, default=LOG, help="where Ray's messages go")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pool = synthetic_pool(SPACE, 120) if options.quick else read_curves(options.curves, options.measure)
    print(f"{len(pool.random)} random configurations, {len(pool.portfolio)} known-good points, {options.measure}")
    if options.variants:
        result: Any = _compare_variants(pool, options.seeds)
    else:
        seeds, workers = (3, (4, 16)) if options.quick else (options.seeds, options.workers)
        result = _compare_searches(pool, seeds, workers, options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
