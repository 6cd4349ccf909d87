"""The top of the page: the outcome in a few words, and the figures that matter most."""

from __future__ import annotations

from tuning.report.account import Account
from tuning.report.contents import Contents
from tuning.report.findings import Findings
from tuning.report.html import Piece, duration, percent, tag


def headline(findings: Findings) -> str:
    """Return the outcome in a few words."""
    best, metric = findings.best, findings.metric
    if best is None:
        return f"No trial has a {metric}"
    test = findings.figures.get("test")
    if test is None or metric not in test["metrics"]:
        return f"{metric} {findings.value(best):.4f} on the validation log"
    value = test["metrics"][metric]
    name, values = max(findings.figures["baselines"].items(), key=lambda item: item[1][metric])
    beside = f", {value / values[metric]:.2f} times the {name} baseline" if values[metric] > 0 else ""
    return f"{metric} {value:.4f} on the test log{beside}"


def lead(findings: Findings) -> str:
    """Return the sentence under the headline."""
    result, best = findings.result, findings.best
    begun = f"{len(result.trials):,} trial{'' if len(result.trials) == 1 else 's'} of GRU4Rec; {result.ended}."
    if best is None:
        return begun
    how = "best mean over other seeds" if result.confirmed else f"best {findings.metric} on the validation log"
    return f"{begun} The winner is trial {best.number}: it had the {how}."


def cards(contents: Contents) -> Piece:
    """Return the figures at the top of the page."""
    findings, account = contents.findings, contents.account
    best, test, metric = findings.best, findings.figures.get("test"), findings.metric
    shown: list[tuple[str, str, str]] = []
    if test is not None and metric in test["metrics"]:
        low, high = test["intervals"][metric]
        shown.append((f"{metric}, test", f"{test['metrics'][metric]:.4f}", f"95 % interval {low:.4f} to {high:.4f}"))
    if best is not None:
        where = f"trial {best.number}, epoch {best.best_epoch}"
        shown.append((f"{metric}, validation", f"{findings.value(best):.4f}", where))
    trials = ", ".join(f"{ending.trials} {ending.state}" for ending in account.endings)
    shown.append(("trials", f"{len(findings.result.trials):,}", trials))
    if account.slots:
        slots = f"{account.slots} slot{'' if account.slots == 1 else 's'}"
        shown.append(("time", duration(account.elapsed_s), f"{slots}, {share_of(account.idle_s, account)} idle"))
    if account.saved_s > 0:
        full_s = account.trained_s + account.saved_s
        saved = f"{account.saved_epochs:,} epochs not trained, {duration(account.saved_s)} of a slot"
        shown.append(("saved by ASHA", percent(account.saved_s / full_s), saved))
    return tag(
        "div",
        *(
            tag("div", tag("span", name, class_="name"), tag("strong", value), tag("span", note), class_="card")
            for name, value, note in shown
        ),
        class_="cards",
    )


def share_of(seconds: float, account: Account) -> str:
    """Return a time as a share of all the slots' time."""
    there_s = account.slots * account.elapsed_s
    return percent(seconds / there_s) if there_s else "-"
