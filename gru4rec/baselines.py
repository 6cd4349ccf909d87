"""Two baselines that any trained model must beat: popularity, and a first-order Markov table."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from gru4rec.data.sessions import IndexArray, IntArray, Sessions
from gru4rec.evaluation import Steps, target_positions
from gru4rec.metrics import Ranks


def popularity_ranks(train: Sessions, test: Sessions, steps: Steps = "all") -> Ranks:
    """Rank each next item of the test log by its number of training events; ties count against the target.

    Both logs are over the same vocabulary. Returns an array of shape (num_targets,).
    """
    _, targets = _pairs(test, steps)
    return _items_at_least_as_popular(train)[targets]


def markov_ranks(train: Sessions, test: Sessions, steps: Steps = "all") -> Ranks:
    """Rank each next item by how often it followed the current item in training.

    Equal counts are ordered by popularity, and items that never followed come after, by popularity; what still ties
    counts against the target. Both logs are over the same vocabulary. Returns an array of shape (num_targets,).
    """
    popularity = train.item_counts()
    at_least_as_popular = _items_at_least_as_popular(train)
    transitions = _transition_counts(train)
    inputs, targets = _pairs(test, steps)
    ranks = np.zeros(len(targets), dtype=np.int64)
    order = np.argsort(inputs, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(inputs[order])) + 1)
    for group in groups:
        row = slice(*transitions.indptr[inputs[group[0]] : inputs[group[0]] + 2])
        successors = transitions.indices[row]
        strength = transitions.data[row] + popularity[successors] / (popularity.max() + 1.0)
        place = np.searchsorted(successors, targets[group])
        followed = np.append(successors, -1)[place] == targets[group]
        own = np.append(strength, np.inf)[place]
        among_successors = (strength >= own[:, None]).sum(1)
        as_popular = (popularity[successors] >= popularity[targets[group]][:, None]).sum(1)
        beyond = len(successors) + at_least_as_popular[targets[group]] - as_popular
        ranks[group] = np.where(followed, among_successors, beyond)
    return ranks


def _transition_counts(train: Sessions) -> sparse.csr_array:
    inputs, targets = _pairs(train, "all")
    shape = (train.num_items, train.num_items)
    counts = sparse.coo_array((np.ones(len(inputs)), (inputs, targets)), shape=shape).tocsr()
    counts.sum_duplicates()
    return counts


def _pairs(sessions: Sessions, steps: Steps) -> tuple[IndexArray, IndexArray]:
    """Return the item of each event whose next item is a target, and the next item."""
    events = target_positions(sessions, steps)
    return sessions.item_index[events], sessions.item_index[events + 1]


def _items_at_least_as_popular(train: Sessions) -> IntArray:
    """Return, per item, how many items (itself included) have at least its number of events."""
    counts = train.item_counts()
    ascending = np.sort(counts)
    return len(counts) - np.searchsorted(ascending, counts, side="left")


BASELINES = {"popularity": popularity_ranks, "first-order Markov": markov_ranks}
