"""The targets the project sets itself, and whether a run has met them. Pure.

Those that need other products running beside this one are not here: a run of ours alone can't
tell them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from service.lab.bench.report import SERVED, Summary

STEADY_RATE = 200.0
STEADY_DELAY_MS = 50.0
"""Load, callbacks a second, and the connector's delay that the times are stated for."""

TO_CONNECTOR_P50_MS = 3.6
TO_CONNECTOR_P99_MS = 19.0
"""What Node.js, BullMQ and undici took for the same, measured side by side on two cores."""

TRIPS_PER_MESSAGE = 2.0
"""Redis round trips from the callback to the recorded reply, at load."""

IDLE_MIB = 90.0
"""Resident memory of a process that waits."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target and what was measured. limit: the value must not be above it."""

    name: str
    value: float
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the run met it."""
        return self.value <= self.limit


def targets_of(summary: Summary, delay_ms: float | None) -> list[Target]:
    """Hold a run against the targets that are stated for a load like its own.

    delay_ms: what the connector waited, None when that is not known.
    """
    return [*_promises(summary), *_times(summary, delay_ms), *_means(summary)]


def targets_as_json(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Return the targets as plain values."""
    return [asdict(each) | {"met": each.met} for each in targets]


def targets_as_table(targets: Sequence[Target]) -> Table:
    """Lay the targets out for people."""
    table = Table("target", "measured", "at most", "", box=None, pad_edge=False)
    for each in targets:
        digits = 1 if each.unit or each.limit else 0
        table.add_row(
            each.name,
            f"{each.value:,.{digits}f}{each.unit}",
            f"{each.limit:g}{each.unit}",
            "met" if each.met else "missed",
            style="green" if each.met else "red",
        )
    return table


def _promises(summary: Summary) -> Iterator[Target]:
    promises = summary.promises
    for name, broken in (
        ("lost", promises.lost),
        ("doubled", promises.doubled),
        ("out of order", promises.out_of_order),
        ("bad signatures let in", promises.forged),
    ):
        if broken is not None:
            yield Target(name, broken, 0)


def _times(summary: Summary, delay_ms: float | None) -> Iterator[Target]:
    crossing = summary.to_connector
    if (summary.rate, delay_ms) == (STEADY_RATE, STEADY_DELAY_MS) and crossing is not None:
        yield Target("to the connector, p50", crossing.p50, TO_CONNECTOR_P50_MS, " ms")
        yield Target("to the connector, p99", crossing.p99, TO_CONNECTOR_P99_MS, " ms")


def _means(summary: Summary) -> Iterator[Target]:
    if not summary.rate and summary.trips_per_message is not None:
        yield Target("Redis round trips a message", summary.trips_per_message, TRIPS_PER_MESSAGE)
    for each in summary.usage:
        if each.name == SERVED and each.idle_rss_mb is not None:
            resident = each.idle_rss_mb / each.processes
            yield Target("idle memory of a process", resident, IDLE_MIB, " MiB")
