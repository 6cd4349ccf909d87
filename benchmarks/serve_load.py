"""Open-loop load on an HTTP server: `python benchmarks/serve_load.py PORT RATE SECONDS [--token FILE] [...]`.

Requests are sent at fixed times, whether earlier ones are answered or not, on at most so many connections; one that
finds no connection free waits, and its latency counts from the time when it was to be sent. So a server that falls
behind shows it (no coordinated omission). Prints one JSON object. A process of its own, so that it does not share an
interpreter with what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
import uvloop

SECONDS_TO_DRAIN = 30
BODIES = 1000


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0) if end else 0
        if end and len(body) >= length:
            self._received = b""
            self._finish(int(head.split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(0)

    def _finish(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    async def ask(self, request: bytes) -> int:
        """Return the status of the answer, 0 where the connection was lost."""
        if self._transport.is_closing():
            return 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


def make_requests(token: str | None, num_items: int, path: str) -> list[bytes]:
    """Return requests for sessions of 1 to 20 items, the same ones each time."""
    random = np.random.default_rng(1)
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    requests = []
    for length in np.minimum(random.geometric(0.2, BODIES), 20):
        body = json.dumps({"items": random.integers(0, num_items, length).tolist(), "k": 20})
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Length: {len(body)}\r\n\r\n"
        requests.append((head + body).encode())
    return requests


async def run(port: int, rate: float, seconds: float, connections: int, requests: list[bytes]) -> dict[str, object]:
    """Send `rate` requests a second for so many seconds; return what came of them."""
    loop = asyncio.get_running_loop()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait((await loop.create_connection(Connection, "127.0.0.1", port))[1])
    latencies: list[float] = []
    statuses: Counter[int] = Counter()

    async def ask(number: int, due: float) -> None:
        connection = await free.get()
        statuses[await connection.ask(requests[number % len(requests)])] += 1
        latencies.append(time.perf_counter() - due)
        free.put_nowait(connection)

    began = time.perf_counter() + 0.1
    asking = set()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = loop.create_task(ask(number, due))
        asking.add(task)
        task.add_done_callback(asking.discard)
    unanswered = len((await asyncio.wait(asking, timeout=SECONDS_TO_DRAIN))[1]) if asking else 0
    took = time.perf_counter() - began
    p50, p99, worst = np.percentile(np.array(latencies) * 1e3, [50, 99, 100]).round(2).tolist()
    errors = unanswered + sum(count for status, count in statuses.items() if status != 200)
    answered = round(statuses[200] / took, 1)
    return {"offered/s": rate, "answered/s": answered, "p50 ms": p50, "p99 ms": p99, "max ms": worst, "errors": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--token", type=Path)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--path", default="/recommend")
    options = parser.parse_args()
    token = options.token.read_text().strip() if options.token else None
    requests = make_requests(token, options.items, options.path)
    print(json.dumps(uvloop.run(run(options.port, options.rate, options.seconds, options.connections, requests))))


if __name__ == "__main__":
    main()
