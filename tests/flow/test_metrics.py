"""/metrics of a running service: true over its processes, their deaths and Redis's absence."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.core.metrics import METRICS
from tests.flow.conftest import Deployment, until

Figures = dict[tuple[str, str], float]
"""Values by a sample's name and the value of its label, "" without one; buckets left out."""


def scrape(deployment: Deployment, timeout_s: float = 10) -> tuple[Figures, str]:
    """Ask for /metrics; returns its samples and its text."""
    url = f"{deployment.internal}/metrics"
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310  (loopback)
        text = answer.read().decode()
    figures = {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }
    return figures, text


def counters_of(figures: Figures) -> Figures:
    """Keep what must never go backwards."""
    return {
        key: value
        for key, value in figures.items()
        if key[0].endswith(("_total", "_count", "_sum"))
    }


def processes_of(service: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Find the processes that a supervisor runs, its Redis left out."""
    children = psutil.Process(service.pid).children()
    return [each for each in children if "redis" not in each.name().lower()]


def backwards(before: Figures, after: Figures) -> dict[tuple[str, str], Any]:
    """Find counters that went back, or away."""
    return {
        key: (value, after.get(key))
        for key, value in counters_of(before).items()
        if after.get(key, -1) < value - 1e-9
    }


def test_a_text_is_in_every_metric_it_belongs_to_and_nobody_is_named(
    deployment: Deployment,
) -> None:
    """An operator would not see from outside whether texts are answered, or would see of whom."""
    deployment.serve()
    sid = deployment.text("echo a secret text")["sid"]
    until(lambda: len(deployment.replies()) == 1)
    assert deployment.text("/metrics", theirs="+15005550199")["status"] == 200
    until(lambda: len(deployment.replies()) == 2)
    until(lambda: scrape(deployment)[0]["parley_replies_total", "sent"] == 2)
    figures, text = scrape(deployment)
    assert figures["parley_callbacks_total", "accepted"] == 2
    assert figures["parley_acknowledgement_seconds_count", ""] == 2
    assert figures["parley_texts_total", "answered"] == 2
    assert figures["parley_handler_seconds_count", ""] == 2
    assert figures["parley_send_seconds_count", ""] == 2
    assert figures["parley_callback_to_reply_seconds_count", ""] == 2
    assert 0 < figures["parley_callback_to_reply_seconds_sum", ""] < 20
    assert figures["parley_redis_round_trip_seconds_count", ""] > 0
    assert figures["parley_partitions_owned", ""] == 16
    assert figures["parley_leases_taken_total", ""] == 16
    assert figures["parley_leases_lost_total", ""] == 0
    assert figures["parley_breaker_processes", "closed"] == 1
    assert figures["parley_instance_ready", ""] == 1
    assert figures["parley_redis_up", ""] == 1
    assert {figures["parley_inbox_messages", str(p)] for p in range(16)} == {0}
    assert (figures["parley_processes", ""], figures["parley_processes_wanted", ""]) == (1, 1)
    assert sid not in text
    assert not re.search(r"\+?1?500555|secret", text)
    exposed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert exposed == set(METRICS)


def test_what_waits_is_told_by_partition_with_its_age(deployment: Deployment) -> None:
    """A backlog that grows would be seen when the first customer complains."""
    deployment.serve("--role", "web")
    for number in range(3):
        assert deployment.text("hello", theirs="+15005550123")["status"] == 200, number
    time.sleep(1.1)
    figures, _ = scrape(deployment)
    waiting = {label: n for (name, label), n in figures.items() if name == "parley_inbox_messages"}
    (partition,) = [label for label, count in waiting.items() if count]
    assert (len(waiting), waiting[partition]) == (16, 3)
    assert 1 < figures["parley_inbox_oldest_seconds", partition] < 20
    others = [figures["parley_inbox_oldest_seconds", each] for each in waiting if each != partition]
    assert set(others) == {0}
    assert not any(name.startswith("parley_texts_total") for name, _ in figures)


@pytest.mark.long
def test_several_processes_are_one_and_a_killed_one_takes_no_counter_with_it(
    deployment: Deployment,
) -> None:
    """Rates over a restart would be nonsense, and a dead process own partitions for ever."""
    service = deployment.serve("--processes", "2")
    until(lambda: scrape(deployment)[0].get(("parley_processes", ""), 0) == 2)
    until(lambda: scrape(deployment)[0]["parley_partitions_owned", ""] == 16)
    for number in range(20):
        deployment.text("echo", theirs=f"+150055501{number:02d}")
    until(lambda: len(deployment.replies()) == 20)
    until(lambda: scrape(deployment)[0]["parley_replies_total", "sent"] == 20)
    # Whichever of them answers.
    for _ in range(20):
        seen, _ = scrape(deployment)
        assert seen["parley_callbacks_total", "accepted"] == 20
        assert seen["parley_texts_total", "answered"] == 20
        assert seen["parley_acknowledgement_seconds_count", ""] == 20
        assert seen["parley_processes_wanted", ""] == 2

    seen, _ = scrape(deployment)
    for victim in processes_of(service):
        os.kill(victim.pid, signal.SIGKILL)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            now, _ = scrape(deployment)
            assert backwards(seen, now) == {}
            seen = now
            time.sleep(0.05)
    until(lambda: scrape(deployment)[0]["parley_partitions_owned", ""] == 16)
    for number in range(20):
        deployment.text("echo", theirs=f"+150055501{number:02d}")
    until(lambda: scrape(deployment)[0]["parley_replies_total", "sent"] == 40)
    now, _ = scrape(deployment)
    assert backwards(seen, now) == {}
    assert now["parley_texts_total", "answered"] == 40
    assert now["parley_leases_taken_total", ""] > 16


@pytest.mark.long
def test_a_process_that_is_frozen_is_not_counted_and_its_counters_stay(
    deployment: Deployment,
) -> None:
    """Half of the service could stand still and /metrics say that all is well."""
    service = deployment.serve("--processes", "2")
    until(lambda: scrape(deployment)[0].get(("parley_processes", ""), 0) == 2)
    seen, _ = scrape(deployment)
    frozen = processes_of(service)[0]
    frozen.suspend()
    try:
        # A connection that the frozen one has taken is not answered; the next one may be.
        until(lambda: _of_one(deployment, seen), within_s=30)
    finally:
        frozen.resume()
    until(lambda: scrape(deployment)[0]["parley_processes", ""] == 2)


def _of_one(deployment: Deployment, before: Figures) -> bool:
    try:
        figures, _ = scrape(deployment, timeout_s=1)
    except OSError:
        return False
    assert figures["parley_processes_wanted", ""] == 2
    assert backwards(before, figures) == {}
    return figures["parley_processes", ""] == 1


def test_a_redis_that_is_away_leaves_what_is_known_in_memory(redis_hangs: Deployment) -> None:
    """The moment of an outage is the one that metrics are for."""
    deployment = redis_hangs
    began = time.monotonic()
    figures, _ = scrape(deployment)
    assert time.monotonic() - began < 5
    assert figures["parley_redis_up", ""] == 0
    assert figures["parley_callbacks_total", "accepted"] == 1
    assert ("parley_inbox_messages", "0") not in figures
    assert ("parley_dead_letters", "") not in figures


@pytest.fixture
def redis_hangs(deployment: Deployment) -> Iterator[Deployment]:
    """A deployment that has answered a text, and whose own Redis hangs since."""
    service = deployment.serve()
    deployment.text("echo")
    until(lambda: len(deployment.replies()) == 1)
    (server,) = [
        each for each in psutil.Process(service.pid).children() if "redis" in each.name().lower()
    ]
    server.suspend()
    yield deployment
    server.resume()
