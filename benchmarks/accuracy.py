"""Accuracy beside other libraries: each with its own defaults, on the same logs, judged by one evaluator.

    make bench-accuracy
    python benchmarks/accuracy.py [--data FOLDER ...] [--max-epochs 5] [--environments FOLDER] [--json FILE]

Trains on train_full.parquet and ranks the next item of every step of the sessions of test.parquet among all items of the
training log; a tied item ranks above the target. Each peer runs in a virtual environment of its own, made from the
package registry when it is not there yet. Epochs are each library's default, at most --max-epochs. One thread, one seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gru4rec
from gru4rec.cli.output import note, print_table
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation import compute_ranks
from gru4rec.fitting import align_validation
from gru4rec.metrics import compute_metrics

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared/data"
PEERS = Path(__file__).parent / "peers"
METRICS = ("recall@20", "mrr@20")


@dataclass(frozen=True)
class Peer:
    """Another library.

    Parameters
    ----------
    packages : tuple of str
        What pip installs: the library, and the versions of others that it still works with.
    epochs : int
        Its default.
    runs : tuple of tuples of str
        Arguments of each run of its script.
    """

    packages: tuple[str, ...]
    epochs: int
    runs: tuple[tuple[str, ...], ...] = ((),)


OLD = ("numpy==1.26.4", "pandas==2.3.3", "scipy==1.13.1", "setuptools<82")
PEERS_BY_NAME = {
    "cornac": Peer(("torch==2.13.0", "cornac==3.0.1", "pandas"), 10),
    "recpack": Peer(("torch==2.13.0", "recpack==0.3.6", *OLD), 5, (("bpr",), ("bpr-max",))),
    "recbole": Peer(("torch==2.13.0", "recbole==1.2.1", *OLD), 300),
}
GOOD = {"embedding": "tied", "batch_size": 64, "num_negatives": 2048, "clipnorm": None, "epsilon": 1e-6}
OURS: dict[str, Any] = {
    "bpr, defaults": gru4rec.GRU4RecNegSampling(),
    "bpr-max, defaults": gru4rec.GRU4RecNegSampling(loss_fn="bpr-max"),
    "cross-entropy, defaults": gru4rec.GRU4RecCrossEntropy(),
    "bpr-max, set by hand": gru4rec.GRU4RecNegSampling(loss_fn="bpr-max", learning_rate=0.05, **GOOD),
    "cross-entropy, set by hand": gru4rec.GRU4RecNegSampling(loss_fn="cross-entropy", learning_rate=0.1, **GOOD),
}


def environment(name: str, folder: Path) -> Path:
    """Return the interpreter of a peer's virtual environment, which is made when it is not there."""
    path = folder / name
    ready = path / ".ready"
    if not ready.is_file():
        note(f"installing {name} into {path}")
        subprocess.run([sys.executable, "-m", "venv", path], check=True)
        install = [path / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *PEERS_BY_NAME[name].packages], check=True)
        ready.touch()
    return path / "bin/python"


def run_peers(
    train: Sessions, test: Sessions, environments: Path, max_epochs: int, seed: int, names: list[str]
) -> list[dict[str, Any]]:
    """Return a row for each run of each peer."""
    rows = []
    for name in names:
        peer = PEERS_BY_NAME[name]
        python = environment(name, environments)
        for arguments in peer.runs:
            with tempfile.TemporaryDirectory() as folder:
                for part, log in (("train", train), ("test", test)):
                    arrays = {"item_index": log.item_index, "offsets": log.offsets, "num_items": train.num_items}
                    np.savez(Path(folder) / f"{part}.npz", **arrays)
                epochs = min(peer.epochs, max_epochs)
                command = [python, PEERS / f"{name}_peer.py", *arguments, folder, "--epochs", epochs, "--seed", seed]
                subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr, cwd=folder)
                report = json.loads((Path(folder) / "peer.json").read_text(encoding="utf-8"))
                ranks = np.load(Path(folder) / "ranks.npy")
            rows.append(
                {
                    "library": f"{name} {report['version']}",
                    "settings": f"{report['settings']}, defaults",
                    "epochs": epochs,
                    **compute_metrics(ranks, METRICS),
                    "CPU-s": report["cpu_s"],
                }
            )
            note(str(rows[-1]))
    return rows


def run_ours(train: Sessions, test: Sessions, max_epochs: int, seed: int) -> list[dict[str, Any]]:
    """Return a row for each of our settings."""
    rows = []
    for settings, estimator in OURS.items():
        epochs = min(estimator.max_epochs, max_epochs)
        estimator.set_params(max_epochs=epochs, seed=seed, device="cpu")
        began = time.process_time()
        estimator.fit(train)
        seconds = time.process_time() - began
        metrics = compute_metrics(compute_ranks(estimator.model_.network, test).ranks, METRICS)
        rows.append({"library": "ours", "settings": settings, "epochs": epochs, **metrics, "CPU-s": seconds})
        note(str(rows[-1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[DATA / "yoochoose_24h", DATA / "serenade_toy"])
    parser.add_argument("--peers", nargs="*", choices=list(PEERS_BY_NAME), default=list(PEERS_BY_NAME))
    parser.add_argument("--max-epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for folder in options.data:
        if not folder.is_dir():
            note(f"{folder} is not there: skipped")
            continue
        train = read_log(folder / "train_full.parquet").with_own_items()
        test = align_validation(read_log(folder / "test.parquet"), train)
        found = run_ours(train, test, options.max_epochs, options.seed)
        found += run_peers(
            train, test, options.environments.resolve(), options.max_epochs, options.seed, options.peers
        )
        rows += [{"log": folder.name, **row} for row in sorted(found, key=lambda row: -row["recall@20"])]
        if options.json:
            options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    if rows:
        print_table(rows, list(rows[0]))


if __name__ == "__main__":
    main()
