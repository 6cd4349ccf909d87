"""The sections of the page: functions from what was found to a piece of HTML, or None where one has no place."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from tuning.fingerprint import PACKAGES
from tuning.progress import TrialRecord
from tuning.report.advice import advise
from tuning.report.contents import Contents
from tuning.report.curves_plot import MOST_CURVES, chosen_curves, draw_curves
from tuning.report.findings import Findings
from tuning.report.html import Piece, details, duration, join, percent, table, tag
from tuning.report.importance import LEAST_TRIALS, best_share
from tuning.report.influence_plot import (
    MOST_POINTS,
    draw_importances,
    draw_parallel,
    draw_slices,
)
from tuning.report.outcome_plot import draw_comparison, draw_front
from tuning.report.plot import BEST_SIGN, style_of
from tuning.report.settings import render_fixed, render_python
from tuning.report.summary import share_of
from tuning.report.timeline_plot import draw_timeline
from tuning.spec import render_spec

SHOWN_TRIALS, MOST_TRIALS, MOST_CURVE_ROWS = 15, 1000, 30


def outcome(contents: Contents) -> Piece | None:
    """The winner's figures beside the baselines, and what confirming brought."""
    findings = contents.findings
    best = findings.best
    if best is None:
        return None
    test = findings.figures.get("test")
    pieces: list[object] = []
    if test is None:
        pieces.append(
            tag("p", "There are no figures on a test log: no log was named, or the winner is not yet trained.")
        )
        rows: list[list[object]] = [[key, value] for key, value in best.metrics.items()]
        pieces.append(table(["metric", "validation"], rows, "The winner on the validation log"))
    else:
        pieces.append(contents.figure(draw_comparison(findings)))
        pieces.append(_test_table(findings, best, test))
        trained = "all training data" if findings.result.spec.refit else "the data that trials saw"
        pieces.append(
            tag(
                "p",
                f"The winner was trained on {trained} for {best.best_epoch} epochs and met the test log once: "
                f"{test['num_targets']:,} next items of {test['num_sessions']:,} sessions, each ranked among all "
                "items. Intervals are bootstrapped over sessions. With misses, next items that could not be ranked "
                "count as misses.",
                class_="note",
            )
        )
    if findings.result.confirmed:
        pieces.append(_confirmation(findings))
    return join(pieces)


def _test_table(findings: Findings, best: TrialRecord, test: dict[str, Any]) -> Piece:
    baselines = findings.figures["baselines"]
    rows = [
        [
            key,
            best.metrics.get(key),
            value,
            "{:.4f} to {:.4f}".format(*test["intervals"][key]),
            test["metrics_with_misses"][key],
            *(values[key] for values in baselines.values()),
        ]
        for key, value in test["metrics"].items()
    ]
    columns = ["metric", "validation", "test", "95 % interval", "with misses", *baselines]
    return table(columns, rows, "The winner, and baselines on the same test log")


def _confirmation(findings: Findings) -> Piece:
    metric, best = findings.metric, findings.best
    confirmed = sorted(findings.result.confirmed, key=lambda found: found.mean(metric), reverse=True)
    rows = [
        [
            found.trial,
            findings.value(findings.result.trial(found.trial)),
            statistics.fmean(found.metrics[metric]),
            statistics.stdev(found.metrics[metric]) if len(found.metrics[metric]) > 1 else None,
            ", ".join(f"{value:.4f}" for value in found.metrics[metric]),
        ]
        for found in confirmed
    ]
    columns = ["trial", "in the search", "mean of other seeds", "standard deviation", "each"]
    marked = next((place for place, found in enumerate(confirmed) if best and found.trial == best.number), None)
    return join(
        [
            tag("h3", "Confirmed with other seeds"),
            table(columns, rows, f"{metric} on the validation log; the best mean wins", marked),
        ]
    )


def settings(contents: Contents) -> Piece | None:
    """The winner's settings, to copy."""
    best = contents.findings.best
    if best is None:
        return None
    blocks = (
        ("fixed", "For a search.toml", render_fixed(best)),
        ("python", "In Python", render_python(best)),
    )
    return join(
        tag(
            "div",
            tag(
                "div",
                tag("h3", title),
                tag("button", "Copy", type="button", data_copies=f"code-{name}", aria_label=f"Copy: {title}"),
                class_="bar",
            ),
            tag("pre", tag("code", text, id=f"code-{name}"), class_="scroll", tabindex="0"),
        )
        for name, title, text in blocks
    )


def advice(contents: Contents) -> Piece | None:
    """What to keep in mind."""
    found = advise(contents.findings)
    return tag("ul", *(tag("li", sentence) for sentence in found)) if found else None


