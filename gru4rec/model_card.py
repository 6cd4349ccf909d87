"""README.md of a model folder: a model card for people. What it says is in config.json and metrics.json, too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from gru4rec.data.training_log import TrainingLog
from gru4rec.model import Model
from gru4rec.numbers import is_number

EARLIEST, LATEST = 0, 253_402_300_799  # 1970 to 9999: other times are no seconds since 1970
Row = dict[str, Any]


def render_card(model: Model) -> str:
    """Return the README.md of a model folder."""
    settings = [{"name": f"`{name}`", "value": value} for name, value in model.hyperparameters.to_dict().items()]
    return f"""# GRU4Rec next-item recommender

Given the items of a session so far, it scores {len(model.items):,} items by how likely each is to come next.
{_origin(model)}

## Use

```sh
gru4rec recommend . sessions.csv --k 20
gru4rec inspect .        # what this page says, also as JSON
gru4rec verify .         # whether the folder is whole, and computes here what it computed where it was written
```

```python
from gru4rec import load_model, read_log

model = load_model(".")
table = model.recommend(read_log("sessions.csv"), k=20).table
state = model.step(model.start(), item_id)  # a click at a time
print(model.top(state, k=20))
```

If there is a folder `onnx/`, other programs can run the model without Python; `gru4rec export .` adds it.

## Data

{_data(model)}

## Quality

{_quality(model)}

## Limits

- It knows the items of its training log only. Others are left out of a session and counted; new items are never
  recommended.
- {_fallback(model)}
- It knows the order of events, not the time between them, and nothing of users, prices or texts.
- It recommends what resembles the training log. Figures are of one log at one time: measure again on your own.

## Hyperparameters

{render_markdown(settings, ["name", "value"])}
"""


def figure_rows(metrics: Mapping[str, Any]) -> tuple[list[str], list[Row]]:
    """Return the metric keys and the rows of a table of all figures in metrics.json: validation, test, baselines.

    What has another form than this program writes is left out: metrics.json may come from a stranger.
    """
    test, baselines = _mapping(metrics.get("test")), _mapping(metrics.get("baselines"))
    figures = {"validation": _numbers(metrics.get("validation")), "test": _numbers(test.get("metrics"))}
    intervals = {
        key: interval
        for key, interval in _mapping(test.get("intervals")).items()
        if isinstance(interval, Sequence) and len(interval) == 2 and all(map(is_number, interval))
    }
    for place, end in enumerate(("from", "to")):
        figures[f"test, 95 % interval {end}"] = {key: interval[place] for key, interval in intervals.items()}
    figures["test, with misses"] = _numbers(test.get("metrics_with_misses"))
    figures |= {f"test, {name}": _numbers(values) for name, values in baselines.items()}
    keys = list(dict.fromkeys(key for values in figures.values() for key in values))
    return keys, [{"figures": name, **values} for name, values in figures.items() if values]


def log_rows(log: TrainingLog) -> list[Row]:
    """Return the rows of a table of what is told of a training log."""
    facts = {
        "sessions": log.num_sessions,
        "events": log.num_events,
        "items": log.num_items,
        "first event": render_time(log.first_time),
        "last event": render_time(log.last_time),
        "fingerprint": log.fingerprint,
        "licence": log.licence or "not told",
    }
    return [{"training log": name, "value": value} for name, value in facts.items()]


def render_time(seconds: float) -> str:
    """Return a time of a log in words.

    >>> render_time(1396346400.0), render_time(7.0)
    ('2014-04-01 10:00:00 UTC', '7.0')
    """
    if not EARLIEST + 86_400 < seconds <= LATEST:  # a log whose clock starts at 0 has no dates
        return str(seconds)
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%d %H:%M:%S} UTC"


def render_markdown(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return a table in Markdown; an absent value is empty.

    >>> print(render_markdown([{"name": "a|b", "recall@20": 0.71234}, {"name": "c"}], ["name", "recall@20"]))
    | name | recall@20 |
    |---|---|
    | a\\\\|b | 0.7123 |
    | c |  |
    """
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[_cell(row[name]) if name in row else "" for name in columns] for row in rows]
    head, rule, *body = lines
    return "\n".join(
        [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(cells)} |" for cells in body)]
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return " ".join(text.replace("|", "\\|").split())


def _origin(model: Model) -> str:
    program = f"gru4rec-tune {version('gru4rec-tune')}"
    if "converted_from" in model.metrics:
        return (
            f"Converted from `{model.metrics['converted_from']}` by {program}. That file does not say how it was "
            "trained: of the hyperparameters below, sizes and dropout are the model's own, the rest are defaults."
        )
    epoch, seed = (model.metrics.get(name) for name in ("epoch", "seed"))
    how = f" The weights are those of epoch {epoch}, with the seed {seed}." if epoch is not None else ""
    trials = _mapping(model.metrics.get("search")).get("trials")
    if is_number(trials):
        return f"Trained with {program}, one of {trials:,} trials of a search: see `search/`.{how}"
    return f"Trained with {program}.{how}"


def _data(model: Model) -> str:
    if model.training_log is None:
        return "Nothing is known of the log that it learned from."
    table = render_markdown(log_rows(model.training_log), ["training log", "value"])
    return f"{table}\n\nThe log itself is not in this folder; `examples/` is made of popular items."


def _quality(model: Model) -> str:
    keys, rows = figure_rows(model.metrics)
    if not rows:
        return "It has not been measured. `gru4rec evaluate . test.csv --train train.csv` does, beside baselines."
    table = render_markdown(rows, ["figures", *keys])
    if model.num_columns is not None:
        return f"{table}\n\nMeasured on histories and what came after them, as recpack's stopping criteria are."
    return f"""{table}

The next item of every step was ranked among all items; a tie counts against the model. Intervals are 95 %, by
resampling sessions; they do not cover another seed, week or shop. "With misses" counts next items that could not be
ranked, because items are unknown to the model, as misses."""


def _fallback(model: Model) -> str:
    if model.support is None:
        return "A session without a known item gets no recommendation: it is not known which items are popular."
    return (
        "A session without a known item gets the most frequent items of the training log, marked `popular`;\n"
        "  their scores are numbers of events."
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _numbers(value: object) -> dict[str, float]:
    return {key: number for key, number in _mapping(value).items() if is_number(number)}
