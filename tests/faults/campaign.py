"""Searches whose processes are killed at random, one search after the other, until there have been enough kills.

    python tests/faults/campaign.py --kills 60 --seed 1

Killed (SIGKILL) are workers, nodes with all their workers (another joins a while later), and the driver, which is then
started again with `gru4rec tune resume`: at a random time, or when something is just being done. After each search:

* nothing is lost: every trial has begun once, ended once, and reported each of its epochs once;
* with one worker, journal, table and model are those of an undisturbed search, byte for byte but for the times; with
  several, each trial's curve is that of a plain fit of its hyperparameters and seed;
* no epoch that was trained to its end was trained again more than once for each kill and trial that it hit;
* no trial failed but by a kill; no checkpoint is left of a trial that ended.

A search that breaks this ends the campaign with exit code 1, and its folder is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from searches import PlainFits, Search, check_record, failures, found, trial_processes, wait_until, write_logs

from tuning.journal import EPOCHS, RUNNING

WORKER, NODE, DRIVER = "worker", "node", "driver"
KILLS_PER_SEARCH = (3, 7)
SECONDS_TO_SHOW = 20.0  # for a process that is to be killed
SECONDS_TO_WAIT = 4.0  # for what it is to be killed in the midst of
SECONDS_TO_JOIN = (0.0, 8.0)
NODES = 2


class Nodes:
    """Ray on this machine: a head that runs no trials, and nodes of one slot each that die and join."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100_000_000}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: list[Any] = []
        self._due = 0.0
        self.mend(at_once=True)

    @property
    def address(self) -> str:
        """Where it is to be joined."""
        return str(self._cluster.address)

    @property
    def raylets(self) -> list[psutil.Process]:
        """The processes that all workers of the nodes are below."""
        return [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in self._nodes]

    def mend(self, at_once: bool = False) -> None:
        """Have nodes join for those that are missing, when it is time."""
        while len(self._nodes) < NODES and (at_once or time.monotonic() >= self._due):
            self._nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=100_000_000))

    def kill(self, process: psutil.Process, chance: random.Random) -> None:
        """Kill the node that has a process, and all of it."""
        (raylet,) = [raylet for raylet in self.raylets if raylet in process.parents()]
        (node,) = [node for node in self._nodes if node.all_processes["raylet"][0].process.pid == raylet.pid]
        self._nodes.remove(node)
        for victim in [raylet, *raylet.children(recursive=True)]:
            kill(victim)
        self._cluster.remove_node(node, allow_graceful=False)
        self._due = time.monotonic() + chance.uniform(*SECONDS_TO_JOIN)

    def close(self) -> None:
        """Stop all of it."""
        self._cluster.shutdown()


@dataclass
class Row:
    """What became of one search."""

    search: int
    workers: int
    where: str
    refit: bool
    kills: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    hit: int = 0
    epochs: int = 0
    again: int = 0
    failures: int = 0
    seconds: float = 0.0

    def render(self) -> str:
        """Return it as a line."""
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        return (
            f"search {self.search:2d}: {self.workers} worker{'s' * (self.workers > 1)} {self.where}, "
            f"kills: {kills or 'none'}; {self.epochs} epochs, {self.again} of them trained again; "
            f"{self.failures} times was a trial tried again; {self.seconds:.0f} s"
        )


