"""Ways into a replica of Ray Serve, each with an answer that costs nothing: what a request costs by itself.

    python benchmarks/serve_ingress.py [--rates 100 1000] [--seconds 5]

`proxy` is Ray Serve's own, as it comes; `haproxy` its way for much traffic, HAProxy before servers in the replicas;
`listener` what `gru4rec serve` does, a server in the replica and nothing before it. Each runs in a fresh process.
HAProxy listens with its statistics on every interface, ports 8404 and 9101, while it is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from gru4rec.cli.output import print_table

HERE = Path(__file__).parent
BODY = b'{"items": [], "scores": []}'
ENVIRONMENTS = {
    "proxy": {},
    "haproxy": {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    },
    "listener": {},
}


def serve_here(way: str, port: int) -> None:
    """Serve until stdin ends."""
    import ray
    from ray import serve

    from serving.listener import Listener
    from serving.settings import Settings

    class Answering:
        async def __call__(self, request: Any) -> Any:
            from starlette.responses import Response

            await request.body()
            return Response(BODY, media_type="application/json")

    class Listening:
        async def __init__(self) -> None:  # type: ignore[misc]
            self._listener = Listener(answer, Settings(port=port))

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-length", str(len(BODY)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    own = way == "listener"
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    location = "Disabled" if own else "HeadOnly"
    serve.start(proxy_location=location, http_options={"host": "127.0.0.1", "port": port}, logging_config=quiet)
    deployment = serve.deployment(Listening if own else Answering, max_ongoing_requests=256, logging_config=quiet)
    serve.run(deployment.bind(), route_prefix=None if own else "/")
    print("ready", flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


def measure(way: str, rates: list[float], seconds: float) -> list[dict[str, Any]]:
    """Return a row for each rate."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    environment = {**os.environ, **ENVIRONMENTS[way], "RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}
    command = [sys.executable, __file__, "--serve", way, str(port)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdin is not None and server.stdout is not None
    while server.stdout.readline() not in ("ready\n", ""):
        pass
    rows = []
    for rate in [50.0, *rates]:  # the first to warm it
        load = [sys.executable, str(HERE / "serve_load.py"), str(port), str(rate), str(seconds)]
        done = subprocess.run(load, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"way": way, **json.loads(done.stdout)})
    server.stdin.close()
    server.wait()
    return rows[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[100, 1000])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--serve", nargs=2, metavar=("WAY", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_here(options.serve[0], int(options.serve[1]))
        return
    rows = [row for way in ENVIRONMENTS for row in measure(way, options.rates, options.seconds)]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} CPUs, load averages at the end {load}")
    print_table(rows, list(rows[0]))


if __name__ == "__main__":
    main()
