"""What a submission is, and what can be done with one; Ray's job API and Slurm are the two ways it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

QUEUED, RUNNING, SUCCEEDED, FAILED, STOPPED = ("queued", "running", "succeeded", "failed", "stopped")
ENDED = (SUCCEEDED, FAILED, STOPPED)


@dataclass(frozen=True)
class Submission:
    """Something to run on a cluster.

    Parameters
    ----------
    id : str
    folder : Path
        Here; it is packed whole, and is the working folder of the command there.
    command : tuple of str
        Arguments of Python, such as ('-m', 'cluster.driver').
    variables : dict of str to str
        Environment variables, none of them secret.
    packages : tuple of str
        Requirements to install there first.
    """

    id: str
    folder: Path
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()


class Jobs(Protocol):
    """Where submissions run."""

    def submit(self, submission: Submission) -> None:
        """Hand it over; it goes on without this machine.

        Raises
        ------
        ClusterError
            When it is refused, for one because its id was used before.
        """

    def state(self, submission_id: str) -> str:
        """Return one of 'queued', 'running', 'succeeded', 'failed', 'stopped'.

        Raises
        ------
        ClusterError
            When it is not known there.
        """

    def logs(self, submission_id: str) -> str:
        """Return all that the submission printed so far."""

    def follow(self, submission_id: str) -> Iterator[str]:
        """Yield the lines of its log from the first on, as they come, until it has ended."""

    def stop(self, submission_id: str) -> None:
        """Ask it to end; a search exports the best model so far."""

    def check_ended(self, submission_id: str) -> None:
        """Do nothing when it has ended, or is not known there.

        Raises
        ------
        ClusterError
            When it has not ended.
        """

    def forget(self, submission_id: str) -> None:
        """Free an id for another use; nothing happens when it is not known there.

        Raises
        ------
        ClusterError
            When the submission has not ended.
        """
