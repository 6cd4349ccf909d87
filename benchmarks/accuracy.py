"""Accuracy beside other libraries: each with its own defaults, on the same logs, judged by one evaluator.

    make bench-accuracy
    python benchmarks/accuracy.py [--data FOLDER ...] [--libraries NAME ...] [--max-epochs 5] [--json FILE]

Trains on train_full.parquet and ranks the next item of every step of the sessions of test.parquet among all items of
the training log; a tied item ranks above the target. Items that the training log lacks are left out, then sessions of
less than two events. Epochs are those of each library's defaults, at most --max-epochs. A peer runs in a virtual
environment of its own, made from the package registry when it is not there yet; it wants Python 3.11. One thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.exchange import Log, Run, Score, rank_next_items, write_log
from sklearn.base import clone

import gru4rec
from gru4rec.cli.output import note, print_table
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions
from gru4rec.fitting import align_validation
from gru4rec.metrics import compute_metrics

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared/data"
PEER_FILES = Path(__file__).parent / "peers"
METRICS = ("recall@20", "mrr@20")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Peer:
    """Another library, run by peers/NAME_peer.py.

    Parameters
    ----------
    lock : Path
        Exact versions of all that its environment holds.
    epochs : int
        Its default.
    losses : tuple of str
        Those to train with; each with the defaults of the rest.
    """

    lock: Path
    epochs: int
    losses: tuple[str, ...]


PEERS = {
    "cornac": Peer(PEER_FILES / "cornac.lock", 10, ("cross-entropy",)),
    "recpack": Peer(ROOT / "requirements-compat.lock", 5, ("bpr", "bpr-max")),
    "recbole": Peer(PEER_FILES / "recbole.lock", 300, ("cross-entropy",)),
}
BY_HAND: dict[str, Any] = {
    "embedding": "tied",
    "batch_size": 64,
    "num_negatives": 2048,
    "clipnorm": None,
    "epsilon": 1e-6,
}
OURS = (
    ("bpr", "defaults", gru4rec.GRU4RecNegSampling()),
    ("bpr-max", "defaults", gru4rec.GRU4RecNegSampling(loss_fn="bpr-max")),
    ("cross-entropy", "defaults", gru4rec.GRU4RecCrossEntropy()),
    ("bpr-max", "by hand", gru4rec.GRU4RecNegSampling(loss_fn="bpr-max", learning_rate=0.05, **BY_HAND)),
    ("cross-entropy", "by hand", gru4rec.GRU4RecNegSampling(loss_fn="cross-entropy", learning_rate=0.1, **BY_HAND)),
)
LIBRARIES = ("ours", *PEERS)

Row = dict[str, Any]


def compare_ours(train: Sessions, test: Log, max_epochs: int, seed: int) -> Iterator[Row]:
    """Yield a row for each of our settings."""
    for loss, settings, estimator in OURS:
        epochs = min(estimator.max_epochs, max_epochs)
        ours = clone(estimator).set_params(max_epochs=epochs, seed=seed, device="cpu")
        began = time.process_time()
        ours.fit(train)
        cpu_s = time.process_time() - began
        ranks = rank_next_items(our_scorer(ours.model_.network), test)
        yield row("ours", version("gru4rec-tune"), settings, loss, epochs, estimator.max_epochs, ranks, cpu_s)


def our_scorer(network: Any) -> Score:
    @torch.inference_mode()
    def score(items: np.ndarray) -> np.ndarray:
        starts = torch.arange(len(items)) == 0
        hidden = network.initial_hidden(1)
        states, _ = network.forward(torch.from_numpy(items), starts, hidden, [1] * len(items))
        return np.asarray(network.scores(states))

    return score


def compare_peer(name: str, train: Log, test: Log, environments: Path, max_epochs: int, seed: int) -> Iterator[Row]:
    """Yield a row for each loss of a peer."""
    peer = PEERS[name]
    epochs = min(peer.epochs, max_epochs)
    for loss in peer.losses:
        with tempfile.TemporaryDirectory() as exchange:
            folder = Path(exchange)
            write_log(folder / "train.npz", train)
            write_log(folder / "test.npz", test)
            report = train_peer(name, Run(loss, epochs, seed), folder, environments)
            ranks = np.load(folder / "ranks.npy")
        yield row(name, report["version"], "defaults", loss, epochs, peer.epochs, ranks, report["cpu_s"])


def train_peer(name: str, run: Run, folder: Path, environments: Path) -> dict[str, Any]:
    """Let a peer's script work in the exchange folder, and return its report."""
    (folder / "run.json").write_text(json.dumps(asdict(run)), encoding="utf-8")
    command: list[str | Path] = [environment(name, environments), "-W", "ignore", PEER_FILES / f"{name}_peer.py"]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=folder, env={**os.environ, **ONE_THREAD})
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def environment(name: str, folder: Path) -> Path:
    """Return the interpreter of a peer's virtual environment, which is made when it is not there yet."""
    lock = PEERS[name].lock
    # Other versions, other environment.
    path = folder.resolve() / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:8]}"
    ready = path / ".ready"
    if not ready.is_file():
        note(f"installing {name} into {path}")
        subprocess.run([sys.executable, "-m", "venv", path], check=True)
        install = [path / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", lock]
        subprocess.run(install, check=True)
        ready.touch()
    return path / "bin/python"


def row(
    library: str,
    version: str,
    settings: str,
    loss: str,
    epochs: int,
    default_epochs: int,
    ranks: np.ndarray,
    cpu_s: float,
) -> Row:
    """Return a line of the table."""
    return {
        "library": library,
        "version": version,
        "settings": settings,
        "loss": loss,
        "epochs": epochs,
        "default epochs": default_epochs,
        **compute_metrics(ranks, METRICS),
        "training CPU-s": round(cpu_s, 1),
    }


def compare(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of one log."""
    sessions = read_log(folder / "train_full.parquet").with_own_items()
    train, test = (
        Log(part.item_index, part.offsets, sessions.num_items)
        for part in (sessions, align_validation(read_log(folder / "test.parquet"), sessions))
    )
    for name in options.libraries:
        if name == "ours":
            yield from compare_ours(sessions, test, options.max_epochs, options.seed)
        else:
            yield from compare_peer(name, train, test, options.environments, options.max_epochs, options.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[DATA / "yoochoose_24h", DATA / "serenade_toy"])
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--max-epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--json", type=Path, help="written after every training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for folder in options.data:
        if not folder.is_dir():
            note(f"{folder} is not there: skipped")
            continue
        for found in compare(folder, options):
            rows.append({"log": folder.name, **found})
            note(json.dumps(rows[-1]))
            if options.json:
                options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    if rows:
        print_table(rows, list(rows[0]))


if __name__ == "__main__":
    main()
