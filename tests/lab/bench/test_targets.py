"""Which targets a run is held against, and whether it met them."""

from __future__ import annotations

import pytest
from rich.console import Console

from service.cli.bench_runs import status_of
from service.lab.bench.figures import Arrival, Counted, Marker, Run, Sent, Usage
from service.lab.bench.report import Summary, summarize
from service.lab.bench.targets import Target, targets_as_json, targets_as_table, targets_of


def found(*, delay_ms: float | None = 50, **figures: float) -> dict[str, Target]:
    """Hold a run of one message against the targets; by name."""
    return {each.name: each for each in targets_of(summary_of(**figures), delay_ms)}


def summary_of(*, rate: float = 200, crossing_s: float = 0.002, mib: float = 59) -> Summary:
    """Summarize a run of one message."""
    marker = Marker("a", 0, 0)
    run = Run(
        rate=rate,
        sent=[Sent("new", marker, 10.0, 10.0, 10.001, 200)],
        arrivals=[Arrival(marker, 10.0 + crossing_s)],
        connector_here=True,
        window_s=1.0,
        usage=[Usage("parley serve", 2, 0.001, 2 * mib, 2 * mib), Usage("Redis", 1, 0.1, 900, 900)],
        counted=Counted(script_calls=5, script_trips=1, reads=1, commands={}),
        notes=(),
    )
    return summarize(run)


@pytest.mark.parametrize(
    ("crossing_s", "met"), [(0.0035, [True, True]), (0.0037, [False, True]), (0.02, [False, False])]
)
def test_times_are_held_against_the_peers_at_the_load_they_were_measured_at(
    crossing_s: float, met: list[bool]
) -> None:
    """A target met by a gentler load would be no news."""
    targets = found(crossing_s=crossing_s)

    assert [targets[f"to the connector, {each}"].met for each in ("p50", "p99")] == met


@pytest.mark.parametrize(("rate", "delay_ms"), [(100, 50), (200, 0), (200, None), (0, 50)])
def test_times_at_another_load_are_held_against_nothing(
    rate: float, delay_ms: float | None
) -> None:
    """They would be met or missed for reasons of the load."""
    assert not any("connector" in name for name in found(rate=rate, delay_ms=delay_ms))


def test_round_trips_count_at_full_load_alone() -> None:
    """Group commit has nothing to group when texts come one by one."""
    assert "Redis round trips a message" not in found()
    assert found(rate=0)["Redis round trips a message"].met


@pytest.mark.parametrize(("mib", "met"), [(90, True), (90.1, False)])
def test_memory_is_that_of_one_process_of_the_service(mib: float, *, met: bool) -> None:
    """Two processes may use twice as much; Redis may use what it likes."""
    assert found(mib=mib)["idle memory of a process"].met is met


def test_every_promise_is_a_target() -> None:
    """A fast service that loses a text has met nothing."""
    names = ("lost", "doubled", "out of order", "bad signatures let in")

    assert {name: found()[name].value for name in names} == dict.fromkeys(names, 0)


@pytest.mark.parametrize(("mib", "status"), [(59, 0), (90.1, 1)])
def test_a_missed_target_fails_the_run_that_is_for_targets(mib: float, status: int) -> None:
    """A pipeline that runs `parley bench --targets` would pass whatever it measures."""
    runs = [(summary_of(), 50.0), (summary_of(rate=0, mib=mib), None)]
    assert status_of(runs, hold_targets=True) == status
    assert status_of(runs) == 0


def test_a_missed_target_is_called_missed_for_people_and_for_scripts() -> None:
    """Somebody decides by it."""
    targets = [Target("p50", 4.25, 3.6, " ms"), Target("lost", 0, 0)]
    console = Console(width=100, record=True)
    with console.capture() as capture:
        console.print(targets_as_table(targets))
    lines = [line.split() for line in capture.get().splitlines()[1:]]

    assert lines == [["p50", "4.2", "ms", "3.6", "ms", "missed"], ["lost", "0", "0", "met"]]
    assert [each["met"] for each in targets_as_json(targets)] == [False, True]
