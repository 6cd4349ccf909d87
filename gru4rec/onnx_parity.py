"""What an ONNX graph computes in onnxruntime, beside what the model computes in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from gru4rec.data.sessions import IntArray, Sessions
from gru4rec.errors import DivergedError, ExportError
from gru4rec.evaluation import target_positions
from gru4rec.metrics import compute_metrics
from gru4rec.nn.network import Network
from gru4rec.onnx_graph import Kind

SHAPES = ((1, 1), (1, 10), (5, 3), (64, 13))
"""Sessions and steps of the inputs that are compared."""
SCORE_TOLERANCE = 1e-4  # of `Parity.max_error`
TIE_TOLERANCE = 1e-5  # of `Parity.max_gap`: items that the model scores so nearly the same may change places
PLACES = 100  # of each session's ranking are compared

TOP = 20
LEAST_OVERLAP = 0.97
LARGEST_LOSS = 0.01
TARGETS_AT_MOST = 10_000
SESSIONS_AT_ONCE = 64

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """How far a graph is from the model, over inputs of one shape. Differences are |difference| / (1 + |score|).

    Parameters
    ----------
    sessions, steps : int
        The shape.
    max_error : float
        Largest difference of a score, or of a state, from the model's own.
    max_gap : float
        Largest difference of the model's scores of the items that the graph and the model have at the same place of
        a session's ranking: 0 where all are the same, infinite where the graph names an item twice.
    reordered : int
        Places that have another item.
    """

    sessions: int
    steps: int
    max_error: float
    max_gap: float
    reordered: int


@dataclass(frozen=True)
class QuantisedQuality:
    """How a quantised graph ranks the next items of a log, beside the graph it was made from.

    Parameters
    ----------
    targets : int
        Next items that were looked for among the first 20.
    overlap : float
        Mean share of the first 20 items that both graphs name.
    recall, mrr : float
        Recall@20 and MRR@20 of the quantised graph.
    recall_before, mrr_before : float
        Of the graph it was made from.
    """

    targets: int
    overlap: float
    recall: float
    mrr: float
    recall_before: float
    mrr_before: float


def open_session(content: bytes) -> Any:
    """Return an onnxruntime.InferenceSession of one thread on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def check_parity(found: list[Parity], kind: Kind) -> list[Parity]:
    """Return what `measure_parity` found, if it is good enough.

    Raises
    ------
    ExportError
        When scores are off by more than `SCORE_TOLERANCE`, or items that are not tied have changed places.
    """
    for parity in found:
        if not (parity.max_error <= SCORE_TOLERANCE and parity.max_gap <= TIE_TOLERANCE):
            raise ExportError(
                f"the {kind} graph does not compute what the model does: for {parity.sessions} x {parity.steps} items "
                f"scores differ by {parity.max_error:.2g} (at most {SCORE_TOLERANCE:g} allowed), and items that change "
                f"places by {parity.max_gap:.2g} (at most {TIE_TOLERANCE:g})",
                "try another version of onnxruntime",
            )
    return found


def measure_parity(network: Network, session: Any, kind: Kind) -> list[Parity]:
    """Compare scores, rankings and states over random sessions of each of `SHAPES`; of 64, some have no event at all.

    Raises
    ------
    DivergedError
        When the model's own scores are not finite.
    """
    generator = np.random.default_rng(0)
    found = []
    for shape in SHAPES:
        items = generator.integers(0, network.num_items, shape)  # what is behind a session's end is random, too
        lengths = generator.integers(kind == "step", shape[1] + 1, shape[0])  # a step is an event
        lengths[0] = shape[1]
        lengths = np.sort(lengths)[::-1].copy()
        with torch.inference_mode():
            hidden = _states(network, items, lengths)
            expected = network.scores(hidden[-1]).numpy(force=True)
        if not np.isfinite(expected).all():
            raise DivergedError("the model's scores are not finite", "train with a lower learning_rate or momentum")
        if kind == "step":
            ids, scores, states = _run_steps(session, items, lengths, hidden.shape)
            state_error = float(np.abs(states - hidden.numpy(force=True)).max())
        else:
            ids, scores = session.run(["ids", "scores"], _session_inputs(items, lengths, PLACES))
            state_error = 0.0
        score_error, gap, reordered = compare_rankings(expected, ids, scores)
        found.append(Parity(*shape, float(np.max([score_error, state_error])), gap, reordered))
    return found


def compare_rankings(expected: Floats, ids: IntArray, scores: Floats) -> tuple[float, float, int]:
    """Return `max_error`, `max_gap` and `reordered` of `Parity`.

    Parameters
    ----------
    expected : array of float32, shape (sessions, num_items)
        The model's score of every item.
    ids : array of int64, shape (sessions, k)
    scores : array of float32, shape (sessions, k)
    """
    best_scores, best_ids = (part.numpy() for part in torch.from_numpy(expected).topk(ids.shape[1], dim=1))
    own_scores = np.take_along_axis(expected, ids, axis=1)
    errors = np.abs(scores - own_scores) / (1 + np.abs(own_scores))
    gaps = np.abs(own_scores - best_scores) / (1 + np.abs(best_scores))
    in_order = np.sort(ids, axis=1)
    twice = (in_order[:, 1:] == in_order[:, :-1]).any()
    return float(errors.max()), float("inf") if twice else float(gaps.max()), int((ids != best_ids).sum())


