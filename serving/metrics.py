"""Counts and histograms of a replica, and all replicas' in the text format of Prometheus.

A replica counts by itself; its figures are plain numbers, which it hands to whichever replica is asked for them. Each
figure carries the name of its replica, so that sums over them are right.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Labels = tuple[tuple[str, str], ...]
FAMILIES = {
    "gru4rec_requests_total": ("counter", "Answered requests by route and status."),
    "gru4rec_request_seconds": ("histogram", "Seconds from the first byte of a request to its answer, by route."),
    "gru4rec_batch_sessions": ("histogram", "Sessions that shared a matrix product."),
    "gru4rec_in_flight": ("gauge", "Requests that are accepted and not answered."),
    "gru4rec_sessions_total": ("counter", "Answered sessions by what the answer is from."),
    "gru4rec_unknown_items_total": ("counter", "Items of sessions that the model does not know."),
    "gru4rec_swaps_total": ("counter", "Models taken in the place of another, by result."),
    "gru4rec_model_info": ("gauge", "1 for the model that is served, by the digest of its folder."),
}
BOUNDS: dict[str, Sequence[float]] = {
    "gru4rec_request_seconds": LATENCY_BOUNDS_S,
    "gru4rec_batch_sessions": BATCH_BOUNDS,
}


@dataclass
class Histogram:
    """How often a value was at most each of some bounds.

    Parameters
    ----------
    counts : list of int
        Of the values up to each bound and above the one before it; the last is of those above all bounds.
    total : float
        Of all values.
    """

    counts: list[int]
    total: float = 0.0


@dataclass
class Metrics:
    """The figures of one replica.

    Parameters
    ----------
    numbers : dict of (family, labels) to float
        Counters and gauges.
    histograms : dict of (family, labels) to Histogram
    """

    numbers: dict[tuple[str, Labels], float] = field(default_factory=dict)
    histograms: dict[tuple[str, Labels], Histogram] = field(default_factory=dict)

    def add(self, family: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter or a gauge."""
        key = (family, tuple(labels.items()))
        self.numbers[key] = self.numbers.get(key, 0) + amount

    def observe(self, family: str, value: float, **labels: str) -> None:
        """Count a value in a histogram."""
        key, bounds = (family, tuple(labels.items())), BOUNDS[family]
        histogram = self.histograms.get(key)
        if histogram is None:
            histogram = self.histograms[key] = Histogram([0] * (len(bounds) + 1))
        histogram.counts[bisect_left(bounds, value)] += 1
        histogram.total += value


def render(replicas: Mapping[str, Metrics]) -> str:
    """Return the figures of all replicas as Prometheus reads them.

    >>> metrics = Metrics()
    >>> metrics.add("gru4rec_in_flight", 2)
    >>> print(render({"a": metrics}), end="")
    # HELP gru4rec_in_flight Requests that are accepted and not answered.
    # TYPE gru4rec_in_flight gauge
    gru4rec_in_flight{replica="a"} 2
    """
    lines = []
    for family, (kind, text) in FAMILIES.items():
        samples = [line for name, metrics in replicas.items() for line in _render_family(family, name, metrics)]
        if samples:
            lines += [f"# HELP {family} {text}", f"# TYPE {family} {kind}", *samples]
    return "".join(f"{line}\n" for line in lines)


def _render_family(family: str, replica: str, metrics: Metrics) -> Iterable[str]:
    own: Labels = (("replica", replica),)
    for (name, labels), number in metrics.numbers.items():
        if name == family:
            yield _render_sample(name, own + labels, number)
    for (name, labels), histogram in metrics.histograms.items():
        if name == family:
            count = 0
            for bound, more in zip([*map(str, BOUNDS[name]), "+Inf"], histogram.counts, strict=True):
                count += more
                yield _render_sample(f"{name}_bucket", (*own, *labels, ("le", bound)), count)
            yield _render_sample(f"{name}_sum", own + labels, histogram.total)
            yield _render_sample(f"{name}_count", own + labels, count)


def _render_sample(name: str, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
    return f"{name}{{{pairs}}} {value!r}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
