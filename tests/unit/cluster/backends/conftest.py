"""Stand-ins that the tests of several backends share."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest


class Jobs:
    """Stands for cluster.ray_jobs.RayJobs."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def nodes(self) -> list[dict[str, Any]]:
        return [{"node": "head", "group": "head", "state": "alive", "cpus": 0.0, "gpus": 0.0}]


@pytest.fixture
def stand_in_jobs(monkeypatch: pytest.MonkeyPatch) -> type[Jobs]:
    """Have backends connect to a stand-in for Ray's job API."""
    monkeypatch.setitem(sys.modules, "cluster.ray_jobs", types.SimpleNamespace(RayJobs=Jobs))  # type: ignore[arg-type]
    return Jobs


@pytest.fixture(scope="session")
def alive() -> Callable[[int], bool]:
    """Whether there is a process of that id."""

    def look(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    return look
