"""How figures were measured: as data for JSON, and in words. Why so: docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gru4rec.data.leakage import Overlap
from gru4rec.evaluation import Steps
from gru4rec.intervals import CONFIDENCE, NUM_RESAMPLES
from gru4rec.model import Evaluation

Protocol = dict[str, Any]


def ranking_rules(steps: Steps = "all") -> Protocol:
    """Return what holds for figures on any log: what is ranked, among what, and how ties and intervals are made."""
    return {
        "steps": steps,
        "candidates": "all items",
        "ties": "against the model",
        "hidden_state": "zero at the start of each session",
        "interval": {"method": "percentile bootstrap", "unit": "session", "confidence": CONFIDENCE}
        | {"num_resamples": NUM_RESAMPLES},
    }


def describe_protocol(
    evaluation: Evaluation,
    *,
    steps: Steps,
    cutoffs: Sequence[int],
    num_items: int,
    num_events: int,
    overlap: Overlap | None = None,
) -> Protocol:
    """Return the protocol of an evaluation.

    Parameters
    ----------
    evaluation : Evaluation
    steps : {'all', 'last'}
        That were ranked.
    cutoffs : sequence of int
    num_items : int
        Of the model.
    num_events : int
        Of the evaluated log.
    overlap : Overlap, optional
        Of the training and the evaluated log, where both are at hand.
    """
    raw_targets = evaluation.num_targets + evaluation.num_unknown_targets
    return {
        **ranking_rules(steps),
        "num_items": num_items,
        "cutoffs": list(cutoffs),
        "num_tied": evaluation.num_tied,
        "num_sessions": evaluation.num_sessions,
        "num_targets": evaluation.num_targets,
        "num_events": num_events,
        "num_unknown_events": evaluation.num_unknown_events,
        "share_unknown_events": evaluation.num_unknown_events / num_events,
        "num_unknown_targets": evaluation.num_unknown_targets,
        "share_unknown_targets": evaluation.num_unknown_targets / raw_targets,
        "training_log": None if overlap is None else asdict(overlap),
    }


def render_protocol(protocol: Protocol) -> str:
    """Return the protocol in words, a line per subject."""
    which = {"all": "the next item of every step", "last": "the last item of each session"}[protocol["steps"]]
    interval = protocol["interval"]
    lines = [
        f"ranked: {which}, among all {protocol['num_items']:,} items of the model (no sampled metrics), cut off at "
        f"{', '.join(map(str, protocol['cutoffs']))}",
        f"targets: {protocol['num_targets']:,} of {protocol['num_sessions']:,} sessions; "
        f"{protocol['num_tied']:,} tied, ties count against the model",
        f"unknown items: {protocol['num_unknown_events']:,} of {protocol['num_events']:,} events "
        f"({protocol['share_unknown_events']:.1%}) left out; with misses: {protocol['num_unknown_targets']:,} targets "
        f"({protocol['share_unknown_targets']:.1%}) that could not be ranked count as misses",
        f"intervals: {interval['confidence']:.0%}, {interval['method']} over sessions, "
        f"{interval['num_resamples']:,} resamples",
        f"hidden state: {protocol['hidden_state']}",
    ]
    if (log := protocol["training_log"]) is not None:
        lines.append(
            f"training log: {log['num_early_sessions']:,} of {log['num_test_sessions']:,} sessions start before its "
            f"last event, {log['num_interleaved_sessions']:,} before its last session; "
            f"{log['num_shared_sessions']:,} session ids are in both"
        )
    else:
        lines.append("training log: not given, so leakage was not looked for (--train)")
    return "\n".join(lines)
