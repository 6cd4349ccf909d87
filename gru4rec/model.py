"""A trained model: recommends and evaluates on the log's own ids. Its folder on disk is `gru4rec.model_folder`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from gru4rec import top_items
from gru4rec.data.sessions import AnyArray, IndexArray, IntArray, ItemVocabulary, Sessions, ranges
from gru4rec.data.training_log import TrainingLog, describe_log
from gru4rec.errors import DivergedError, ParameterError
from gru4rec.evaluation import Steps, compute_ranks, rankable_sessions, session_states
from gru4rec.hyperparameters import HyperParameters
from gru4rec.intervals import bootstrap_intervals
from gru4rec.metrics import compute_metrics, metric_keys
from gru4rec.nn.network import Network

FloatArray = npt.NDArray[np.float32]
DEFAULT_METRICS = tuple(metric_keys([20]))

Fallback = Literal["popular", "none"]
MODEL, POPULAR, NONE = "model", "popular", "none"
"""Where recommendations come from; the last of them: there are none."""


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
        Columns session, rank (from 1), item, score, source; sessions in their order, ranks ascending. The source is
        'model', or 'popular' where the score is the number of events that the item had in the training log.
    num_unknown_events : int
        Events left out because the model does not know their item.
    sessions_without_known_items : array
        Ids of the sessions of which the model knows no item: they have the popular items, or no row.
    """

    table: pd.DataFrame
    num_unknown_events: int
    sessions_without_known_items: AnyArray


