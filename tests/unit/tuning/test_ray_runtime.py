"""A Ray that does not start. How many trials it runs at once is in test_slots.py."""

from __future__ import annotations

import os
import subprocess
import sys

START = "from tuning.ray_runtime import start; start()"


def test_a_ray_that_does_not_start_is_an_error_of_ours(tmp_path):
    too_long = tmp_path / ("a" * 100)  # for the name of a socket
    too_long.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", START], env={**os.environ, "RAY_TMPDIR": str(too_long)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("gru4rec.errors.ClusterError: Ray did not start: ")
    assert "AF_UNIX path length" in last
    assert "hint: is the machine busy" in last