class Campaign:
    """Runs searches, kills, and checks what is left.

    Parameters
    ----------
    folder : Path
    seed : int
    say : callable
    """

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None] = print) -> None:
        self.rows: list[Row] = []
        self._folder = folder
        self._chance = random.Random(seed)
        self._say = say
        self._nodes: Nodes | None = None
        self._undisturbed: dict[bool, dict[str, Any]] = {}
        write_logs(folder)
        self._fits = PlainFits(folder)

    def run(self, kills: int) -> None:
        """Run searches until there have been enough kills: here and on nodes, with one worker and several."""
        while (done := sum(row.kills.total() for row in self.rows)) < kills:
            number = len(self.rows)
            where = ("here", "on nodes")[number % 2]
            row = Row(number, workers=1 + number // 2 % 2, where=where, refit=number % 3 != 2)
            self.rows.append(row)
            self._run_search(row, min(self._chance.randint(*KILLS_PER_SEARCH), kills - done))
            self._say(row.render())

    def close(self) -> None:
        """Stop what is left running."""
        if self._nodes is not None:
            self._nodes.close()

    def _run_search(self, row: Row, kills: int) -> None:
        if row.workers == 1 and row.refit not in self._undisturbed:
            self._undisturbed[row.refit] = self._run_undisturbed(row.refit)
        if row.where == "on nodes":
            self._nodes = self._nodes or Nodes()
            self._nodes.mend(at_once=True)
        nodes = self._nodes if row.where == "on nodes" else None
        search = Search(
            self._folder / f"search-{row.search}", row.workers, row.refit, address=nodes.address if nodes else None
        )
        began = time.monotonic()
        with search.watcher:
            search.start()
            try:
                while row.kills.total() < kills and search.running:
                    self._strike(search, row, nodes)
                wait_until(lambda: not search.running or (nodes and nodes.mend()), 60.0)
                search.end()
            finally:
                if search.running:
                    search.kill()
        row.seconds = time.monotonic() - began
        self._check(search, row)
        shutil.rmtree(search.folder)

    def _run_undisturbed(self, refit: bool) -> dict[str, Any]:
        search = Search(self._folder / f"undisturbed-{refit}", refit=refit)
        search.start()
        search.end()
        check_record(search)
        return found(search)

    def _strike(self, search: Search, row: Row, nodes: Nodes | None) -> None:
        """Kill something, at some moment."""
        kind = self._chance.choices([WORKER, NODE, DRIVER], [4, 3 if nodes else 0, 2])[0]
        moments = {
            "any": lambda: False,
            "checkpoint": lambda: any(search.out.glob("checkpoints/trial-*/.*")),
            "end of a trial": lambda: ended(search) > before,
            "start": lambda: True,
        }
        moment = self._chance.choice(list(moments))
        before, roots = ended(search), [search.process] if nodes is None else nodes.raylets
        if moment != "start":
            wait_until(lambda: list(trial_processes(roots)) or not search.running, SECONDS_TO_SHOW)
        seconds = self._chance.uniform(0.0, 3.0) if moment == "any" else SECONDS_TO_WAIT
        wait_until(lambda: moments[moment]() or not search.running, seconds)
        if moment == "start":
            time.sleep(self._chance.uniform(0.0, 2.0))
        victims = list(trial_processes(roots, starting=moment == "start"))
        if nodes is not None:
            nodes.mend()
        if not search.running or (kind != DRIVER and not victims):
            return
        row.kills[kind] += 1
        row.moments[moment] += 1
        row.hit += row.workers if kind == DRIVER else 1
        if kind == DRIVER:
            search.kill()
            search.start()
        elif kind == WORKER or nodes is None:
            kill(self._chance.choice(victims))
        else:
            nodes.kill(self._chance.choice(victims), self._chance)

    def _check(self, search: Search, row: Row) -> None:
        trials = check_record(search)
        tried_again = failures(search.said())
        row.epochs = sum(record.epochs for record in trials)
        row.again, row.failures = search.watcher.again, tried_again.total()
        if row.workers == 1:
            assert found(search) == self._undisturbed[row.refit], f"{search.out} differs from the undisturbed search"
        self._fits.check(search, trials)
        assert row.again <= row.hit, f"{row.again} epochs were trained again after kills that hit {row.hit} trials"
        assert row.failures <= row.kills[WORKER] + 2 * row.kills[NODE], tried_again


def ended(search: Search) -> int:
    """Return how many trials of a search have ended."""
    return sum(line["state"] != RUNNING for line in search.lines(EPOCHS))


def kill(process: psutil.Process) -> None:
    """Kill a process; it may have ended already."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    os.environ["RAY_TMPDIR"] = str(folder)  # whoever starts Ray on this machine must not find ours
    campaign, began = Campaign(folder, options.seed, lambda text: print(text, flush=True)), time.monotonic()
    try:
        campaign.run(options.kills)
    except AssertionError as error:
        print(f"{campaign.rows[-1].render()}\nFAILED: {error}\nkept: {folder}", flush=True)
        return 1
    finally:
        campaign.close()
    shutil.rmtree(folder)
    print(render_totals(campaign.rows, options.seed, time.monotonic() - began))
    return 0


def render_totals(rows: list[Row], seed: int, seconds: float) -> str:
    """Return the table at the end."""
    kills = sum((row.kills for row in rows), Counter[str]())
    moments = sum((row.moments for row in rows), Counter[str]())
    lines = [
        f"seed {seed}, {len(rows)} searches, {seconds:.0f} s",
        "",
        "| where | workers | searches | kills | worker | node | driver | epochs | trained again | tried again |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for where in ("here", "on nodes"):
        for workers in (1, 2):
            some = [row for row in rows if (row.where, row.workers) == (where, workers)]
            by_kind = sum((row.kills for row in some), Counter[str]())
            cells = [where, workers, len(some), by_kind.total(), *(by_kind[kind] for kind in (WORKER, NODE, DRIVER))]
            cells += [sum(getattr(row, name) for row in some) for name in ("epochs", "again", "failures")]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", f"{kills.total()} kills; when: " + ", ".join(f"{name} {moments[name]}" for name in sorted(moments))]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
