"""`gru4rec serve` as a process of its own, with two replicas, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from gru4rec.model_folder import load_model, save_model

pytest.importorskip("ray.serve")
prometheus = pytest.importorskip("prometheus_client.parser")

TOKEN = "a-token-of-this-test"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
COMMAND = Path(sys.executable).parent / "gru4rec"
SECONDS_TO_START = 180
MAX_IN_FLIGHT = 32
HEAD = f"POST /recommend HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {{}}\r\n\r\n"


class Server:
    """A running `gru4rec serve`."""

    def __init__(self, model: Path, log: Path, *options: object, **environment: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [str(COMMAND), "serve", str(model), "--port", str(self.port), *map(str, options)],
                env={**os.environ, **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        ends = time.monotonic() + SECONDS_TO_START
        while "serving " not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < ends, self.log.read_text()
            time.sleep(0.1)

    def ask(self, method, path, content=None, headers=BEARER):
        """Return status, headers and JSON, or text where it is none, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = content if isinstance(content, (bytes, type(None))) else json.dumps(content).encode()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        return response.status, response.headers, json.loads(text) if text.startswith("{") else text


@pytest.fixture(scope="module")
def folders(make_model, tmp_path_factory) -> dict[str, Path]:
    """Three models; the third is damaged."""
    home = tmp_path_factory.mktemp("models")
    folders = {
        name: save_model(make_model(range(100, 600), seed=seed), home / name)
        for seed, name in enumerate(["first", "second", "damaged"])
    }
    (folders["damaged"] / "items.parquet").write_bytes(b"PAR1")
    return folders


@pytest.fixture(scope="module")
def server(folders, tmp_path_factory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    running = Server(
        folders["first"], log, "--replicas", 2, "--max-in-flight", MAX_IN_FLIGHT, GRU4REC_SERVE_TOKEN=TOKEN
    )
    try:
        running.wait()
        yield running
    finally:
        running.process.terminate()
        running.process.wait(60)


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_it_answers_what_the_model_answers(server, folders, exclude_seen):
    model = load_model(folders["first"])
    sessions = [[100, 101], [250], [599, 598, 599], list(range(100, 160))]
    expected = model.recommend_items(sessions, 7, exclude_seen)
    status, _, content = server.ask("POST", "/recommend", {"sessions": sessions, "k": 7, "exclude_seen": exclude_seen})
    assert status == 200
    for answer, items, scores in zip(content["results"], *expected[:2], strict=True):
        assert answer["items"] == items
        assert answer["scores"] == pytest.approx(scores, rel=1e-4)
        assert (answer["source"], answer["unknown"]) == ("model", 0)
    status, _, single = server.ask(
        "POST", "/recommend", {"items": [*sessions[0], "x"], "k": 7, "exclude_seen": exclude_seen}
    )
    assert (status, single["items"], single["unknown"]) == (200, expected[0][0], 1)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/recommend", b"no json", 400, "invalid_json"),
        ("POST", "/recommend", b'{"items": [1], "k": 1001}', 422, "invalid_value"),
        ("POST", "/recommend", json.dumps({"items": [1] * 1001}).encode(), 422, "invalid_value"),
        ("POST", "/recommend", b" " * (1 << 20) + b"{}", 413, "too_large"),
        ("GET", "/recommend", None, 405, "method_not_allowed"),
        ("GET", "/", None, 404, "not_found"),
    ],
)
def test_errors_are_json(server, method, path, body, status, code):
    found, headers, content = server.ask(method, path, body)
    assert (found, headers["content-type"], content["error"]["code"]) == (status, "application/json", code)


def test_the_token(server):
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert server.ask("POST", "/recommend", {"items": [100]}, headers)[0] == 401
        assert server.ask("POST", "/swap", {"model": "/"}, headers)[0] == 401
    assert server.ask("GET", "/health", headers={})[::2] == (200, {"status": "ok"})


