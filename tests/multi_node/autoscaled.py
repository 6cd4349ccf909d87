"""A search on nodes that Ray's autoscaler brings; prints what the autoscaler was asked for, a number a second, as JSON.

Nodes are raylets on this machine, which the autoscaler starts where it would ask a cloud. They outlive whoever started
them, and listen on whatever network there is: test_autoscaler.py runs this in namespaces of its own. FOLDER, the only
argument, holds search.toml and its logs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tuning.ray_runtime import Place
from tuning.result import result_folder
from tuning.search import make_task, search_into
from tuning.search_data import read_data
from tuning.spec import read_spec

ADDRESS = "127.0.0.1:26379"
MAX_NODES = 5
STARTED = "Ray runtime started"
SECONDS_TO_START = 60.0
COMMANDS = (
    "cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands",
    "head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
)  # fmt: skip
CONFIG = {
    "cluster_name": "autoscaled",
    "max_workers": MAX_NODES,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 10,
    "provider": {
        "type": "fake_multinode",
        "gcs_address": ADDRESS,
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {
            "resources": {"CPU": 1, "object_store_memory": 100_000_000},
            "node_config": {}, "min_workers": 0, "max_workers": MAX_NODES,
        },
    },
    "head_node_type": "ray.head.default",
    "auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False,
    **{key: [] for key in COMMANDS},
}  # fmt: skip


def start_head(folder: Path, sessions: str) -> None:
    """Start a head that runs no trials, and its autoscaler."""
    (folder / "autoscaler.json").write_text(json.dumps(CONFIG))
    host, port = ADDRESS.split(":")
    command = ["ray", "start", "--head", f"--node-ip-address={host}", f"--port={port}", "--num-cpus=0", "--block"]
    command += [f"--temp-dir={sessions}", f"--autoscaling-config={folder / 'autoscaler.json'}"]
    log = folder / "head.txt"
    with log.open("wb") as said:
        head = subprocess.Popen([*command, "--include-dashboard=false"], stdout=said, stderr=said)
    until = time.monotonic() + SECONDS_TO_START
    while STARTED not in log.read_text():
        if head.poll() is not None or time.monotonic() > until:
            sys.exit(log.read_text())
        time.sleep(0.5)


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    os.environ |= {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    sessions = tempfile.mkdtemp(prefix="ray-")  # a short name: Ray's sockets lie in it
    start_head(folder, sessions)
    spec = read_spec(folder / "search.toml")
    data = read_data(spec)
    with result_folder(folder / "run", spec) as path:
        search_into(path, spec, data, make_task(spec, data), Place(ADDRESS, slots=MAX_NODES))
    said = (Path(sessions) / "session_latest/logs/monitor.log").read_text()
    print(json.dumps([int(count) for count in re.findall(r"(\d+)\+ pending placement groups", said)]))


if __name__ == "__main__":
    main()