@dataclass(frozen=True, eq=False)
class SessionState:
    """What a model remembers of a session so far; `Model.start` makes the first.

    Parameters
    ----------
    hidden : tuple of Tensor, shape (1, H)
        State of each layer. Never changed in place: a state may be kept, and gone on from more than once.
    num_events : int
        Events so far, those of unknown items not counted.
    """

    hidden: tuple[Tensor, ...]
    num_events: int


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
    support : array of int64, shape (num_items,), optional
        Events of each item in the training log; without it there are no popular items to fall back to.
    training_log : TrainingLog, optional
        What is told of the log it learned from.
    """

    network: Network
    items: ItemVocabulary
    metrics: dict[str, Any] = field(default_factory=dict)
    num_columns: int | None = None
    support: IntArray | None = None
    training_log: TrainingLog | None = None

    @classmethod
    def of_log(cls, network: Network, train: Sessions, licence: str | None = None, **fields: Any) -> Self:
        """Return the model of a network that was trained on a log, over whose vocabulary it is."""
        return cls(
            network, train.items, support=train.item_counts(), training_log=describe_log(train, licence), **fields
        )

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

    def recommend(
        self, sessions: Sessions, k: int = 20, exclude_seen: bool = False, fallback: Fallback = "popular"
    ) -> Recommendations:
        """Return the k best next items of each session.

        Parameters
        ----------
        sessions : Sessions
            Over any vocabulary; events with items unknown to the model are left out and counted.
        k : int
            Fewer where the catalogue is smaller.
        exclude_seen : bool
            Leave out items that are in the session already.
        fallback : {'popular', 'none'}
            What sessions without a known item get: the most supported items of the training log, where the model has
            their `support`, or nothing.

        Raises
        ------
        ParameterError
            When k is less than 1, or the fallback is unknown.
        DivergedError
            When scores are not finite.
        """
        popular = self._fallback_items(k, fallback)
        numbered = replace(sessions, session_ids=np.arange(sessions.num_sessions))
        known, num_unknown = numbered.with_items_of(self.items)
        items, scores = self.best_items(known, k, exclude_seen)
        answered = known.session_ids
        silent = np.setdiff1d(numbered.session_ids, answered)
        from_model = np.ones(len(answered), dtype=bool)
        if len(popular) and len(silent):
            support = np.asarray(self.support, dtype=np.float32)[popular]
            order = np.argsort(np.concatenate([answered, silent]), kind="stable")
            items = np.concatenate([items, np.tile(popular, (len(silent), 1))])[order]
            scores = np.concatenate([scores, np.tile(support, (len(silent), 1))])[order]
            from_model = np.concatenate([from_model, np.zeros(len(silent), dtype=bool)])[order]
            answered = numbered.session_ids
        k = items.shape[1]
        table = pd.DataFrame(
            {
                "session": np.repeat(sessions.session_ids[answered], k),
                "rank": np.tile(np.arange(1, k + 1), len(answered)),
                "item": self.items.decode(items.ravel()),
                "score": scores.ravel(),
                "source": np.repeat(np.where(from_model, MODEL, POPULAR).astype(object), k),
            }
        )
        if exclude_seen:
            table = table[np.isfinite(table["score"])].reset_index(drop=True)
        return Recommendations(table, num_unknown, sessions.session_ids[silent])

    def recommend_items(
        self,
        sessions: Sequence[Sequence[object]],
        k: int = 20,
        exclude_seen: bool = False,
        fallback: Fallback = "popular",
    ) -> tuple[list[list[Any]], list[list[float]], list[str]]:
        """Return the k best next items of a few short sessions, with little overhead: for a service.

        Parameters
        ----------
        sessions : sequence of sequences of item ids
            A number and its decimal text are the same id; unknown ones are left out.
        k, exclude_seen, fallback
            As in `recommend`.

        Returns
        -------
        list of lists of item ids
            Of each session, best first; fewer than k where the catalogue is smaller or items were seen.
        list of lists of float
            Their scores; of popular items the number of their events.
        list of str
            'model', 'popular', or 'none' where there is no recommendation.

        Raises
        ------
        ParameterError
            When k is less than 1, or the fallback is unknown.
        DivergedError
            When scores are not finite.
        """
        popular = self._fallback_items(k, fallback)
        indices = [[index for item in session if (index := self.items.index_of(item)) >= 0] for session in sessions]
        longest_first = sorted((place for place, known in enumerate(indices) if known), key=lambda p: -len(indices[p]))
        found: list[tuple[list[Any], list[float], str]] = [self._popular_answer(popular)] * len(sessions)
        if longest_first:
            ordered = [indices[place] for place in longest_first]
            with torch.inference_mode():
                states = self._states_after(ordered)
                answers = self._top_answers(states, k, ordered if exclude_seen else [])
            for place, answer in zip(longest_first, answers, strict=True):
                found[place] = answer
        ids, scores, sources = zip(*found, strict=True) if found else ((), (), ())
        return list(ids), list(scores), list(sources)

    def start(self) -> SessionState:
        """Return the state of a session before its first event."""
        return SessionState(tuple(self.network.initial_hidden(1)), 0)

    def step(self, state: SessionState, item_id: object) -> SessionState:
        """Return the state after one more event; an unknown item leaves it as it is.

        Stepping through a session and then asking for `top` gives what `recommend_items` gives for the whole session.
        """
        index = self.items.index_of(item_id)
        if index < 0:
            return state
        with torch.inference_mode():
            hidden = [layer.clone() for layer in state.hidden]
            device = self.network.device
            self.network.forward(
                torch.tensor([index], device=device), torch.tensor([False], device=device), hidden, [1]
            )
        return SessionState(tuple(hidden), state.num_events + 1)

    def top(
        self,
        state: SessionState,
        k: int = 20,
        exclude: Iterable[object] = (),
        fallback: Fallback = "popular",
    ) -> tuple[list[Any], list[float], str]:
        """Return the k best next items of a session in this state.

        Parameters
        ----------
        state : SessionState
        k : int
            Fewer where the catalogue is smaller.
        exclude : iterable of item ids
            Left out; unknown ones do not matter.
        fallback : {'popular', 'none'}
            As in `recommend`, for a state without events.

        Returns
        -------
        list of item ids, list of float, str
            Items, scores and source as of one session in `recommend_items`.

        Raises
        ------
        ParameterError
            When k is less than 1, or the fallback is unknown.
        DivergedError
            When scores are not finite.
        """
        excluded = [index for item in exclude if (index := self.items.index_of(item)) >= 0]
        popular = self._fallback_items(k + len(excluded), fallback)
        if state.num_events == 0:
            return self._popular_answer(popular[~np.isin(popular, excluded)][:k])
        with torch.inference_mode():
            return self._top_answers(state.hidden[-1], k, [excluded])[0]

    def _states_after(self, sessions: list[list[int]]) -> Tensor:
        """Return the last state of each session, shape (num_sessions, H); the longest session comes first."""
        rows_per_step = [sum(len(session) > step for session in sessions) for step in range(len(sessions[0]))]
        items = [session[step] for step, rows in enumerate(rows_per_step) for session in sessions[:rows]]
        hidden = self.network.initial_hidden(len(sessions))
        device = self.network.device
        starts = torch.zeros(len(items), dtype=torch.bool, device=device)  # the hidden state is zero as it is
        self.network.forward(torch.tensor(items, device=device), starts, hidden, rows_per_step)
        return hidden[-1]

    def _top_answers(
        self, states: Tensor, k: int, excluded: list[list[int]]
    ) -> list[tuple[list[Any], list[float], str]]:
        """Return item ids, scores and source for each state; `excluded` has item indices of each, or is empty."""
        rows = torch.tensor([row for row, items in enumerate(excluded) for _ in items], dtype=torch.int64)
        items = torch.tensor([item for items in excluded for item in items], dtype=torch.int64)
        best = top_items.best_of_tiles(self.network, states, min(k, len(self.items)), rows, items)
        scores, places = (part.cpu().numpy() for part in best)
        _check_finite(scores)
        ids = self.items.decode(places).tolist()
        if not excluded:
            return [(ids[row], scores[row].tolist(), MODEL) for row in range(len(ids))]
        kept = np.isfinite(scores).sum(1)  # what was excluded ranks last
        return [(ids[row][:count], scores[row, :count].tolist(), MODEL) for row, count in enumerate(kept)]

    def _popular_answer(self, popular: IndexArray) -> tuple[list[Any], list[float], str]:
        if self.support is None or len(popular) == 0:
            return [], [], NONE
        return self.items.decode(popular).tolist(), self.support[popular].astype(float).tolist(), POPULAR

    def _fallback_items(self, k: int, fallback: Fallback) -> IndexArray:
        """Return the items that sessions without a known item get, the most supported first."""
        if k < 1:
            raise ParameterError(f"k must be a whole number >= 1, got {k}")
        if fallback not in ("popular", "none"):
            raise ParameterError(f"fallback must be 'popular' or 'none', got {fallback!r}")
        return self.popular_items[:k] if fallback == "popular" else self.popular_items[:0]

    @cached_property
    def popular_items(self) -> IndexArray:
        """Item indices, the most supported first, ties in the order of the index; none without `support`."""
        if self.support is None:
            return np.zeros(0, dtype=np.int32)
        return np.argsort(-self.support, kind="stable").astype(np.int32)

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
                num_blocks = math.ceil(len(at) / top_items.rows_at_once(k))
                for rows, part in zip(np.array_split(at, num_blocks), states.tensor_split(num_blocks), strict=True):
                    seen = _seen_items(known, rows if exclude_seen else rows[:0])
                    best_scores, best_items = top_items.best_of_tiles(self.network, part, k, *seen)
                    scores[rows], items[rows] = best_scores.cpu(), best_items.cpu()
        _check_finite(scores)
        return items, scores


def _check_finite(scores: FloatArray) -> None:
    if not (scores < np.inf).all():  # NaN and infinity rank first; -infinity is an item that was seen
        raise DivergedError("the model's scores are not finite", "train with a lower learning_rate or momentum")


def _seen_items(sessions: Sessions, rows: IntArray) -> tuple[Tensor, Tensor]:
    """Return the events of the sessions `rows`: which of the rows, and which item."""
    lengths = sessions.lengths[rows]
    items = sessions.item_index[ranges(sessions.offsets[rows], lengths)]
    return torch.from_numpy(np.repeat(np.arange(len(rows)), lengths)), torch.from_numpy(items).long()
