"""Is a cluster of ours up? What `up` leaves in the state folder says so; nothing is asked of the cluster itself."""

from __future__ import annotations

from cluster.paths import ClusterPaths
from gru4rec.errors import ClusterError


def check_up(paths: ClusterPaths) -> None:
    """Refuse a cluster that this machine did not bring up, or took down again.

    Raises
    ------
    ClusterError
    """
    if not paths.state.exists():
        raise ClusterError(f"cluster {paths.name} is not up", "gru4rec cluster up cluster.toml")


def check_not_up(paths: ClusterPaths) -> None:
    """Refuse to bring up what is up.

    Raises
    ------
    ClusterError
    """
    if paths.state.exists():
        raise ClusterError(
            f"cluster {paths.name} was brought up already", "see: gru4rec cluster status, or take it down first"
        )
