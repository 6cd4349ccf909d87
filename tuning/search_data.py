"""The logs of a search, in memory."""

from __future__ import annotations

from dataclasses import dataclass

from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions, concatenate_sessions
from gru4rec.errors import SpecificationError
from tuning.spec import SearchSpec
from tuning.storage import local_copy


@dataclass(frozen=True, eq=False)
class SearchData:
    """The logs of a search, read.

    Parameters
    ----------
    train, validation : Sessions
    train_full : Sessions, optional
        What the winner is trained on anew; None means train and validation together.
    test : Sessions, optional
        Looked at once, by the winner.
    """

    train: Sessions
    validation: Sessions
    train_full: Sessions | None = None
    test: Sessions | None = None

    @property
    def for_winner(self) -> Sessions:
        """What the winner is trained on anew."""
        return self.train_full if self.train_full is not None else concatenate_sessions(self.train, self.validation)


def read_data(spec: SearchSpec) -> SearchData:
    """Read the logs that a specification names.

    Raises
    ------
    SpecificationError
        When it names none.
    DataError
        When one cannot be read.
    """
    if spec.data is None:
        raise SpecificationError("search.toml has no [data]: name train and validation logs")
    logs = {}
    for name, location in spec.data.logs().items():
        with local_copy(location) as path:
            logs[name] = read_log(path, spec.data.log_format)
    return SearchData(**logs)
