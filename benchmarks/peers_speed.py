"""Training speed beside other libraries: targets per second of CPU time, at settings as equal as each allows.

    python benchmarks/peers_speed.py [--libraries NAME ...] [--items 5000 40000] [--rounds 3] [--epochs 1]
                                     [--events 50000] [--environments FOLDER] [--json FILE]

A target is a pair (item, next item) of the training log, the same for all. Logs are those of `train_step.make_log`:
sessions of five events, each of the items occurs. Each library and ours take turns, each training in a process of its
own; "times faster" is the median over the rounds of the ratio within one. The seconds are those from the call that
trains to its return, the first mini-batches of a process included: with Cornac, recpack and ours that makes the model
and lays the sessions out, too, with RecBole its cutting of sessions into prefixes is left out. A first epoch costs a
peer about a second more than the next, which flatters ours, beside Cornac above all: more --epochs make less of it.

Equal in all: 100 units, one GRU layer, 100 columns of item embedding, no dropout, targets per update ("batch"), loss.
Cornac: all settings. recpack: separate embeddings, clipnorm 1.0, uniform negatives, BPR-max without ELU; it scores all
items and picks the negatives of each target from these scores, where ours draws and scores just as many for each target
("per target") or 2,048 for the mini-batch ("shared"). RecBole has all items or a single negative; beside all of them,
ours scores all, or 2,048 shared with the logQ correction. Its optimizer is Adam and it has a dense layer, ours has
Adagrad and item biases. It pads prefixes, by default to 50 items; 4 is the longest of these sessions. Sessions of equal
length favour those that pad: recpack's updates shrink as a batch's shorter sessions end. A peer's environment is made
as by `accuracy.py`. One thread.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accuracy import PEERS, ROOT, train_peer
from peers.exchange import Log, Run, write_log
from train_step import EVENTS_PER_SESSION, Row, make_log, ratio

from gru4rec.cli.output import note, print_table
from gru4rec.data.sessions import Sessions
from gru4rec.hyperparameters import HyperParameters
from gru4rec.training import Trainer

SEED = 1
OURS_SHARED = {"num_negatives": 2048, "negatives": "shared"}


@dataclass(frozen=True)
class Comparison:
    """A peer with its settings, and ours with the matching ones.

    Parameters
    ----------
    library : str
        One of `accuracy.PEERS`.
    loss : str
    batch : int
        Targets per update.
    negatives : str
        Those of the peer, in words.
    settings : dict
        Under the peer's names.
    ours : dict
        Our hyperparameters by our negatives in words.
    """

    library: str
    loss: str
    batch: int
    negatives: str
    settings: dict[str, Any]
    ours: dict[str, HyperParameters]


def beside_cornac(loss: str) -> Comparison:
    settings = {
        "layers": [100], "batch_size": 64, "n_sample": 2048, "sample_alpha": 0.5, "embedding": 0,
        "constrained_embedding": True, "learning_rate": 0.05, "bpreg": 1.0, "elu_param": 0.5, "logq": 0.0,
    }  # fmt: skip
    # It leaves out only a row's own place, as the authors' code does.
    ours = HyperParameters(
        loss_fn=loss, batch_size=64, embedding="tied", learning_rate=0.05, epsilon=1e-6, clipnorm=None, logq=0.0,
        mask_targets=False, **OURS_SHARED,
    )  # fmt: skip
    return Comparison("cornac", loss, 64, "2,048 shared", settings, {"2,048 shared": ours})


def beside_recpack(batch: int, num_negatives: int) -> Comparison:
    settings = {"hidden_size": 100, "num_components": 100, "batch_size": batch, "num_negatives": num_negatives}
    drawn = {
        f"{num_negatives:,} per target": {"num_negatives": num_negatives, "negatives": "per_target"},
        "2,048 shared": OURS_SHARED,
    }
    ours = {
        words: HyperParameters(
            loss_fn="bpr-max", batch_size=batch, num_components=100, elu_param=0.0, sample_alpha=0.0, **values
        )
        for words, values in drawn.items()
    }
    return Comparison("recpack", "bpr-max", batch, f"{num_negatives:,} per target", settings, ours)


def beside_recbole(longest: int) -> Comparison:
    settings = {
        "hidden_size": 100, "embedding_size": 100, "dropout_prob": 0.0, "train_batch_size": 512,
        "MAX_ITEM_LIST_LENGTH": longest,
    }  # fmt: skip
    scored = {"all": {"num_negatives": "all"}, "2,048 shared": OURS_SHARED}
    ours = {
        words: HyperParameters(
            loss_fn="cross-entropy", batch_size=512, embedding="tied", learning_rate=0.05, clipnorm=None, **values
        )
        for words, values in scored.items()
    }
    return Comparison("recbole", "cross-entropy", 512, f"all, prefixes padded to {longest}", settings, ours)


COMPARISONS = (
    *(beside_cornac(loss) for loss in ("cross-entropy", "bpr-max")),
    *(beside_recpack(batch, num_negatives) for batch in (64, 512) for num_negatives in (50, 2048)),
    *(beside_recbole(longest) for longest in (50, EVENTS_PER_SESSION - 1)),
)


def compare(comparison: Comparison, train: Sessions, options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each of our settings."""
    theirs: list[float] = []
    ours: dict[str, list[float]] = {words: [] for words in comparison.ours}
    for _ in range(options.rounds):
        report = peer_report(comparison, train, options)
        theirs.append(report["cpu_s"])
        for words, hyperparameters in comparison.ours.items():
            ours[words].append(in_own_process(hyperparameters, train, options.epochs))
    num_targets = options.epochs * train.num_targets
    for words, seconds in ours.items():
        yield {
            "items": train.num_items,
            "library": comparison.library,
            "version": report["version"],
            "loss": comparison.loss,
            "batch": comparison.batch,
            "negatives": comparison.negatives,
            "targets/CPU-s": round(num_targets / statistics.median(theirs)),
            "our negatives": words,
            "ours targets/CPU-s": round(num_targets / statistics.median(seconds)),
            "times faster": ratio(theirs, seconds),
            "CPU-s": theirs,
            "ours CPU-s": seconds,
        }


