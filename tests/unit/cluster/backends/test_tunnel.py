"""A tunnel's process lives as long as its context, and its failure is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cluster.backends import tunnel
from cluster.backends.tunnel import open_tunnel
from gru4rec.errors import ClusterError


def test_it_is_open_when_it_says_so_and_ends_with_the_context(tmp_path):
    mark = tmp_path / "ended"
    command = ["sh", "-c", f"trap 'touch {mark}; exit' TERM; echo noise; echo open at 7; while :; do sleep 0.05; done"]
    with open_tunnel(command, r"^open at (\d+)") as found:
        assert found[1] == "7"
        assert not mark.exists()
    assert mark.exists()


def test_it_ends_when_the_process_that_opened_it_is_killed(tmp_path):
    mark = tmp_path / "ended"
    code = (
        "import os, signal\n"
        "from cluster.backends.tunnel import open_tunnel\n"
        f"with open_tunnel(['sh', '-c', 'echo open; cat; touch {mark}'], '^open'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    subprocess.run(["sh", "-c", f"until test -e {mark}; do sleep 0.05; done"], check=True, timeout=20)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["sh", "-c", "echo refused >&2; exit 3"], r"the tunnel \(sh\) ended with 3: refused; hint: look"),
        (["sh", "-c", "exit 0"], "ended with 0: it said nothing"),
        (["sleep", "60"], r"the tunnel \(sleep\) did not open in 0 s"),
        (["no-such-program"], "no-such-program is not installed on this machine; hint: look"),
    ],
)
def test_failures(command, told, monkeypatch):
    monkeypatch.setattr(tunnel, "SECONDS_TO_OPEN", 60.0 if command[0] == "sh" else 0.2)
    with pytest.raises(ClusterError, match=told), open_tunnel(command, "^open", "look"):
        pass