def test_more_at_once_than_it_takes_is_refused_in_order(server):
    """Requests that send no body are in flight until they are timed out or gone: fill both replicas, then ask."""
    waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8 * MAX_IN_FLIGHT)]
    head = HEAD.format(9)
    try:
        for connection in waiting:
            connection.sendall(head.encode())
        time.sleep(0.5)
        status, headers, content = server.ask("POST", "/recommend", {"items": [100]})
        assert (status, content["error"]["code"], headers["retry-after"]) == (503, "overloaded", "1")
        assert server.ask("GET", "/health")[0] == 200
    finally:
        for connection in waiting:
            connection.close()
    ends = time.monotonic() + 10
    while (status := server.ask("POST", "/recommend", {"items": [100]})[0]) == 503 and time.monotonic() < ends:
        time.sleep(0.1)
    assert status == 200


def test_metrics_of_both_replicas_add_up(server):
    def answered():
        text = server.ask("GET", "/metrics")[2]
        families = {family.name: family for family in prometheus.text_string_to_metric_families(text)}
        samples = families["gru4rec_requests"].samples
        replicas = {sample.labels["replica"] for sample in families["gru4rec_in_flight"].samples}
        labels = ("/recommend", "200")
        of_kind = (sample for sample in samples if (sample.labels["route"], sample.labels["status"]) == labels)
        return len(replicas), sum(sample.value for sample in of_kind)

    _, before = answered()
    for _ in range(20):
        server.ask("POST", "/recommend", {"items": [100]})
    assert answered() == (2, before + 20)


def test_metadata(server, folders):
    content = server.ask("GET", "/metadata")[2]
    assert content["model"]["folder"] == "first"
    assert content["hyperparameters"] == load_model(folders["first"]).hyperparameters.to_dict()


def test_a_swap_drops_no_request_and_a_bad_one_changes_nothing(server, folders):
    expected = {name: load_model(folders[name]).recommend_items([[100, 101]], 5)[0][0] for name in ("first", "second")}
    question = {"items": [100, 101], "k": 5}
    stop = threading.Event()

    def keep_asking():
        seen = Counter()
        while not stop.is_set():
            status, _, content = server.ask("POST", "/recommend", question)
            names = [name for name, items in expected.items() if content.get("items") == items]
            seen[status, *names] += 1
        return seen

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(keep_asking) for _ in range(4)]
        time.sleep(0.5)
        status, _, refused = server.ask("POST", "/swap", {"model": str(folders["damaged"])})
        still = [server.ask("POST", "/recommend", question)[2]["items"] for _ in range(6)]
        swapped = server.ask("POST", "/swap", {"model": str(folders["second"])})
        after = [server.ask("POST", "/recommend", question)[2]["items"] for _ in range(6)]
        time.sleep(0.3)
        stop.set()
        seen = sum((each.result() for each in asking), Counter())
    assert (status, refused["error"]["code"]) == (422, "model_refused")
    assert "damaged is damaged: items.parquet not as written" in refused["error"]["message"]
    assert still == [expected["first"]] * 6
    assert (swapped[0], swapped[2]["replicas"]) == (200, 2)
    assert after == [expected["second"]] * 6
    assert set(seen) == {(200, "first"), (200, "second")}


def test_it_starts_for_nobody_whom_it_should_not_serve(folders, server, tmp_path):
    cases = [
        (["serve", folders["first"], "--host", "0.0.0.0"], 2, "there is no token"),
        (["serve", folders["damaged"]], 1, "damaged is damaged"),
        (["serve", folders["first"], "--port", server.port], 1, f"127.0.0.1:{server.port} cannot be listened on"),
    ]
    for arguments, code, text in cases:
        done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_sigterm_answers_what_was_accepted_and_leaves_no_process(server):
    started = psutil.Process(server.process.pid).children(recursive=True)
    assert started
    body = b'{"items": [100], "k": 1}'
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as accepted:
        accepted.sendall(HEAD.format(len(body)).encode() + body[:5])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        accepted.sendall(body[5:])
        assert accepted.recv(100).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(60) == 143
    _, alive = psutil.wait_procs(started, timeout=5)
    assert alive == []
