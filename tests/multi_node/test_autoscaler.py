"""Ray's own autoscaler, with raylets of this machine in place of a cloud's: it is asked for what the trials can use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("autoscaled.py")
ALONE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")  # all of it ends with it
SECONDS_TO_END = 300


def test_the_autoscaler_is_asked_for_all_nodes_at_once_and_for_no_more_than_trials_can_use(tmp_path, write_search):
    if subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
        pytest.skip("network and process namespaces are not permitted here")
    path = write_search(tmp_path / "search.toml", trials=6, max_epochs=3, batch_size=64)
    path.write_text(path.read_text().replace("trials = 6", "trials = 6\nmax_concurrent_trials = 3"))
    variables = {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}  # nobody else is in its network
    done = subprocess.run(
        [*ALONE, "sh", "-c", f"ip link set lo up && exec {sys.executable} {PROGRAM} {tmp_path}"],
        env={**os.environ, **variables}, capture_output=True, text=True, timeout=SECONDS_TO_END, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    asked = json.loads(done.stdout.splitlines()[-1])
    assert max(asked) == 3, f"of 5 nodes that it may bring; pending, second by second: {asked}"
