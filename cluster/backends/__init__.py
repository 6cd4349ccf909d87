"""Backends, side by side: each brings a cluster up and down, and says where searches are submitted to.

Each module has `parse_settings(section, folder)`, which reads the backend's own table of cluster.toml, and
`make_backend(spec)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cluster.jobs import Jobs, Submission
    from cluster.spec import ClusterSpec

BACKENDS = ("local", "address", "ray_up", "kuberay", "slurm")

Say = Callable[[str], None]


class Backend(Protocol):
    """A cluster of one kind."""

    def render(self, submission: Submission | None = None) -> dict[str, str]:
        """Return the files that `up` works with, name -> text, and those for a submission; touch nothing."""

    def up(self, say: Say) -> None:
        """Bring the cluster up, its token authentication on.

        Raises
        ------
        ClusterError
            When it cannot be; what was started is stopped again.
        """

    def down(self, say: Say) -> None:
        """Take down what `up` brought up, and nothing else."""

    def status(self) -> list[dict[str, Any]]:
        """Return a row per node: 'node', 'group', 'state' and what else is known.

        Raises
        ------
        ClusterError
            When the cluster is not up.
        """

    def jobs(self) -> AbstractContextManager[Jobs]:
        """Connect to where searches are submitted; tunnels last as long as the context."""


def backend_module(name: str) -> Any:
    """Return the module of a backend; others are not loaded."""
    return importlib.import_module(f"cluster.backends.{name}")


def make_backend(spec: ClusterSpec) -> Backend:
    """Return the backend of a specification."""
    backend: Backend = backend_module(spec.backend).make_backend(spec)
    return backend
