"""`gru4rec serve` under load: latency and throughput on loopback, with a swap of the model in the middle.

    python benchmarks/serve.py [--rates 10 100 1000] [--seconds 10] [--replicas 1] [--json FILE]

Models of 5,000 and 40,000 items with 100 hidden units and drawn weights; sessions of 1 to 20 items, 4.9 on average,
k = 20. The load is `serve_load.py`, on this machine, which has its share of the CPUs. Halfway through each
row the server swaps to another model of the same size; errors are requests that were not answered with 200, then or at
any other time. CPU is that of all replicas, per answered request; sessions per product is what batching made of them.
Before the server, the model alone: milliseconds per session where so many share a product.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from gru4rec.cli.output import print_table
from gru4rec.data.sessions import ItemVocabulary
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model import Model
from gru4rec.model_folder import save_model
from gru4rec.nn.network import Network, initial_weights
from serving.recommender import Recommender
from serving.requests import RecommendRequest

CATALOGUES = (5_000, 40_000)
HIDDEN_SIZE = 100
BATCHES = (1, 8, 64)
ROUNDS = 30


def write_model(folder: Path, num_items: int, seed: int) -> Path:
    """Write a model with drawn weights."""
    parameters = HyperParameters(hidden_size=HIDDEN_SIZE, num_components=HIDDEN_SIZE)
    weights = initial_weights(num_items, parameters, torch.Generator().manual_seed(seed))
    return save_model(Model(Network(num_items, parameters, weights), ItemVocabulary(np.arange(num_items))), folder)


def measure_model(folder: Path, num_items: int) -> dict[str, Any]:
    """Return the milliseconds per session, for each size of a batch."""
    recommender, random = Recommender(folder), np.random.default_rng(1)
    row: dict[str, Any] = {"items": num_items}
    for size in BATCHES:
        seconds = []
        for _ in range(ROUNDS):
            sessions = [random.integers(0, num_items, 5).tolist() for _ in range(size)]
            began = time.perf_counter()
            recommender.answer([RecommendRequest([session], 20, False, True) for session in sessions])
            seconds.append((time.perf_counter() - began) / size)
        row[f"{size} at once, ms"] = round(statistics.median(seconds) * 1e3, 3)
    return row


class Server:
    """A running `gru4rec serve`."""

    def __init__(self, process: subprocess.Popen[str], port: int, token: Path) -> None:
        self.port, self.token, self._process = port, token, process

    def ask(self, path: str, content: object = None) -> str:
        headers = {"Authorization": f"Bearer {self.token.read_text()}"}
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        with urllib.request.urlopen(request) as answer:
            text: str = answer.read().decode()
            return text

    def cpu_seconds(self) -> float:
        """Return what all replicas have used so far."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        replicas = [child for child in children if "ServeReplica" in " ".join(child.cmdline())]
        return sum(sum(replica.cpu_times()[:2]) for replica in replicas)

    def batches(self) -> tuple[float, float]:
        """Return how many sessions shared how many products so far."""
        lines = [line.rpartition(" ") for line in self.ask("/metrics").splitlines()]
        return tuple(  # type: ignore[return-value]
            sum(float(value) for name, _, value in lines if name.startswith(f"gru4rec_batch_sessions_{kind}"))
            for kind in ("sum", "count")
        )


@contextmanager
def running_server(model: Path, replicas: int, home: Path) -> Iterator[Server]:
    """Serve a model for the time of the context."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    token = home / "token"
    token.write_text(secrets.token_hex(16))
    command = [Path(sys.executable).parent / "gru4rec", "serve", model, "--port", port, "--replicas", replicas]
    process = subprocess.Popen([*map(str, command), "--token-file", str(token)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = list(takewhile(lambda line: not line.startswith("serving "), process.stderr))
        if process.poll() is not None:
            sys.exit("".join(said))
        yield Server(process, port, token)
    finally:
        process.terminate()
        process.wait()


def measure_rate(server: Server, rate: float, seconds: float, num_items: int, other: Path) -> dict[str, Any]:
    """Return the row of one rate."""
    load = [sys.executable, str(Path(__file__).parent / "serve_load.py"), str(server.port), str(rate), str(seconds)]
    swap = threading.Timer(seconds / 2, server.ask, ("/swap", {"model": str(other)}))
    before, (sessions, products) = server.cpu_seconds(), server.batches()
    swap.start()
    done = subprocess.run(
        [*load, "--items", str(num_items), "--token", str(server.token)], check=True, stdout=subprocess.PIPE, text=True
    )
    swap.join()
    row: dict[str, Any] = json.loads(done.stdout)
    used, (sessions_after, products_after) = server.cpu_seconds() - before, server.batches()
    row["CPU ms"] = round(used * 1e3 / (rate * seconds), 3)
    row["sessions/product"] = round((sessions_after - sessions) / (products_after - products), 1)
    return {"items": num_items, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    alone, rows = [], []
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for num_items in CATALOGUES:
            models = [write_model(home / f"{num_items}-{seed}", num_items, seed) for seed in (1, 2)]
            alone.append(measure_model(models[0], num_items))
            with running_server(models[0], options.replicas, home) as server:
                measure_rate(server, 50, 2, num_items, models[0])  # warm
                for number, rate in enumerate(options.rates):
                    rows.append(measure_rate(server, rate, options.seconds, num_items, models[1 - number % 2]))
    print(f"the model alone, 1 thread, medians of {ROUNDS}")
    print_table(alone, list(alone[0]))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{options.replicas} replica(s), {os.cpu_count()} CPUs, load averages at the end {load}")
    print_table(rows, list(rows[0]))
    if options.json:
        options.json.write_text(json.dumps({"alone": alone, "served": rows}, indent=2))


if __name__ == "__main__":
    main()
