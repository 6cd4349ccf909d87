"""Coverage-guided fuzzing of `targets.py` with atheris: one target, or all of them in turn.

    python tests/fuzz/run.py search_toml --runs 50000 --seed 1
    python tests/fuzz/run.py all --runs 1000000 --seed 1

The corpus starts from the target's seeds and lives in a temporary folder. An input that breaks the promise ends the
run with exit code 1, and is kept under --findings; given as --input it is tried again.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
INSTRUMENTED = ["gru4rec", "tuning", "cluster", "tomllib", "json"]
TIMEOUT_S = 20
MAX_LEN = 8192

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
with atheris.instrument_imports(include=INSTRUMENTED):
    import targets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["all", *targets.TARGETS])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--input", type=Path, help="try one input")
    options = parser.parse_args()
    if options.target == "all":
        return run_all(options.runs, options.seed, options.findings)
    target = targets.TARGETS[options.target]
    with tempfile.TemporaryDirectory(prefix="gru4rec-fuzz-") as name:
        folder = Path(name)
        if options.input is not None:
            targets.check(target, folder, options.input.read_bytes())
        else:
            options.findings.mkdir(parents=True, exist_ok=True)
            fuzz(target, folder, options)
    return 0


def run_all(runs: int, seed: int, findings: Path) -> int:
    """Fuzz each target in a process of its own, with its share of the runs."""
    total, done, failed = sum(target.share for target in targets.TARGETS.values()), 0, []
    begin = time.monotonic()
    for name, target in targets.TARGETS.items():
        start, count = time.monotonic(), math.ceil(runs * target.share / total)
        command = [sys.executable, __file__, name, f"--runs={count}", f"--seed={seed}", f"--findings={findings}"]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        executed = re.search(r"number_of_executed_units: (\d+)", ended.stderr)
        done += int(executed[1]) if executed else 0
        print(f"{name}: {executed[1] if executed else 'no'} executions, {time.monotonic() - start:.0f} s", flush=True)
        if ended.returncode or executed is None:
            failed.append(name)
            print(ended.stdout[-3000:], ended.stderr[-3000:], sep="\n", flush=True)
    print(f"{done:,} executions in {time.monotonic() - begin:.0f} s; {len(failed)} targets with a finding {failed}")
    return bool(failed)


def fuzz(target: targets.Target, folder: Path, options: argparse.Namespace) -> None:
    """Fuzz one target; atheris ends the process."""
    corpus, work = folder / "corpus", folder / "work"
    corpus.mkdir(), work.mkdir()
    seeds = target.seeds(folder)
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
        if not targets.check(target, work, seed):
            raise SystemExit(f"seed {number} is not accepted")
    words = {word for seed in seeds for word in re.findall(rb"[\w@.-]{2,40}", seed)}
    dictionary = folder / "words"
    dictionary.write_text("".join(f'"{word.decode("ascii", "ignore")}"\n' for word in sorted(words)), encoding="ascii")
    flags = {
        "runs": options.runs,
        "seed": options.seed,
        "max_len": max(MAX_LEN, 2 * max(map(len, seeds))),
        "len_control": 20,
        "timeout": TIMEOUT_S,
        "rss_limit_mb": 0,  # `check` measures what each input takes
        "dict": dictionary,
        "artifact_prefix": f"{options.findings / options.target}-",
        "print_final_stats": 1,
    }
    atheris.Setup(
        [sys.argv[0], *(f"-{name}={value}" for name, value in flags.items()), str(corpus)],
        lambda data: targets.check(target, work, data) and None,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