def curves(contents: Contents) -> Piece | None:
    """The learning curves."""
    findings = contents.findings
    plot = draw_curves(findings)
    if plot is None:
        return None
    spec = findings.result.spec
    drawn, with_curve = chosen_curves(findings), [lines for lines in findings.curves.values() if lines]
    text = (
        "Each line is a trial, its mark where it ended. At a rung about the best "
        f"1/{spec.reduction_factor} of the trials that got there go on; a trial of whose last "
        f"{spec.criterion.max_iter_no_change} epochs none was better stops by itself. "
        "A click in the legend hides a kind."
    )
    if spec.validation_sample_size is not None and spec.rungs:
        text += f" Epochs before {spec.rungs[-1]} were measured on {spec.validation_sample_size:,} sessions."
    if len(drawn) < len(with_curve):
        text += f" Drawn are {MOST_CURVES // 2} best and as many others of {len(with_curve):,}."
    lowest = plot.layout["yaxis"]["range"][0]
    if below := sum(max(line[findings.metric] for line in findings.curves[trial.number]) < lowest for trial in drawn):
        text += f" {below} below {lowest:.4f} cannot be seen; a double click shows them."
    shown = drawn[:MOST_CURVE_ROWS]
    last = max(len(findings.curves[trial.number]) for trial in shown)
    rows = [
        [
            trial.number,
            *(line[findings.metric] for line in findings.curves[trial.number]),
            *[None] * (last - len(lines)),
        ]
        for trial in shown
        if (lines := findings.curves[trial.number])
    ]
    caption = f"{findings.metric} by epoch of the best {len(shown)} trials"
    columns = ["trial", *(f"epoch {epoch}" for epoch in range(1, last + 1))]
    return contents.figure(plot, text, details("As a table", table(columns, rows, caption)))


def trials(contents: Contents) -> Piece | None:
    """The leaderboard."""
    findings = contents.findings
    ordered = findings.result.leaderboard()
    if not ordered:
        return None
    first = ordered[0]
    metrics = list(first.metrics) or [findings.metric]
    costs = [name for name in findings.result.spec.objectives if name in first.costs]
    names = list(dict.fromkeys(parameter.name.split(" ")[0] for parameter in contents.parameters))
    columns = ["trial", *metrics, *costs, "best epoch", "epochs", "ended", "time", *names]
    errors = any(trial.error for trial in ordered[:MOST_TRIALS])
    columns += ["error"] if errors else []

    def row(trial: TrialRecord) -> list[object]:
        mark = f"{trial.number} {BEST_SIGN}" if trial is findings.best else str(trial.number)
        return [
            mark,
            *(trial.metrics.get(name) for name in metrics),
            *(trial.costs.get(name) for name in costs),
            trial.best_epoch or None,
            trial.epochs,
            _state(trial.state),
            duration(trial.seconds),
            *(_value(trial.hyperparameters.get(name)) for name in names),
            *([trial.error] if errors else []),
        ]

    rows = [row(trial) for trial in ordered[:MOST_TRIALS]]
    marked = next((place for place, trial in enumerate(ordered) if trial is findings.best), None)
    caption = f"The best {min(SHOWN_TRIALS, len(rows))} of {len(ordered):,} trials"
    pieces = [table(columns, rows[:SHOWN_TRIALS], caption, marked)]
    if len(rows) > SHOWN_TRIALS:
        rest = "The others" if len(rows) == len(ordered) else f"The next, up to {MOST_TRIALS:,}; trials.parquet has all"
        pieces.append(details(rest, table(columns, rows[SHOWN_TRIALS:], rest)))
    return join(pieces)


def hyperparameters(contents: Contents) -> Piece | None:
    """Importance, parallel coordinates and slices."""
    findings, measured = contents.findings, contents.findings.measured
    if not contents.parameters:
        return None
    pieces: list[object] = [_importance(contents)]
    if parallel := draw_parallel(findings, contents.parameters):
        pieces += [
            tag("h3", "Side by side"),
            contents.figure(
                parallel,
                "A trial is a line from value to value, and ends at its metric. Below an axis passes what does not "
                "have the parameter.",
            ),
        ]
    slices = draw_slices(findings, contents.parameters)
    shown = f" Shown are {MOST_POINTS} of {len(measured):,} trials." if len(measured) > MOST_POINTS else ""
    figures = []
    for plot, parameter in zip(slices, contents.parameters, strict=False):
        having = f"{len(parameter.values)} of {len(measured)} trials have it"
        when = Piece(f"<br>Only where {tag('span', parameter.when)}; {having}.") if parameter.when else ""
        figures.append(contents.figure(plot, plot.summary, when))
    pieces += [
        tag("h3", f"Each one against {findings.metric}"),
        tag(
            "p",
            "A mark is a trial at its best epoch, and says how it ended as in the learning curves; the star is the "
            "winner. Trials that ASHA stopped had fewer epochs, and lie low for that reason too. Trials far below the "
            f"others are cut off.{shown}",
            class_="note",
        ),
        tag("div", *figures, class_="grid"),
    ]
    return join(pieces)


