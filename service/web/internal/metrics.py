"""Figures as Prometheus reads them, through prometheus-client.

The library is loaded when it is first asked for: it is a megabyte and the web server of Python's
own, which a service that nobody scrapes does without.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from service.core.metrics import METRICS, Metric
from service.core.tally import Figures, Spread

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus' text format, which every version of it reads."""


def render(figures: Figures) -> bytes:
    """Return the text of /metrics. Takes milliseconds, and more the first time."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Collected(Collector):
        def collect(self) -> Iterable[Family]:
            return families_of(figures)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected())
    return generate_latest(registry)


def families_of(figures: Figures) -> Iterable[Family]:
    """Yield a family of the library's for each metric that there are figures of."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    for metric in METRICS.values():
        labels = [metric.label] if metric.label else []
        if metric.kind == "histogram":
            if metric.name in figures.histograms:
                spread = figures.histograms[metric.name]
                buckets = _cumulative(metric, spread)
                yield HistogramMetricFamily(metric.name, metric.help, buckets, spread.total)
            continue
        counted = metric.kind == "counter"
        values = (figures.counters if counted else figures.gauges).get(metric.name)
        if values is None:
            continue
        family = (CounterMetricFamily if counted else GaugeMetricFamily)(
            metric.name, metric.help, labels=labels
        )
        for label, value in values.items():
            family.add_metric([label] if metric.label else [], value)
        yield family


def _cumulative(metric: Metric, spread: Spread) -> list[tuple[str, float]]:
    buckets, below = [], 0
    for bound, count in zip((*metric.bounds, float("inf")), spread.counts, strict=True):
        below += count
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), float(below)))
    return buckets
