"""A trained model: recommends and evaluates on the log's own ids. Its folder on disk is `gru4rec.model_folder`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from gru4rec.data.sessions import AnyArray, IndexArray, IntArray, ItemVocabulary, Sessions, ranges
from gru4rec.errors import DivergedError, ParameterError
from gru4rec.evaluation import Steps, compute_ranks, rankable_sessions, score_tiles, session_states
from gru4rec.hyperparameters import HyperParameters
from gru4rec.intervals import bootstrap_intervals
from gru4rec.metrics import compute_metrics, metric_keys
from gru4rec.nn.network import Network

FloatArray = npt.NDArray[np.float32]
DEFAULT_METRICS = tuple(metric_keys([20]))
ROWS_PER_TILE = 256
SCORES_PER_TILE = 1 << 22  # 16 MiB: the bound on memory, whatever the catalogue


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on a log, and what they were measured on.

    Parameters
    ----------
    metrics : dict of str to float
        Means over the ranked targets.
    intervals : dict of str to (float, float)
        95 % bootstrap interval of each metric, resampling sessions.
    metrics_with_misses : dict of str to float
        The metrics where every unknown target counts as a miss.
    num_sessions : int
        Sessions with a ranked target.
    num_targets : int
        Next items that were ranked among all items.
    num_unknown_targets : int
        Next items of the log that could not be ranked, because the model does not know them or what precedes them.
    num_unknown_events : int
        Events left out because the model does not know their item.
    num_tied : int
        Targets that share their score with another item, which counts against them.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    metrics_with_misses: dict[str, float]
    num_sessions: int
    num_targets: int
    num_unknown_targets: int
    num_unknown_events: int
    num_tied: int


@dataclass(frozen=True, eq=False)
class Recommendations:
    """The best next items of each session.

    Parameters
    ----------
    table : DataFrame
        Columns session, rank (from 1), item, score; sessions in their order, ranks ascending.
    num_unknown_events : int
        Events left out because the model does not know their item.
    sessions_without_known_items : array
        Ids of the sessions that have no row, since the model knows none of their items.
    """

    table: pd.DataFrame
    num_unknown_events: int
    sessions_without_known_items: AnyArray


@dataclass(frozen=True, eq=False)
class Model:
    """A network and the vocabulary it was trained on.

    Parameters
    ----------
    network : Network
    items : ItemVocabulary
    metrics : dict
        What is known of its quality, for the model folder.
    num_columns : int, optional
        Columns of the InteractionMatrix it was trained on, where it was one; item ids are then column numbers.
    """

    network: Network
    items: ItemVocabulary
    metrics: dict[str, Any] = field(default_factory=dict)
    num_columns: int | None = None

    @property
    def hyperparameters(self) -> HyperParameters:
        return self.network.hyperparameters

    def evaluate(
        self, sessions: Sessions, metrics: Iterable[str] = DEFAULT_METRICS, steps: Steps = "all"
    ) -> Evaluation:
        """Rank the next item of every step of every session among all items the model knows.

        Parameters
        ----------
        sessions : Sessions
            Over any vocabulary; events with items unknown to the model are left out and counted.
        metrics : iterable of str
            Keys such as 'recall@20'.
        steps : {'all', 'last'}
            'last' ranks only the last item of each session; a session whose last item is unknown counts as a miss.

        Raises
        ------
        DataError
            When no session has two known events.
        ParameterError
            When `steps` or a metric key is unknown.
        DivergedError
            When scores are not finite.
        """
        keys = list(metrics)
        known, num_unknown = rankable_sessions(sessions, self.items, steps)
        ranked = compute_ranks(self.network, known, steps)
        values = compute_metrics(ranked.ranks, keys)
        num_ranked = len(ranked.ranks)
        num_targets = sessions.num_targets if steps == "all" else int((sessions.lengths >= 2).sum())
        return Evaluation(
            metrics=values,
            intervals=bootstrap_intervals(ranked.ranks, ranked.session_of_target, keys),
            metrics_with_misses={key: value * (num_ranked / num_targets) for key, value in values.items()},
            num_sessions=len(np.unique(ranked.session_of_target)),
            num_targets=num_ranked,
            num_unknown_targets=num_targets - num_ranked,
            num_unknown_events=num_unknown,
            num_tied=ranked.num_tied,
        )

    def recommend(self, sessions: Sessions, k: int = 20, exclude_seen: bool = False) -> Recommendations:
        """Return the k best next items of each session.

        Parameters
        ----------
        sessions : Sessions
            Over any vocabulary; events with items unknown to the model are left out and counted.
        k : int
            Fewer where the catalogue is smaller.
        exclude_seen : bool
            Leave out items that are in the session already.

        Raises
        ------
        ParameterError
            When k is less than 1.
        DivergedError
            When scores are not finite.
        """
        numbered = replace(sessions, session_ids=np.arange(sessions.num_sessions))
        known, num_unknown = numbered.with_items_of(self.items)
        best_items, best_scores = self.best_items(known, k, exclude_seen)
        k = best_items.shape[1]
        table = pd.DataFrame(
            {
                "session": np.repeat(sessions.session_ids[known.session_ids], k),
                "rank": np.tile(np.arange(1, k + 1), known.num_sessions),
                "item": self.items.decode(best_items.ravel()),
                "score": best_scores.ravel(),
            }
        )
        table = table[np.isfinite(table["score"])].reset_index(drop=True)
        silent = np.setdiff1d(numbered.session_ids, known.session_ids)
        return Recommendations(table, num_unknown, sessions.session_ids[silent])

    def best_items(self, known: Sessions, k: int, exclude_seen: bool = False) -> tuple[IndexArray, FloatArray]:
        """Return the k best next items of each session and their scores, both of shape (num_sessions, k), best first.

        Parameters
        ----------
        known : Sessions
            Over the vocabulary of the model.
        k : int
            Fewer where the catalogue is smaller.
        exclude_seen : bool
            Give items that are in the session the score minus infinity.

        Raises
        ------
        ParameterError
            When k is less than 1.
        DivergedError
            When scores are not finite.
        """
        if k < 1:
            raise ParameterError(f"k must be a whole number >= 1, got {k}")
        k = min(k, len(self.items))
        items = np.zeros((known.num_sessions, k), dtype=np.int32)
        scores = np.zeros((known.num_sessions, k), dtype=np.float32)
        with torch.inference_mode():
            for positions, states in session_states(self.network, known, known.lengths, "last"):
                at = np.searchsorted(known.offsets, positions, side="right") - 1
                num_blocks = math.ceil(len(at) / max(1, min(ROWS_PER_TILE, SCORES_PER_TILE // k)))
                for rows, part in zip(np.array_split(at, num_blocks), states.tensor_split(num_blocks), strict=True):
                    seen = _seen_items(known, rows if exclude_seen else rows[:0])
                    best_scores, best_items = best_of_tiles(self.network, part, k, *seen)
                    scores[rows], items[rows] = best_scores.cpu(), best_items.cpu()
        if not (scores < np.inf).all():  # NaN and infinity rank first; -infinity is an item that was seen
            raise DivergedError("the model's scores are not finite", "train with a lower learning_rate or momentum")
        return items, scores


def best_of_tiles(
    network: Network, states: Tensor, k: int, excluded_rows: Tensor, excluded_items: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the k highest scores of each row and their items, both of shape (rows, k), best first.

    Parameters
    ----------
    states : Tensor, shape (rows, H)
    k : int
        At most the number of items.
    excluded_rows, excluded_items : Tensor of int64, shape (count,)
        Items whose score in that row counts as minus infinity.
    """
    best_scores = states.new_empty(len(states), 0)
    best_items = torch.empty_like(best_scores, dtype=torch.int64)
    for first, scores in score_tiles(network, states, max(k, SCORES_PER_TILE // len(states))):
        width = scores.shape[1]
        inside = (excluded_items >= first) & (excluded_items < first + width)
        scores[excluded_rows[inside], excluded_items[inside] - first] = -torch.inf
        tile_scores, tile_items = scores.topk(min(k, width), dim=1)
        tile_items += first
        if first:
            tile_scores = torch.cat([best_scores, tile_scores], dim=1)  # at most (rows, 2k)
            tile_items = torch.cat([best_items, tile_items], dim=1)
            tile_scores, places = tile_scores.topk(min(k, tile_scores.shape[1]), dim=1)
            tile_items = tile_items.gather(1, places)
        best_scores, best_items = tile_scores, tile_items
    return best_scores, best_items


def _seen_items(sessions: Sessions, rows: IntArray) -> tuple[Tensor, Tensor]:
    """Return the events of the sessions `rows`: which of the rows, and which item."""
    lengths = sessions.lengths[rows]
    items = sessions.item_index[ranges(sessions.offsets[rows], lengths)]
    return torch.from_numpy(np.repeat(np.arange(len(rows)), lengths)), torch.from_numpy(items).long()