def _importance(contents: Contents) -> Piece:
    found, count = contents.importances, len(contents.findings.measured)
    if not found:
        return tag(
            "p",
            f"How important each hyperparameter is cannot be told from {count} trials: it takes {LEAST_TRIALS}."
            if count < LEAST_TRIALS
            else "How important each hyperparameter is cannot be told: the best trials are like all others.",
        )
    share = best_share(count)
    text = (
        f"What sets the best {percent(share)} of the trials apart from all of them (PED-ANOVA on the order of the "
        "leaderboard). A bar that does not pass its mark is no more than chance gives."
    )
    rows = [
        [item.name, f"{item.share:.1%}", f"{item.chance:.1%}", "yes" if item.told else "no", item.trials]
        for item in found
    ]
    columns = ["hyperparameter", "importance", "by chance", "told apart", "trials"]
    caption = "Importance of the hyperparameters"
    return join(
        [
            tag("h3", "Which ones mattered"),
            contents.figure(draw_importances(found), text, details("As a table", table(columns, rows, caption))),
        ]
    )


def trade_offs(contents: Contents) -> Piece | None:
    """The Pareto front."""
    findings, objectives = contents.findings, contents.findings.result.spec.objectives
    if not objectives or not findings.measured:
        return None
    front = findings.result.pareto_front()
    rows = [
        [
            f"{trial.number} {BEST_SIGN}" if trial is findings.best else str(trial.number),
            findings.value(trial),
            *(findings.value(trial, name) for name in objectives),
        ]
        for trial in front
    ]
    caption = f"The Pareto front: {len(front)} trials that no other beats without losing elsewhere"
    return join(
        [
            *(contents.figure(draw_front(findings, name, place)) for place, name in enumerate(objectives)),
            table(["trial", findings.metric, *objectives], rows, caption),
            tag("p", "gru4rec tune export RUN --trial N --out MODEL trains another than the winner.", class_="note"),
        ]
    )


def budget(contents: Contents) -> Piece | None:
    """Where the time went."""
    findings, account = contents.findings, contents.account
    if not account.endings:
        return None
    spec, best = findings.result.spec, findings.best
    slot = f"{spec.cpus_per_trial} CPU{'' if spec.cpus_per_trial == 1 else 's'}" + (
        f" and {spec.gpus_per_trial:g} GPU" if spec.gpus_per_trial else ""
    )
    there_s = account.slots * account.elapsed_s
    rows: list[list[object]] = [
        ["trained and validated", duration(account.trained_s), share_of(account.trained_s, account)],
        ["idle", duration(account.idle_s), share_of(account.idle_s, account)],
        ["of it after the last trial of a slot", duration(account.tail_s), share_of(account.tail_s, account)],
        [f"there: {account.slots} slots for {duration(account.elapsed_s)}", duration(there_s), percent(1.0)],
        ["not trained, thanks to ASHA", duration(account.saved_s), f"{account.saved_epochs:,} epochs"],
    ]
    ended = [
        [_state(ending.state), ending.trials, ending.epochs, duration(ending.seconds)] for ending in account.endings
    ]
    return join(
        [
            contents.figure(
                draw_timeline(account, best.number if best else None),
                f"A bar is a trial, from the start of its first epoch to the report of its last. A slot is {slot}.",
            ),
            tag(
                "div",
                table(["slot time", "time", "share"], rows, "Where the time went"),
                table(["ended", "trials", "epochs", "time"], ended, "Trials by how they ended"),
                class_="beside",
            ),
            tag(
                "p",
                "What ASHA saved is what the trials that it stopped would have taken up to max_epochs, each at its own "
                "speed: an upper bound, since some would have lost their patience. An epoch in which a trial diverged "
                "or failed has left no time, and confirming and training the winner are not part of it.",
                class_="note",
            ),
        ]
    )


def provenance(contents: Contents) -> Piece:
    """What this search was."""
    result, versions = contents.findings.result, contents.findings.versions
    rows: list[list[object]] = [
        ["result folder", result.path],
        ["ended", result.ended],
        ["written by", f"gru4rec-tune {version('gru4rec-tune')}"],
    ]
    if result.spec.data is not None:
        rows += [[f"{name} log", path] for name, path in result.spec.data.logs().items()]
    rows += [[name if name in PACKAGES else f"{name}, digest", value] for name, value in versions.items()]
    return join(
        [
            table(["what", "value"], rows, "Data, versions and digests"),
            details("search.toml as resolved", tag("pre", tag("code", render_spec(result.spec)), class_="scroll")),
        ]
    )


SECTIONS: Sequence[tuple[str, str, Callable[[Contents], Piece | None]]] = (
    ("result", "Result", outcome),
    ("advice", "To keep in mind", advice),
    ("curves", "Learning curves", curves),
    ("hyperparameters", "Hyperparameters", hyperparameters),
    ("trade-offs", "Trade-offs", trade_offs),
    ("settings", "Settings to copy", settings),
    ("trials", "Trials", trials),
    ("budget", "Budget", budget),
    ("search", "This search", provenance),
)


def _state(state: str) -> Piece:
    style = style_of(state)
    sign = tag("span", style.sign, class_="sign", style=f"color:var({style.colour})", aria_hidden="true")
    return Piece(f"{sign} {tag('span', state)}")


def _value(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
