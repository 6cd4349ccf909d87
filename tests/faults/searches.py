"""A search that can be killed: run by its command line, taken up again by it, and what it leaves in its folder."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions
from gru4rec.data.splitting import split_time_share
from gru4rec.data.synthetic import generate_log
from gru4rec.data.writing import write_log
from gru4rec.fitting import align_validation, fit_trainer
from gru4rec.hyperparameters import HyperParameters
from gru4rec.training import Trainer
from tuning.journal import EPOCHS, RUNNING, TRIALS
from tuning.progress import TrialRecord
from tuning.result import load_result

ROOT = Path(__file__).parents[2]
TIMES = ("seconds", "epoch_seconds", "events_per_second", "elapsed_s", "node")
MAX_EPOCHS = 6
SEARCH = """
data.train = "train.parquet"
data.validation = "validation.parquet"
[search]
trials = {trials}
max_epochs = {max_epochs}
max_concurrent_trials = {workers}
max_failures = 50
refit = {refit}
seed = 3
[stopping]
grace_period = 2
max_iter_no_change = 3
[fixed]
loss_fn = "cross-entropy"
embedding = "tied"
num_negatives = 32
batch_size = 16
[space.learning_rate]
type = "float"
low = 0.01
high = 0.3
log = true
[space.hidden_size]
type = "int"
low = 8
high = 32
step = 8
"""
HAS_A_TRIAL = ("ray::GRU4RecTrainable", "ray::ResourceTrainable", "ray::train_trial")  # what Ray calls the processes
SECONDS_TO_END = 300.0
SECONDS_BETWEEN_LOOKS = 0.01


def write_logs(folder: Path) -> None:
    """Write the logs of all searches: an epoch takes about 0.1 s."""
    train, validation = split_time_share(read_log(generate_log(1_200, 200, seed=2)), 0.1)
    write_log(train.to_frame(), folder / "train.parquet")
    write_log(validation.to_frame(), folder / "validation.parquet")


class Search:
    """A search of the logs in the folder above its own.

    Parameters
    ----------
    folder : Path
        Made here; the result folder is `out` in it.
    workers, trials, max_epochs : int
    refit : bool
    address : str, optional
        Of a running Ray.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 1,
        refit: bool = True,
        address: str | None = None,
        trials: int = 8,
        max_epochs: int = MAX_EPOCHS,
    ) -> None:
        folder.mkdir()
        for name in ("train.parquet", "validation.parquet"):
            (folder / name).symlink_to(folder.parent / name)
        (folder / "search.toml").write_text(
            SEARCH.format(trials=trials, max_epochs=max_epochs, workers=workers, refit=str(refit).lower())
        )
        self.folder, self.out, self.trials, self.refit = folder, folder / "out", trials, refit
        self._address = ["--address", address] if address else []
        self._starts = 0
        self.process: psutil.Popen
        self.watcher = Watcher(self.out / "checkpoints")

    def start(self) -> None:
        """Begin, or go on where there is something to go on with."""
        begun = (self.out / "search.toml").exists()
        task = ["resume", str(self.out)] if begun else ["run", "search.toml", "--out", str(self.out)]
        with (self.folder / f"driver-{self._starts:02d}.txt").open("wb") as said:
            self.process = psutil.Popen(
                [sys.executable, "-c", "from gru4rec.cli.main import main; main()", "tune", *task, *self._address],
                cwd=self.folder, stdout=said, stderr=said, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        self._starts += 1

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.process.poll() is None

    def kill(self) -> list[psutil.Process]:
        """Kill its process, and return those that it had started: they are to end by themselves."""
        children: list[psutil.Process] = self.process.children(recursive=True)
        self.process.kill()
        self.process.wait()
        return children

    def end(self) -> None:
        """Wait for the end of the search; it must have succeeded."""
        try:
            code = self.process.wait(SECONDS_TO_END)
        except psutil.TimeoutExpired:
            raise AssertionError(f"has not ended after {SECONDS_TO_END:g} s; {self.said()[-2000:]}") from None
        assert code == 0, self.said()[-3000:]

    def said(self) -> str:
        """Return what its processes have printed, one after the other."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("driver-*.txt")))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the whole lines of a file of its journal."""
        path = self.out / name
        content = path.read_bytes() if path.exists() else b""
        return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]

    def checkpoints(self) -> dict[int, list[int]]:
        """Return the epochs of which there are checkpoints, by trial."""
        found: dict[int, list[int]] = {}
        for path in sorted((self.out / "checkpoints").glob("trial-*/epoch-*.pt")):
            found.setdefault(int(path.parent.name[6:]), []).append(int(path.stem[6:]))
        return found


