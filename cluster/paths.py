"""Every file name of clusters and submissions in one place: on this machine, and in the storage of a cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

STATE_VARIABLE = "GRU4REC_STATE"


def state_folder() -> Path:
    """Return the folder, for its owner only, in which this machine remembers clusters and submissions.

    $GRU4REC_STATE, or gru4rec-tune in $XDG_STATE_HOME, which is ~/.local/state by default.
    """
    if told := os.environ.get(STATE_VARIABLE):
        return Path(told).absolute()
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "gru4rec-tune"


@dataclass(frozen=True)
class ClusterPaths:
    """What this machine keeps of a cluster that it brought up.

    Parameters
    ----------
    name : str
        Of the cluster.
    """

    name: str

    @property
    def folder(self) -> Path:
        return state_folder() / "clusters" / self.name

    @property
    def token(self) -> Path:
        """The cluster's token, mode 0600."""
        return self.folder / "token"

    @property
    def state(self) -> Path:
        """What `up` started and `down` is to stop."""
        return self.folder / "state.json"

    @property
    def logs(self) -> Path:
        """Output of the processes that run here."""
        return self.folder / "logs"

    @property
    def rendered(self) -> Path:
        """The files that `up` worked with."""
        return self.folder / "rendered"


def submission_record(submission_id: str) -> Path:
    """Return the file in which this machine remembers a submission."""
    return state_folder() / "submissions" / f"{submission_id}.json"
