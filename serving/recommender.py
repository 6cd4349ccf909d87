"""A model folder in memory, ready to answer: item ids of sessions in, item ids and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gru4rec.data.sessions import IndexArray, Sessions
from gru4rec.files import file_digest
from gru4rec.model import FloatArray, Model
from gru4rec.model_folder import DIGESTS, FORMAT_VERSION, load_model
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
    source : {'model', 'popular'}
        'popular' where the model knows no item of the session.
    unknown : int
        Items of the session that the model does not know.
    """

    items: list[ItemId]
    scores: list[float]
    source: Literal["model", "popular"]
    unknown: int


class Recommender:
    """Answers requests by a model.

    Parameters
    ----------
    model : Model
    path : Path
        Of its folder.
    digest : str
        Of its folder, see `folder_digest`.
    """

    def __init__(self, model: Model, path: Path, digest: str) -> None:
        self.path, self.digest = path, digest
        self._model = model
        self._ids: list[ItemId] = model.items.ids.tolist()
        self._index = {str(item): index for index, item in enumerate(self._ids)}

    def answer(self, requests: Sequence[RecommendRequest]) -> list[list[Answer]]:
        """Return the answers to each session of each request; sessions of like requests share a matrix product."""
        answers: list[list[Answer]] = [[] for _ in requests]
        for exclude_seen in (False, True):
            places = [place for place, request in enumerate(requests) if request.exclude_seen is exclude_seen]
            if places:
                alike = [requests[place] for place in places]
                for place, found in zip(places, self._answer_alike(alike, exclude_seen), strict=True):
                    answers[place] = found
        return answers

    def metadata(self) -> dict[str, Any]:
        """Return what is known of the model, as JSON has it."""
        return {
            "model": {
                "folder": self.path.name,
                "digest": self.digest,
                "format_version": FORMAT_VERSION,
                "num_items": len(self._ids),
            },
            "hyperparameters": self._model.hyperparameters.to_dict(),
            "metrics": self._model.metrics,
            "versions": {name: version(name) for name in VERSIONS_OF},
        }

    def _answer_alike(self, requests: Sequence[RecommendRequest], exclude_seen: bool) -> list[list[Answer]]:
        """Return the answers to requests that differ in sessions and k only: the k best are the first of the most."""
        known = [self._known_items(session) for request in requests for session in request.sessions]
        items, scores = self._best(known, max(request.k for request in requests), exclude_seen)
        answers = []
        row = 0
        for request in requests:
            answers.append([])
            for session in request.sessions:
                unknown = len(session) - len(known[row])
                answers[-1].append(self._make_answer(items[row, : request.k], scores[row, : request.k], unknown))
                row += 1
        return answers

    def _known_items(self, session: Sequence[ItemId]) -> list[int]:
        found = (self._index.get(str(item)) for item in session)
        return [index for index in found if index is not None]

    def _best(self, known: Sequence[Sequence[int]], k: int, exclude_seen: bool) -> tuple[IndexArray, FloatArray]:
        lengths = [len(items) for items in known]
        sessions = Sessions(
            item_index=np.array([item for items in known for item in items], dtype=np.int32),
            offsets=np.cumsum([0, *lengths]),
            times=np.zeros(sum(lengths)),
            session_ids=np.arange(len(known)),
            items=self._model.items,
        )
        return self._model.best_items(sessions, k, exclude_seen)

    def _make_answer(self, items: IndexArray, scores: FloatArray, unknown: int) -> Answer:
        shown = np.isfinite(scores)  # -infinity is an item that was seen
        ids = [self._ids[index] for index in items[shown].tolist()]
        return Answer(ids, scores[shown].tolist(), "model", unknown)


def load_recommender(path: Path) -> Recommender:
    """Read a model folder, and have it answer once: a model that cannot is refused here, not by its first users.

    Raises
    ------
    ModelFolderError
        When a file is missing, altered or inconsistent.
    DivergedError
        When scores are not finite.
    """
    model = load_model(path)
    recommender = Recommender(model, path, folder_digest(path))
    first = model.items.ids[:1].tolist()
    recommender.answer([RecommendRequest([first], 1, exclude_seen=False, single=True)])
    return recommender


def folder_digest(path: Path) -> str:
    """Return the SHA-256 of a folder's list of digests, in hexadecimal: it stands for all its files."""
    return file_digest(path / DIGESTS)