def _states(network: Network, items: IntArray, lengths: IntArray) -> torch.Tensor:
    """Return the states of all layers after each session, shape (layers, sessions, H); lengths descend."""
    hidden = network.initial_hidden(len(lengths))
    for step in range(lengths[0]):
        running = int((lengths > step).sum())
        starts = torch.full((running,), step == 0, device=network.device)
        network.forward(torch.from_numpy(items[:running, step]).to(network.device), starts, hidden, [running])
    return torch.stack(hidden)


def _session_inputs(items: IntArray, lengths: IntArray, k: int) -> dict[str, IntArray]:
    return {"items": items, "lengths": lengths, "k": np.array([k])}


def _run_steps(session: Any, items: IntArray, lengths: IntArray, shape: torch.Size) -> tuple[IntArray, Floats, Floats]:
    """Run sessions a step at a time; return what the graph says after the last step of each. Lengths descend."""
    hidden = np.zeros(shape, dtype=np.float32)
    ids: Any
    scores: Any
    for step in range(lengths[0]):
        running = int((lengths > step).sum())
        inputs = {"items": items[:running, step], "hidden": hidden[:, :running], "k": np.array([PLACES])}
        new_ids, new_scores, hidden[:, :running] = session.run(["ids", "scores", "next_hidden"], inputs)
        if step == 0:
            ids, scores = new_ids, new_scores
        else:
            ids[:running], scores[:running] = new_ids, new_scores
    return ids, scores, hidden


def check_quality(session: Any, before: Any, log: Sessions) -> QuantisedQuality:
    """Compare a quantised graph with the one it was made from on a log, over the vocabulary of the model.

    Raises
    ------
    ExportError
        When the first 20 items overlap by less than 97 %, or recall@20 or MRR@20 lose more than 1 %.
    DataError
        When no session of the log has two known events.
    """
    overlaps, ranks, ranks_before = [], [], []
    for items, lengths, targets in _prefixes(log):
        inputs = _session_inputs(items, lengths, TOP)
        (ids,), (ids_before,) = session.run(["ids"], inputs), before.run(["ids"], inputs)
        overlaps.append((ids[:, :, np.newaxis] == ids_before[:, np.newaxis]).any(2).mean(1))
        ranks.append(_ranks(ids, targets))
        ranks_before.append(_ranks(ids_before, targets))
    keys = ["recall@20", "mrr@20"]
    after, former = (compute_metrics(np.concatenate(part), keys).values() for part in (ranks, ranks_before))
    all_overlaps = np.concatenate(overlaps)
    quality = QuantisedQuality(len(all_overlaps), float(all_overlaps.mean()), *after, *former)
    if not is_good(quality):
        figures = ", ".join(f"{name} {value:.4g}" for name, value in asdict(quality).items())
        raise ExportError(
            f"the int8 graph is not as good as the model: {figures}; allowed are an overlap of {LEAST_OVERLAP} at "
            f"least and a loss of {LARGEST_LOSS:.0%} of recall and MRR at most",
            "use the graph without --int8",
        )
    return quality


def is_good(quality: QuantisedQuality) -> bool:
    """Whether a quantised graph may be written.

    >>> is_good(QuantisedQuality(100, 0.98, recall=0.496, mrr=0.2, recall_before=0.5, mrr_before=0.2))
    True
    """
    kept = 1 - LARGEST_LOSS
    return (
        quality.overlap >= LEAST_OVERLAP
        and quality.recall >= kept * quality.recall_before
        and quality.mrr >= kept * quality.mrr_before
    )


def _prefixes(log: Sessions) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Yield batches of beginnings of sessions, of like lengths, and the next item of each; of many, a sample."""
    ends = target_positions(log, "all")
    if len(ends) > TARGETS_AT_MOST:
        ends = np.random.default_rng(0).choice(ends, TARGETS_AT_MOST, replace=False)
    starts = log.offsets[np.searchsorted(log.offsets, ends, side="right") - 1]
    order = np.argsort(ends - starts, kind="stable")
    for batch in np.split(order, np.arange(SESSIONS_AT_ONCE, len(order), SESSIONS_AT_ONCE)):
        start, end = starts[batch], ends[batch]
        lengths = end - start + 1
        at = np.minimum(start[:, np.newaxis] + np.arange(lengths.max()), end[:, np.newaxis])
        yield log.item_index[at].astype(np.int64), lengths, log.item_index[end + 1].astype(np.int64)


def _ranks(ids: IntArray, targets: IntArray) -> IntArray:
    """Return the place of each target among `ids`, from 1, and the place behind them where it is not there."""
    hits = ids == targets[:, np.newaxis]
    ranks: IntArray = np.where(hits.any(1), hits.argmax(1), ids.shape[1]) + 1
    return ranks