class Watcher:
    """Sees every checkpoint that is written, in a thread of its own: what is trained again is written again.

    Parameters
    ----------
    folder : Path
        Of the search's checkpoints.

    Attributes
    ----------
    written : dict of (int, int) to set of int
        When the checkpoint of a trial's epoch was written, each time.
    """

    def __init__(self, folder: Path) -> None:
        self.written: dict[tuple[int, int], set[int]] = {}
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def again(self) -> int:
        """Epochs that were trained again although they had been trained to their end."""
        return sum(len(times) - 1 for times in self.written.values())

    def _watch(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            self._look()
        self._look()

    def _look(self) -> None:
        with suppress(FileNotFoundError):  # something was removed meanwhile; the next look sees the rest
            for path in self._folder.glob("trial-*/epoch-*.pt"):
                written = path.stat().st_mtime_ns
                self.written.setdefault((int(path.parent.name[6:]), int(path.stem[6:])), set()).add(written)


def found(search: Search) -> dict[str, Any]:
    """Return all that a search has found, without what a clock says."""
    result = load_result(search.out)
    files = [search.out / "best" / name for name in ("weights.safetensors", "metrics.json")]
    return {
        "epochs": sorted(map(without_times, search.lines(EPOCHS)), key=lambda line: (line["trial"], line["epoch"])),
        "trials": [without_times(vars(record)) for record in result.trials],
        "model": [path.read_bytes() for path in files],
    }


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line of the journal, or a record, without what a clock says."""
    return {name: value for name, value in line.items() if name not in TIMES}


def check_record(search: Search) -> list[TrialRecord]:
    """Check that nothing of a search that has ended is lost, twice, or left over; return its trials."""
    trials = load_result(search.out).trials
    lines, begun = search.lines(EPOCHS), search.lines(TRIALS)
    assert [record.number for record in trials] == list(range(search.trials))
    assert [line["trial"] for line in begun] == list(range(search.trials)), "each trial begins once, and none fails"
    told = sorted((line["trial"], line["epoch"]) for line in lines)
    assert told == [(record.number, epoch) for record in trials for epoch in range(1, record.epochs + 1)]
    ends = [line["trial"] for line in lines if line["state"] != RUNNING]
    assert sorted(ends) == list(range(search.trials)), "each trial ends once"
    assert search.checkpoints() == ({} if search.refit else {record.number: [record.best_epoch] for record in trials})
    return trials


def failures(said: str) -> Counter[int]:
    """Return how often each trial was tried again, from what a search has said."""
    return Counter(int(number) for number in re.findall(r"trial (\d+) is tried again", said))


class PlainFits:
    """Curves of trials that nothing has disturbed: trained here, without any search."""

    def __init__(self, folder: Path) -> None:
        self._train = read_log(folder / "train.parquet").with_own_items()
        self._validation: Sessions = align_validation(read_log(folder / "validation.parquet"), self._train)
        self._known: dict[str, list[dict[str, Any]]] = {}
        torch.set_num_threads(1)

    def curve(self, record: TrialRecord) -> list[dict[str, Any]]:
        """Return the epochs of a trial's configuration."""
        key = json.dumps([record.hyperparameters, record.seed])
        if len(self._known.get(key, ())) < record.epochs:
            trainer = Trainer(HyperParameters.from_dict(record.hyperparameters), self._train, seed=record.seed)
            history = fit_trainer(trainer, record.epochs, self._validation, metrics=["recall@20", "mrr@20"])
            self._known[key] = history.epochs
        return self._known[key][: record.epochs]

    def check(self, search: Search, trials: list[TrialRecord]) -> None:
        """Check that each trial's curve is that of a plain fit, bit for bit."""
        for record in trials:
            lines = sorted(
                (line for line in search.lines(EPOCHS) if line["trial"] == record.number), key=lambda x: x["epoch"]
            )
            for key in ("loss", "recall@20", "mrr@20"):
                assert [line[key] for line in lines] == [epoch[key] for epoch in self.curve(record)], (record, key)


def trial_processes(roots: list[psutil.Process], starting: bool = False) -> Iterator[psutil.Process]:
    """Yield the processes below `roots` that have a trial; or also those that are being started."""
    for root in roots:
        try:
            children = root.children(recursive=True)
        except psutil.NoSuchProcess:
            continue
        for process in children:
            try:
                name = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if name.startswith(HAS_A_TRIAL) or (
                starting and "default_worker.py" in name and process.name() != "raylet"
            ):
                yield process


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    """Wait until something is true; False when it is not after so many seconds."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.002)
    return True
