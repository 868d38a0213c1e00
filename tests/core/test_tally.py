"""Counting in memory, and the figures of several processes put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.metrics import METRICS, Metric
from service.core.tally import (
    Figures,
    Histogram,
    Spread,
    decode,
    encode,
    lasting,
    merge,
    spread_of,
)

KNOWN = {
    each.name: each
    for each in (
        Metric("texts_total", "counter", "", label="outcome"),
        Metric("send_seconds", "histogram", "", bounds=(1, 2)),
        Metric("owned", "gauge", ""),
        Metric("ready", "gauge", "", merged="min"),
        Metric("failing", "gauge", "", merged="max"),
    )
}


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_a_histogram_counts_each_value_below_the_least_bound_that_holds_it(
    values: list[float],
) -> None:
    """A percentile of /metrics would be that of other values."""
    bounds = (0.5, 1, 2.5, 10)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    cumulative = [sum(histogram.counts[: place + 1]) for place in range(len(bounds))]
    assert cumulative == [sum(value <= bound for value in values) for bound in bounds]
    assert sum(histogram.counts) == len(values)
    assert histogram.total == pytest.approx(sum(values))


def test_figures_of_processes_are_added_up_and_gauges_as_their_metric_says() -> None:
    """One process that is not ready would hide behind one that is."""
    one = Figures(
        {"texts_total": {"answered": 2, "silent": 1}},
        {"send_seconds": Spread([1, 0, 2], 7.5)},
        {"owned": {"": 8}, "ready": {"": 1}, "failing": {"": 0}},
    )
    other = Figures(
        {"texts_total": {"answered": 3}},
        {"send_seconds": Spread([0, 1, 0], 1.5)},
        {"owned": {"": 7}, "ready": {"": 0}, "failing": {"": 1}},
    )
    whole = merge([one, other], KNOWN)
    assert whole.counters == {"texts_total": {"answered": 5, "silent": 1}}
    assert whole.histograms == {"send_seconds": Spread([1, 1, 2], 9.0)}
    assert whole.gauges == {"owned": {"": 15}, "ready": {"": 0}, "failing": {"": 1}}
    assert one.counters["texts_total"]["answered"] == 2


def test_what_another_version_counted_is_left_out() -> None:
    """An upgrade under a running supervisor would break /metrics, or mix up two histograms."""
    strange = Figures(
        {"unknown_total": {"": 1}}, {"send_seconds": Spread([1, 2], 3)}, {"unknown": {"": 1}}
    )
    mine = Figures({}, {"send_seconds": Spread([0, 0, 1], 4)}, {})
    assert merge([mine, strange], KNOWN) == mine
    assert merge([strange, mine], KNOWN) == mine


def test_what_outlives_a_process_are_its_counters_without_its_gauges() -> None:
    """A dead process would own partitions for ever."""
    figures = Figures({"texts_total": {"": 1}}, {"send_seconds": Spread([1, 0, 0], 1)}, {"a": {}})
    assert lasting(figures) == Figures(figures.counters, figures.histograms, {})


def test_figures_come_back_as_they_were_and_anything_else_is_refused() -> None:
    """Processes could not read what their siblings left."""
    histogram = Histogram((1, 2))
    histogram.observe(1.5)
    figures = Figures({"a": {"x": 1}}, {"b": spread_of(histogram)}, {"c": {"": 0.5}})
    assert decode(encode(figures)) == figures
    with pytest.raises(ValueError, match="Expected `object`"):
        decode(b'{"counters": 1}')


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_named_and_explained_by_prometheus_conventions(metric: Metric) -> None:
    """Dashboards of others would not find it, or take milliseconds for seconds."""
    assert metric.name.startswith("parley_")
    assert metric.name.endswith("_total") is (metric.kind == "counter")
    assert bool(metric.bounds) is (metric.kind == "histogram")
    assert metric.kind != "histogram" or metric.name.endswith("_seconds")
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert metric.help[0].isupper()
    assert metric.help.endswith(".")
    assert metric.label in {"", "outcome", "reason", "state", "partition"}
