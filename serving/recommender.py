"""A model folder in memory, ready to answer: item ids of sessions in, item ids and scores out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gru4rec.files import file_digest, read_text
from gru4rec.model_folder import load_model
from gru4rec.sealed_folder import DIGESTS
from serving.requests import ItemId, RecommendRequest

VERSIONS_OF = ("gru4rec-tune", "ray", "torch")


@dataclass(frozen=True)
class Answer:
    """What is recommended for a session.

    Parameters
    ----------
    items : list of int or str
        Best first, at most k.
    scores : list of float
    source : {'model', 'popular', 'none'}
        'popular' where the model knows no item of the session; 'none' where it knows nothing of popularity either.
    unknown : int
        Items of the session that the model does not know.
    """

    items: list[ItemId]
    scores: list[float]
    source: str
    unknown: int


class Recommender:
    """Answers requests by the model of a folder.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ModelFolderError
        When a file of the folder is missing, altered or inconsistent.
    """

    def __init__(self, path: Path) -> None:
        self._model = load_model(path)
        self.path, self.digest = path, file_digest(path / DIGESTS)
        self._config = json.loads(read_text(path / "config.json"))

    def answer(self, requests: Sequence[RecommendRequest]) -> list[list[Answer]]:
        """Return the answers to each session of each request; sessions of like requests share a matrix product.

        Raises
        ------
        DivergedError
            When scores are not finite.
        """
        answers: list[list[Answer]] = [[] for _ in requests]
        for exclude_seen in (False, True):
            places = [place for place, request in enumerate(requests) if request.exclude_seen is exclude_seen]
            sessions = [session for place in places for session in requests[place].sessions]
            most = max((requests[place].k for place in places), default=1)
            found = zip(sessions, *self._model.recommend_items(sessions, most, exclude_seen), strict=True)
            for place in places:  # the k best are the first of the most
                request = requests[place]
                answers[place] = [self._cut(request.k, *next(found)) for _ in request.sessions]
        return answers

    def probe(self) -> None:
        """Answer once.

        Raises
        ------
        DivergedError
            When scores are not finite.
        """
        first = self._model.items.ids[:1].tolist()
        self.answer([RecommendRequest([first], 1, exclude_seen=False, single=True)])

    def metadata(self) -> dict[str, Any]:
        """Return what is known of the model, as JSON has it."""
        return {
            "model": {
                "folder": self.path.name,
                "digest": self.digest,
                "format_version": self._config["format_version"],
                "num_items": len(self._model.items),
                "written_by": self._config["written_by"],
            },
            "hyperparameters": self._model.hyperparameters.to_dict(),
            "metrics": self._model.metrics,
            "versions": {name: version(name) for name in VERSIONS_OF},
        }

    def _cut(self, k: int, session: Sequence[ItemId], items: list[ItemId], scores: list[float], source: str) -> Answer:
        unknown = sum(self._model.items.index_of(item) < 0 for item in session)
        return Answer(items[:k], scores[:k], source, unknown)


def load_recommender(path: Path) -> Recommender:
    """Read a model folder, and have it answer once: a model that cannot is refused here, not by its first users.

    Raises
    ------
    ModelFolderError
        When a file is missing, altered or inconsistent.
    DivergedError
        When scores are not finite.
    """
    recommender = Recommender(path)
    recommender.probe()
    return recommender
