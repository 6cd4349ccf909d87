"""How a model is served: what the command line says, for every replica."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.requests import Limits


@dataclass(frozen=True)
class Settings:
    """What the replicas of a server have in common.

    Parameters
    ----------
    host : str
        Address to listen on, of each machine that has a replica.
    port : int
    replicas : int
    threads : int
        Of torch, per replica; a replica takes as many CPUs.
    own_ray : bool
        Whether Ray runs for this server alone, on 127.0.0.1.
    token_digest : str, optional
        Of the token that requests must carry, see `serving.access`.
    limits : Limits
    batch_sessions : int
        Sessions that share a matrix product, at most.
    drain_s : float
        Seconds that accepted requests have to end when a replica is stopped.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    threads: int = 1
    own_ray: bool = True
    token_digest: str | None = None
    limits: Limits = field(default_factory=Limits)
    batch_sessions: int = 64
    drain_s: float = 10.0
