"""What the hyperparameters did: their importance, each against the metric, and all of them side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log, log10
from typing import Any

from tuning.progress import TrialRecord
from tuning.report.account import STATES
from tuning.report.findings import Findings
from tuning.report.importance import Importance, labelled
from tuning.report.plot import BEST, LEGEND, Plot, Trace, joined, style_of, thinned, worth_showing_from
from tuning.space import Dimension, Value

MOST_SLICES, MOST_AXES, MOST_LINES, MOST_POINTS = 24, 12, 240, 300
ABSENT = -0.12
"""Where in the parallel coordinates the line of a trial passes that does not have the parameter."""
GOLDEN = 0.618034


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter as it was searched.

    Parameters
    ----------
    name : str
        The sampler's name.
    values : dict of int to value
        By trial.
    log : bool
    when : str
        The condition under which it exists, '' for none.
    """

    name: str
    values: dict[int, Value]
    log: bool
    when: str

    @property
    def categories(self) -> list[str]:
        """The values as words, in order; none of a number."""
        values = set(self.values.values())
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values) and len(values) > 5:
            return []
        return [str(value) for value in sorted(values, key=lambda value: (isinstance(value, str), value))]


def searched_parameters(findings: Findings, importances: Sequence[Importance]) -> list[Parameter]:
    """Return the parameters that differ between trials, the most important first."""
    space = findings.result.spec.space
    ranges: dict[str, Dimension] = {space.label(dimension): dimension for dimension in space.dimensions}
    values: dict[str, dict[int, Value]] = {name: {} for name in [*(found.name for found in importances), *ranges]}
    for trial in findings.measured:
        for name, value in labelled(space, trial).items():
            values.setdefault(name, {})[trial.number] = value
    return [
        Parameter(name, of_trials, name in ranges and ranges[name].log, _condition(ranges.get(name)))
        for name, of_trials in values.items()
        if len(set(of_trials.values())) > 1
    ]


def _condition(dimension: Dimension | None) -> str:
    if dimension is None:
        return ""
    return " and ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in dimension.when.items())


def draw_importances(importances: Sequence[Importance]) -> Plot | None:
    """Return the bars, with the share that chance gives marked on each; None where nothing can be told."""
    if not importances:
        return None
    rows = list(reversed(importances))
    names = [found.name for found in rows]
    told = [found.name for found in importances if found.told]
    data: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [round(found.share, 4) for found in rows],
            "y": names,
            "name": "importance (grey: no more than chance)",
            "marker": {"color": ["--finished" if found.told else "--faint" for found in rows]},
            "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [round(found.chance, 4) for found in rows],
            "y": names,
            "name": "what chance gives, at most, 19 times in 20",
            "marker": {
                "symbol": "line-ns-open",
                "size": 16,
                "color": "--text",
                "line": {"width": 2, "color": "--text"},
            },
            "hovertemplate": "chance: %{x:.1%}<extra></extra>",
        },
    ]
    layout = {
        "xaxis": {"tickformat": ".0%", "rangemode": "tozero"},
        "legend": LEGEND,
    }
    what = f"Above chance: {', '.join(told)}." if told else "None is above what chance gives."
    summary = f"Importance of {len(names)} hyperparameters for being among the best trials. {what}"
    return Plot("importance", summary, data, layout, height=130 + 28 * len(names))


def draw_slices(findings: Findings, parameters: Sequence[Parameter]) -> list[Plot]:
    """Return a plot for each parameter: its value and the trial's best metric."""
    trials = thinned(findings.measured, MOST_POINTS)
    values = [findings.value(trial) for trial in trials]
    lowest = worth_showing_from(values)
    span = [lowest - 0.06 * (max(values) - lowest), max(values) + 0.1 * (max(values) - lowest)]
    return [
        _draw_slice(findings, parameter, number, trials, span)
        for number, parameter in enumerate(parameters[:MOST_SLICES])
    ]