def peer_report(comparison: Comparison, train: Sessions, options: argparse.Namespace) -> dict[str, Any]:
    """Let a peer train; return its report."""
    run = Run(comparison.loss, options.epochs, SEED, comparison.settings)
    with tempfile.TemporaryDirectory() as exchange:
        write_log(Path(exchange) / "train.npz", Log(train.item_index, train.offsets, train.num_items))
        return train_peer(comparison.library, run, Path(exchange), options.environments)


def in_own_process(hyperparameters: HyperParameters, train: Sessions, epochs: int) -> float:
    """Return the CPU seconds of `train_ours` in a process that has trained nothing yet, as the peers have not."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train_ours, hyperparameters, train, epochs).result()


def train_ours(hyperparameters: HyperParameters, train: Sessions, epochs: int) -> float:
    torch.set_num_threads(1)
    began = time.process_time()
    trainer = Trainer(hyperparameters, train, seed=SEED)
    for _ in range(epochs):
        trainer.train_epoch()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libraries", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--items", type=int, nargs="+", default=[5_000, 40_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--events", type=int, default=50_000, help="of the training log; at least as many as items")
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--json", type=Path, help="written after every comparison")
    options = parser.parse_args()
    rows: list[Row] = []
    for num_items in options.items:
        train = make_log(num_items, options.events)
        for comparison in COMPARISONS:
            if comparison.library in options.libraries:
                rows.extend(compare(comparison, train, options))
                note(json.dumps(rows[-1]))
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    print(f"1 thread, trainings of {options.epochs} x {options.events:,} events, medians of {options.rounds} rounds")
    if rows:
        print_table(rows, [name for name, value in rows[0].items() if not isinstance(value, list)])


if __name__ == "__main__":
    main()
