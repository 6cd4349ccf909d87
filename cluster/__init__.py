"""Where a search runs: clusters brought up and down, searches submitted to them, the best model fetched.

Names are imported when first used, so that the command line need not load Ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.job import Job, find_job, submit
    from cluster.spec import ClusterSpec, read_cluster

_MODULES = {
    "ClusterSpec": "cluster.spec",
    "Job": "cluster.job",
    "find_job": "cluster.job",
    "read_cluster": "cluster.spec",
    "submit": "cluster.job",
}
__all__ = ["ClusterSpec", "Job", "find_job", "read_cluster", "submit"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cluster' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
