"""Where the time of a search went: trained, saved by ASHA, idle; and which trial was in which slot when."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass

from tuning.journal import DIVERGED, FAILED, FINISHED, INTERRUPTED, RUNNING, STOPPED_BY_ASHA, STOPPED_EARLY
from tuning.report.findings import Findings

STATES = (FINISHED, STOPPED_EARLY, STOPPED_BY_ASHA, DIVERGED, FAILED, INTERRUPTED, RUNNING)


@dataclass(frozen=True)
class Span:
    """A trial in its slot.

    Parameters
    ----------
    trial : int
    state : str
    node, slot : int
        From 0; slots are counted on each node.
    begin_s, end_s : float
        Seconds since the search began, to the report of its last epoch.
    """

    trial: int
    state: str
    node: int
    slot: int
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Ending:
    """Trials that ended in the same state.

    Parameters
    ----------
    state : str
    trials, epochs : int
    seconds : float
        Of training and validation.
    """

    state: str
    trials: int
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Account:
    """Times are of slots: a slot is what one trial occupies.

    Parameters
    ----------
    endings : list of Ending
        Of states that occur.
    spans : list of Span
    slots : int
        Trials that were seen side by side.
    elapsed_s : float
    trained_s : float
        In epochs, validation included.
    saved_s : float
        What the trials that ASHA stopped would have taken up to `max_epochs`, at their own speed: an upper bound,
        since some would have lost their patience.
    saved_epochs : int
    tail_s : float
        Idle after the last trial of a slot, when none was left to begin.
    """

    endings: list[Ending]
    spans: list[Span]
    slots: int
    elapsed_s: float
    trained_s: float
    saved_s: float
    saved_epochs: int
    tail_s: float

    @property
    def idle_s(self) -> float:
        """What slots did not train: starting, waiting, the tail."""
        return max(0.0, self.slots * self.elapsed_s - self.trained_s)


def make_account(findings: Findings) -> Account:
    """Return the account of a search.

    An epoch in which a trial diverged or failed has left no record of its time, and counts for none.
    """
    trials, max_epochs = findings.result.trials, findings.result.spec.max_epochs
    endings = [
        Ending(state, len(chosen), sum(trial.epochs for trial in chosen), sum(trial.seconds for trial in chosen))
        for state in STATES
        if (chosen := [trial for trial in trials if trial.state == state])
    ]
    stopped = [trial for trial in trials if trial.state == STOPPED_BY_ASHA]
    spans = lay_out(findings)
    ends: dict[tuple[int, int], float] = defaultdict(float)
    for span in spans:
        ends[span.node, span.slot] = max(ends[span.node, span.slot], span.end_s)
    elapsed_s = findings.result.elapsed_s
    return Account(
        endings,
        spans,
        len(ends),
        elapsed_s,
        sum(trial.seconds for trial in trials),
        sum((max_epochs - trial.epochs) * _seconds_per_epoch(findings, trial.number) for trial in stopped),
        sum(max_epochs - trial.epochs for trial in stopped),
        sum(max(0.0, elapsed_s - end) for end in ends.values()),
    )


def lay_out(findings: Findings) -> list[Span]:
    """Put each trial into the first slot of its node that is free when it begins."""
    states = {trial.number: trial.state for trial in findings.result.trials}
    nodes: dict[object, int] = {}
    free_from: dict[int, list[float]] = defaultdict(list)
    spans = []
    begun = [
        (max(0.0, lines[0]["elapsed_s"] - lines[0]["epoch_seconds"]), number, lines)
        for number, lines in findings.curves.items()
        if lines and number in states
    ]
    for begin_s, number, lines in sorted(begun, key=lambda trial: trial[:2]):
        node = nodes.setdefault(lines[-1].get("node"), len(nodes))
        slots = free_from[node]
        slot = next((place for place, free_s in enumerate(slots) if free_s <= begin_s), len(slots))
        end_s = max(line["elapsed_s"] for line in lines)
        slots[slot : slot + 1] = [end_s]
        spans.append(Span(number, states[number], node, slot, begin_s, end_s))
    return spans


def _seconds_per_epoch(findings: Findings, trial: int) -> float:
    return statistics.fmean(line["epoch_seconds"] for line in findings.curves[trial]) if findings.curves[trial] else 0.0