def _draw_slice(
    findings: Findings, parameter: Parameter, number: int, trials: Sequence[TrialRecord], span: list[float]
) -> Plot:
    best = findings.best
    categories = parameter.categories

    def place(trial: TrialRecord) -> Value:
        value = parameter.values[trial.number]
        return categories.index(str(value)) + _jitter(trial.number) if categories else value

    data: list[Trace] = []
    having = [trial for trial in trials if trial.number in parameter.values]
    for state in STATES:
        chosen = [trial for trial in having if trial.state == state and trial is not best]
        if chosen:
            style = style_of(state)
            marker = {"color": style.colour, "symbol": style.marker, "size": 7, "opacity": 0.75}
            data.append(_points(findings, parameter, chosen, [place(trial) for trial in chosen], marker, state))
    if best in having and best is not None:
        marker = {"color": BEST, "symbol": "star", "size": 14}
        data.append(_points(findings, parameter, [best], [place(best)], marker, "the winner"))
    axis: dict[str, Any] = {"title": {"text": parameter.name}}
    if categories:
        axis |= {
            "tickvals": list(range(len(categories))),
            "ticktext": categories,
            "range": [-0.6, len(categories) - 0.4],
        }
    elif parameter.log:
        ticks = _log_ticks([float(value) for value in parameter.values.values()])
        axis |= {"type": "log", "tickvals": ticks, "ticktext": [_short(tick) for tick in ticks]}
    layout = {
        "xaxis": axis,
        "yaxis": {"range": span},
        "showlegend": False,
        "margin": {"t": 8, "l": 44, "r": 8, "b": 44},
    }
    return Plot(f"slice-{number}", _where_the_best_are(parameter, findings.measured), data, layout, height=230)


def _points(
    findings: Findings,
    parameter: Parameter,
    trials: Sequence[TrialRecord],
    places: Sequence[Value],
    marker: dict[str, Any],
    name: str,
) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [round(place, 6) if isinstance(place, float) else place for place in places],
        "y": [round(findings.value(trial), 5) for trial in trials],
        "text": [f"trial {trial.number}: {_short(parameter.values[trial.number])}" for trial in trials],
        "marker": marker,
        "name": name,
        "hovertemplate": "%{text}<br>%{y:.4f}<extra></extra>",
    }


