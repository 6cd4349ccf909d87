"""What a reader should know before trusting a search, or before the next one: each piece of advice is a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gru4rec.hyperparameters import domain_of
from tuning.budget import ALL_TRIALS, TARGET
from tuning.journal import DIVERGED, FAILED
from tuning.progress import TrialRecord
from tuning.report.findings import Findings
from tuning.report.html import percent
from tuning.report.importance import LEAST_TRIALS
from tuning.space import Dimension

MANY_DIVERGED = 0.2
MANY_UNKNOWN = 0.05
EDGE = 0.03  # of a range, on its own scale
BEST_AT_THE_EDGE = 3


def advise(findings: Findings) -> list[str]:
    """Return what there is to say, the most important first."""
    advice = [*_about_the_end(findings), *_about_failures(findings)]
    if findings.best is not None:
        advice += [*_about_the_winner(findings, findings.best), *_about_ranges(findings)]
    return advice


def _about_the_end(findings: Findings) -> Iterator[str]:
    result = findings.result
    if result.ended not in (ALL_TRIALS, TARGET):
        yield (
            f"The search has not tried all it was to try ({result.ended}; {len(result.trials)} of {result.spec.trials} "
            "trials begun). gru4rec tune resume goes on with it."
        )
    if 0 < len(findings.measured) < LEAST_TRIALS:
        yield (
            f"Only {_count(findings.measured)} got as far as a {findings.metric}: the best may be lucky, and which "
            f"hyperparameters matter cannot be told from fewer than {LEAST_TRIALS}."
        )


def _about_failures(findings: Findings) -> Iterator[str]:
    trials = findings.result.trials
    failed = [trial for trial in trials if trial.state == FAILED]
    diverged = [trial for trial in trials if trial.state == DIVERGED]
    if failed:
        yield f"{_count(failed)} failed; errors/ in the result folder has the tracebacks. The first: {failed[0].error}"
    if diverged and len(diverged) >= MANY_DIVERGED * len(trials):
        yield (
            f"{_count(diverged)} of {len(trials)} diverged: lower the upper end of learning_rate or momentum, or set "
            "clipnorm."
        )


def _about_the_winner(findings: Findings, best: TrialRecord) -> Iterator[str]:
    spec = findings.result.spec
    if best.best_epoch == spec.max_epochs:
        yield (
            f"The winner was best in the last of its {spec.max_epochs} epochs, so its curve may still rise: try a "
            "larger max_epochs."
        )
    if best.validated_on != "all":
        yield "The winner was measured on a sample of the validation sessions only."
    if findings.result.confirmed == [] and len(findings.measured) > 1:
        second = findings.measured[1]
        yield (
            f"The winner is ahead of trial {second.number} by {findings.value(best) - findings.value(second):.4f} with "
            "one seed each: --confirm 3x3 would tell luck from merit."
        )
    yield from _about_the_test(findings)


def _about_the_test(findings: Findings) -> Iterator[str]:
    test, metric = findings.figures.get("test"), findings.metric
    if test is None:
        if findings.result.spec.data is not None and findings.result.spec.data.test is None:
            yield "No test log was given: the validation figure chose the winner, so it flatters it."
        return
    for name, values in findings.figures["baselines"].items():
        if metric in test["metrics"] and test["metrics"][metric] <= values[metric]:
            yield f"On the test log the winner does not beat the {name} baseline: look for an error in the logs first."
    unknown, targets = test["num_unknown_targets"], test["num_targets"]
    if unknown > MANY_UNKNOWN * (targets + unknown):
        yield (
            f"{percent(unknown / (targets + unknown))} of the test log's next items could not be ranked, because the "
            "model does not know them or what precedes them; with misses, they count against it."
        )


def _about_ranges(findings: Findings) -> Iterator[str]:
    """Say which ranges seem too narrow: most of the best trials lie at one end."""
    best = findings.measured[: 2 * BEST_AT_THE_EDGE - 1]
    if len(findings.measured) < LEAST_TRIALS:
        return
    for dimension in findings.result.spec.space.dimensions:
        places = [
            _place(dimension, float(trial.hyperparameters[dimension.name]))
            for trial in best
            if dimension.kind != "choice"
            and dimension.low < dimension.high
            and dimension.name in trial.hyperparameters
            and dimension.active(trial.hyperparameters)
        ]
        for end, value, count in (
            ("lower", dimension.low, sum(place <= EDGE for place in places)),
            ("upper", dimension.high, sum(place >= 1 - EDGE for place in places)),
        ):
            if count >= BEST_AT_THE_EDGE and _can_widen(dimension, end):
                yield (
                    f"{count} of the best {len(best)} trials have {dimension.name} at the {end} end of its range "
                    f"({value:g}): a wider range may hold better ones."
                )


def _can_widen(dimension: Dimension, end: str) -> bool:
    """Whether the hyperparameter may have values beyond that end."""
    step = 1 if dimension.kind == "int" else 0.1 * (dimension.high - dimension.low)
    beyond = dimension.high + step if end == "upper" else dimension.low / 2 if dimension.log else dimension.low - step
    return domain_of(dimension.name).problem(round(beyond) if dimension.kind == "int" else beyond) is None


def _place(dimension: Dimension, value: float) -> float:
    """Return where in its range a value is: 0 at the lower end, 1 at the upper one."""
    low, high = dimension.low, dimension.high
    if dimension.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _count(trials: list[TrialRecord]) -> str:
    return f"{len(trials)} trial{'' if len(trials) == 1 else 's'}"
