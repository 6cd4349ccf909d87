"""A Ray cluster that runs already, and that others bring up and take down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.backends import Say
from cluster.jobs import Submission
from cluster.ray_jobs import RayJobs
from cluster.spec import ClusterSpec
from cluster.token import read_token
from gru4rec.errors import ClusterError
from tuning.sections import Section

TOKEN_VARIABLE = "RAY_AUTH_TOKEN"


@dataclass(frozen=True)
class AddressSettings:
    """The table [address].

    Parameters
    ----------
    dashboard : str
        URL of the dashboard of its head, such as http://127.0.0.1:8265 at this end of a tunnel.
    token_path : Path, optional
        File of its token; without it, the environment variable RAY_AUTH_TOKEN.
    """

    dashboard: str
    token_path: Path | None = None


def parse_settings(section: Section, folder: Path) -> AddressSettings:
    """Read the table [address]."""
    dashboard = section.text("dashboard", "")
    if not str(dashboard).startswith(("http://", "https://")):
        section.problems.append(
            f"{section.place('dashboard')} must be the URL of the head's dashboard, such as http://127.0.0.1:8265, "
            f"got {dashboard!r}"
        )
    token_path = section.location("token_path", folder)
    section.reject_unknown()
    return AddressSettings(str(dashboard), Path(token_path) if token_path else None)


def make_backend(spec: ClusterSpec) -> RunningCluster:
    """Return the backend."""
    return RunningCluster(spec)


class RunningCluster:
    """The cluster at an address."""

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec

    def render(self, submission: Submission | None = None) -> dict[str, str]:
        return {}

    def up(self, say: Say) -> None:
        raise ClusterError(f"cluster {self._spec.name} is not ours to bring up", "submit to it as it is")

    def down(self, say: Say) -> None:
        raise ClusterError(f"cluster {self._spec.name} is not ours to take down")

    def status(self) -> list[dict[str, Any]]:
        with self.jobs() as jobs:
            return jobs.nodes()

    @contextmanager
    def jobs(self) -> Iterator[RayJobs]:
        settings: AddressSettings = self._spec.settings
        token = read_token(settings.token_path) if settings.token_path else os.environ.get(TOKEN_VARIABLE)
        yield RayJobs(settings.dashboard, token)
