"""Does the order of events matter in this log? Three small models tell: in order, last item only, shuffled.

On data in which order carries nothing, such as ratings or baskets written down in one go, a sequence model learns
nothing that a set of items would not give, and comparisons of sequence models mean little (Hidasi & Czapp, "Widespread
Flaws in Offline Evaluation of Recommender Systems", RecSys 2023). The figures serve the comparison; they are no measure
of how good a tuned model would be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gru4rec.data.sessions import Sessions, ranges
from gru4rec.data.splitting import split_time_share
from gru4rec.errors import DataError
from gru4rec.evaluation import compute_ranks
from gru4rec.fitting import align_validation
from gru4rec.hyperparameters import HyperParameters
from gru4rec.intervals import bootstrap_intervals
from gru4rec.metrics import Ranks, compute_metrics
from gru4rec.training import Trainer

MAX_SESSIONS = 20_000
MAX_EPOCHS = 3
NUM_NEGATIVES = 512
TEST_SHARES = (0.1, 0.2)
KEYS = ("recall@20", "mrr@20")
DECISIVE = "mrr@20"

Say = Callable[[str], None]


@dataclass(frozen=True)
class VariantFigures:
    """Figures of one of the three models, with 95 % bootstrap intervals over the test sessions."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class OrderCheck:
    """What three models of the same settings make of a log. All three rank the same number of targets.

    Parameters
    ----------
    in_order : VariantFigures
        Trained and tested on the sessions as they are.
    last_item : VariantFigures
        On pairs of neighbouring events: the model sees the last item only.
    shuffled : VariantFigures
        On sessions whose events are in random order.
    gain_of_order : (float, float)
        95 % interval of MRR@20 in order minus MRR@20 shuffled, both models on the same resampled sessions.
    gain_of_memory : (float, float)
        The same of MRR@20 in order minus MRR@20 of the last item.
    num_train_sessions, num_test_sessions : int
        Of two events or more.
    num_targets : int
        That each model ranked.
    """

    in_order: VariantFigures
    last_item: VariantFigures
    shuffled: VariantFigures
    gain_of_order: tuple[float, float]
    gain_of_memory: tuple[float, float]
    num_train_sessions: int
    num_test_sessions: int
    num_targets: int

    @property
    def order_matters(self) -> bool:
        """Whether MRR@20 in order is above MRR@20 of shuffled sessions: the interval of the difference is above 0."""
        return self.gain_of_order[0] > 0

    @property
    def memory_helps(self) -> bool:
        """Whether MRR@20 in order is above MRR@20 of the last item alone."""
        return self.gain_of_memory[0] > 0

    @property
    def verdict(self) -> str:
        """What the figures say, in words."""
        ordered, single, shuffled = (part.metrics[DECISIVE] for part in (self.in_order, self.last_item, self.shuffled))
        figures = (
            f"MRR@20 is {ordered:.4f} in order and {shuffled:.4f} shuffled, a gain of {_span(self.gain_of_order)} on "
            f"{self.num_test_sessions:,} test sessions"
        )
        if not self.order_matters:
            return (
                f"order does not matter in this log: {figures}; are these ratings, baskets or imports rather than "
                "visits, or is the log too small to tell? A model that ignores order may do as well"
            )
        memory = "helps too" if self.memory_helps else "adds nothing that this check can see"
        return (
            f"order matters in this log: {figures}; what came before the last item {memory}: MRR@20 is {single:.4f} "
            f"with the last item alone, a gain of {_span(self.gain_of_memory)}"
        )


