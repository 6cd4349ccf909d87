"""Which model is to be served: kept where Ray keeps its own state, so that a replica that starts anew finds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ray.experimental import internal_kv

KEY = b"gru4rec-serving-target"


@dataclass(frozen=True)
class Target:
    """The model of all replicas.

    Parameters
    ----------
    path : str
        Of its folder.
    digest : str
        Of its folder, see `serving.recommender.folder_digest`.
    """

    path: str
    digest: str


def write_target(target: Target) -> None:
    """Have all replicas serve a model from their next look on."""
    internal_kv._internal_kv_put(KEY, json.dumps(asdict(target)), overwrite=True)


def read_target() -> Target:
    """Return what was written last."""
    return Target(**json.loads(internal_kv._internal_kv_get(KEY)))
