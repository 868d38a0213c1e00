"""The text of /metrics, as Prometheus' own tools read it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.core.metrics import METRICS, Metric
from service.core.tally import Figures, Histogram, spread_of
from service.web.internal.app import internal_app
from service.web.internal.metrics import render


def everything() -> Figures:
    """Figures of every metric there is."""
    figures = Figures({}, {}, {})
    for metric in METRICS.values():
        values = {"0" if metric.label else "": 3.0}
        if metric.kind == "histogram":
            histogram = Histogram(metric.bounds)
            for bound in metric.bounds:
                histogram.observe(bound)
            histogram.observe(metric.bounds[-1] + 1)
            figures.histograms[metric.name] = spread_of(histogram)
        else:
            {"counter": figures.counters, "gauge": figures.gauges}[metric.kind][metric.name] = (
                values
            )
    return figures


def test_promtool_has_nothing_to_say_about_the_metrics(promtool: str) -> None:
    """Names and units would not be those that dashboards and rules expect."""
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=render(everything()), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_read_back_as_it_was_counted(metric: Metric) -> None:
    """A bucket that is off by one makes every percentile a lie."""
    families = {f.name: f for f in text_string_to_metric_families(render(everything()).decode())}
    family = families[metric.name.removesuffix("_total")]
    assert (family.type, family.documentation) == (metric.kind, metric.help)
    if metric.kind == "histogram":
        buckets = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
        expected = {str(float(bound)): n for n, bound in enumerate(metric.bounds, start=1)}
        count = len(metric.bounds) + 1
        assert buckets == expected | {"+Inf": count}
        told = {s.name: s.value for s in family.samples if not s.name.endswith("_bucket")}
        total = sum(metric.bounds) + metric.bounds[-1] + 1
        assert told == {
            f"{metric.name}_count": count,
            f"{metric.name}_sum": pytest.approx(total),
        }
    else:
        labels = {metric.label: "0"} if metric.label else {}
        assert [(s.name, s.labels, s.value) for s in family.samples] == [(metric.name, labels, 3)]


def test_what_was_not_counted_is_not_shown() -> None:
    """A door that handles no texts would show a rate of none, as if its workers stood still."""
    assert render(Figures()) == b""


@pytest.mark.anyio
async def test_the_internal_listener_shows_the_figures(serve: Callable[[Any], Any]) -> None:
    """Prometheus would find nothing to scrape."""

    async def gather() -> Figures:
        return Figures(counters={"parley_texts_total": {"answered": 2}})

    async def ready() -> dict[str, Any]:
        return {}

    async with (
        serve(internal_app(ready, gather=gather)) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as client,
    ):
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'parley_texts_total{outcome="answered"} 2.0' in answer.text.splitlines()