def check_order(sessions: Sessions, seed: int = 0, say: Say = lambda _: None) -> OrderCheck:
    """Train the three models on the older part of the log and rank the next items of the newer part.

    Parameters
    ----------
    sessions : Sessions
        Of which the most recent 20,000 of two events or more are used.
    seed : int
        Of the models and of the shuffling.
    say : callable
        Called with a line of progress before each epoch.

    Raises
    ------
    DataError
        When neither the last 10 % nor the last 20 % of the time the log spans give something to train on and to rank.
    DivergedError
        When a loss becomes NaN or infinite.
    """
    train, test = _split(_most_recent(sessions))
    random = np.random.default_rng(seed)
    variants: dict[str, Callable[[Sessions], Sessions]] = {
        "in order": lambda part: part,
        "last item only": neighbour_pairs,
        "shuffled": lambda part: shuffle_events(part, random),
    }
    ranks = [_ranks_of(name, change(train), change(test), seed, say) for name, change in variants.items()]
    session_of_target = np.repeat(np.arange(test.num_sessions), test.lengths - 1)  # by session and step, in all alike
    gains = [bootstrap_intervals(ranks[0], session_of_target, [DECISIVE], minus=other)[DECISIVE] for other in ranks[1:]]
    figures = [
        VariantFigures(compute_metrics(each, KEYS), bootstrap_intervals(each, session_of_target, KEYS))
        for each in ranks
    ]
    return OrderCheck(
        in_order=figures[0],
        last_item=figures[1],
        shuffled=figures[2],
        gain_of_order=gains[1],
        gain_of_memory=gains[0],
        num_train_sessions=train.num_sessions,
        num_test_sessions=test.num_sessions,
        num_targets=test.num_targets,
    )


def _ranks_of(name: str, train: Sessions, test: Sessions, seed: int, say: Say) -> Ranks:
    """Return the ranks of the test targets, shape (num_targets,), of a model trained for MAX_EPOCHS epochs."""
    trainer = Trainer(_hyperparameters(train.num_items), train, seed=seed)
    for epoch in range(1, MAX_EPOCHS + 1):
        say(f"order check: {name}, epoch {epoch}/{MAX_EPOCHS}")
        trainer.train_epoch()
    return compute_ranks(trainer.network, test).ranks


def neighbour_pairs(sessions: Sessions) -> Sessions:
    """Return a session of two events for each pair of neighbouring events, in their order."""
    pairs = np.maximum(sessions.lengths - 1, 0)
    firsts = ranges(sessions.offsets[:-1], pairs)
    events = np.stack([firsts, firsts + 1], axis=1).ravel()
    return replace(
        sessions,
        item_index=sessions.item_index[events],
        offsets=np.arange(0, len(events) + 1, 2),
        times=sessions.times[events],
        session_ids=np.repeat(sessions.session_ids, pairs),
    )


def shuffle_events(sessions: Sessions, random: np.random.Generator) -> Sessions:
    """Return the sessions with the items of each in random order; the times stay where they are."""
    session = np.repeat(np.arange(sessions.num_sessions), sessions.lengths)
    order = np.lexsort((random.random(sessions.num_events), session))
    return replace(sessions, item_index=sessions.item_index[order])


def _most_recent(sessions: Sessions) -> Sessions:
    usable = np.flatnonzero(sessions.lengths >= 2)[-MAX_SESSIONS:]
    if len(usable) == 0:
        raise DataError("no session has two events: there is no order to check")
    chosen = np.zeros(sessions.num_sessions, dtype=bool)
    chosen[usable] = True
    return sessions.select_sessions(chosen)


def _split(sessions: Sessions) -> tuple[Sessions, Sessions]:
    """Return a train and a test part over the items of the train part, all sessions of two events or more."""
    for share in TEST_SHARES:
        try:
            train, test = split_time_share(sessions, share)
            train = train.with_own_items()
            return train, align_validation(test, train)
        except DataError as error:
            problem = error
    raise DataError(f"the order check finds nothing to test on: {problem}") from problem


def _hyperparameters(num_items: int) -> HyperParameters:
    return HyperParameters(
        embedding="tied",
        hidden_size=64,
        loss_fn="cross-entropy",
        num_negatives=NUM_NEGATIVES if num_items > NUM_NEGATIVES else "all",
        batch_size=32,
        learning_rate=0.1,
        clipnorm=None,
        epsilon=1e-6,
    )


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"