def _where_the_best_are(parameter: Parameter, ranked: Sequence[TrialRecord]) -> str:
    """Say where the best quarter of the trials with the parameter lies."""
    having = [trial for trial in ranked if trial.number in parameter.values]
    top = having[: max(1, len(having) // 4)]
    values = [parameter.values[trial.number] for trial in top]
    if categories := parameter.categories:
        words = [str(value) for value in values]
        where = ", ".join(f"{word} ({words.count(word)})" for word in categories if word in words)
    else:
        numbers = sorted(float(value) for value in values)
        where = f"{_short(numbers[0])} to {_short(numbers[-1])}"
    return f"{parameter.name} in the best {len(top)} of {len(having)}: {where}."


def draw_parallel(findings: Findings, parameters: Sequence[Parameter]) -> Plot | None:
    """Return the parallel coordinates; None with fewer than two parameters or trials."""
    trials, axes = thinned(findings.measured, MOST_LINES), parameters[:MOST_AXES]
    if len(trials) < 2 or len(axes) < 2:
        return None
    scales = [_Scale(parameter) for parameter in axes]
    values = [findings.value(trial) for trial in trials]
    lowest, highest = worth_showing_from(values), max(values)

    def line(trial: TrialRecord) -> dict[str, list[Any]]:
        metric = max(ABSENT, (findings.value(trial) - lowest) / ((highest - lowest) or 1.0))
        heights = [*(scale.height(trial.number) for scale in scales), round(metric, 3)]
        return {"x": list(range(len(heights))), "y": heights, "customdata": [trial.number] * len(heights)}

    quarter = max(1, len(trials) // 4)
    groups = (
        ("the other trials", trials[quarter:], "--faint", "dot", 1.0),
        (f"the best {quarter}", trials[1:quarter], "--finished", "solid", 1.6),
        ("the winner", [trial for trial in trials if trial is findings.best], BEST, "solid", 4.0),
    )
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            **joined(line(trial) for trial in chosen if trial is not findings.best or name == "the winner"),
            "name": name,
            "line": {"color": colour, "dash": dash, "width": width},
            "hovertemplate": "trial %{customdata}<extra></extra>",
        }
        for name, chosen, colour, dash, width in groups
        if chosen
    ]
    layout = {
        "xaxis": {
            "tickvals": list(range(len(axes) + 1)),
            "ticktext": [*(re.sub("[_ ]", "<br>", parameter.name) for parameter in axes), f"<b>{findings.metric}</b>"],
            "side": "top",
            "range": [-0.35, len(axes) + 0.6],
            "fixedrange": True,
            "showgrid": True,
            "tickangle": 0,
        },
        "yaxis": {"visible": False, "range": [-0.2, 1.08], "fixedrange": True},
        "annotations": [
            *(note for place, scale in enumerate(scales) for note in scale.notes(place)),
            _note(len(axes), 1.0, f"{highest:.4f}"),
            _note(len(axes), 0.0, f"{lowest:.4f}"),
        ],
        "legend": {**LEGEND, "y": -0.02, "yanchor": "top"},
        "margin": {"t": 56, "l": 20, "r": 64},
    }
    names = ", ".join(parameter.name for parameter in axes)
    summary = f"{len(trials)} trials as lines over {names} and {findings.metric}. The table of trials has the numbers."
    return Plot("parallel", summary, data, layout, height=430, least_width=92 * (len(axes) + 1))


class _Scale:
    """Where on its axis a parameter's value is, from 0 to 1."""

    def __init__(self, parameter: Parameter) -> None:
        self._parameter = parameter
        self._categories = parameter.categories
        if not self._categories:
            numbers = [self._number(value) for value in parameter.values.values()]
            self._low, self._high = min(numbers), max(numbers)

    def height(self, trial: int) -> float:
        """Return a trial's place; `ABSENT` when it does not have the parameter."""
        value = self._parameter.values.get(trial)
        if value is None:
            return ABSENT
        if self._categories:
            spread = 0.05 * _jitter(trial)
            return round(self._categories.index(str(value)) / max(1, len(self._categories) - 1) + spread, 3)
        return round((self._number(value) - self._low) / (self._high - self._low), 3)

    def notes(self, place: int) -> list[dict[str, Any]]:
        """Return the words beside the axis."""
        if self._categories:
            last = max(1, len(self._categories) - 1)
            return [_note(place, number / last, word) for number, word in enumerate(self._categories)]
        values = [float(value) for value in self._parameter.values.values()]
        return [_note(place, 0.0, _short(min(values))), _note(place, 1.0, _short(max(values)))]

    def _number(self, value: Value) -> float:
        return log(float(value)) if self._parameter.log else float(value)


def _note(place: float, height: float, text: str) -> dict[str, Any]:
    return {
        "x": place, "y": height, "text": text, "showarrow": False, "xanchor": "left", "xshift": 4,
        "bgcolor": "--card", "borderpad": 1,
    }  # fmt: skip


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Return round numbers for a logarithmic axis, few enough for a small plot.

    >>> _log_ticks([0.011, 0.28]), _log_ticks([130, 2048])
    ([0.02, 0.05, 0.1, 0.2], [200.0, 500.0, 1000.0, 2000.0])
    """
    low, high = min(values), max(values)
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 100 else (1,)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def _jitter(number: int) -> float:
    """Return a displacement between -0.3 and 0.3, the same for a trial in every report."""
    return round(0.6 * (number * GOLDEN % 1.0) - 0.3, 3)


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
