"""Counting in memory, and putting together what several processes have counted. Pure.

prometheus-client's own values are not used for it: an observation of its histograms takes five
times as long as one here, and over several processes, through a mapped file, fourteen times.
`core.metrics` says what is counted; `wiring` gathers it, and `web.metrics` shows it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from service.core.metrics import METRICS, Metric

Labelled = dict[str, float]
"""Values by the value of the metric's one label; by "" where it has none."""


class Histogram:
    """Counts values by the least bound that is not below them.

    bounds: ascending, of the unit that the values have. counts: one for each bound, not
    cumulative, and one for what is above them all. total: of all values.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Spread(msgspec.Struct, array_like=True):
    """What a histogram has counted; see there."""

    counts: list[int]
    total: float


class Figures(msgspec.Struct):
    """Everything counted, by the metric's name.

    counters and histograms only grow; gauges hold for the moment they were read.
    """

    counters: dict[str, Labelled] = {}
    histograms: dict[str, Spread] = {}
    gauges: dict[str, Labelled] = {}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Figures).decode


def encode(figures: Figures) -> bytes:
    """Return figures as bytes for another process."""
    return _encode(figures)


def decode(data: bytes) -> Figures:
    """Read figures. Raises ValueError for anything else."""
    return _decode(data)


def spread_of(histogram: Histogram) -> Spread:
    """Return what a histogram has counted so far."""
    return Spread(list(histogram.counts), histogram.total)


def merge(every: Iterable[Figures], metrics: Mapping[str, Metric] = METRICS) -> Figures:
    """Put figures of several processes together.

    Counters and histograms are added up, gauges as their metric says. What `metrics` does not
    name, or has other bounds for, was written by another version and is left out.
    """
    whole = Figures({}, {}, {})
    for figures in every:
        for name, labelled in figures.counters.items():
            if name in metrics:
                _combine(whole.counters.setdefault(name, {}), labelled, "sum")
        for name, labelled in figures.gauges.items():
            if name in metrics:
                _combine(whole.gauges.setdefault(name, {}), labelled, metrics[name].merged)
        for name, spread in figures.histograms.items():
            if name not in metrics or len(spread.counts) != len(metrics[name].bounds) + 1:
                continue
            mine = whole.histograms.get(name)
            whole.histograms[name] = spread if mine is None else _add(mine, spread)
    return whole


def lasting(figures: Figures) -> Figures:
    """Return what outlives its process: all but the gauges."""
    return Figures(figures.counters, figures.histograms, {})


def _combine(whole: Labelled, part: Labelled, how: str) -> None:
    for label, value in part.items():
        before = whole.get(label)
        if before is None:
            whole[label] = value
        elif how == "sum":
            whole[label] = before + value
        else:
            whole[label] = max(before, value) if how == "max" else min(before, value)


def _add(one: Spread, other: Spread) -> Spread:
    counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
    return Spread(counts, one.total + other.total)
