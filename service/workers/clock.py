"""Times of a worker: its waits go by a clock that nobody sets, what outlives it by Redis's.

A machine's wall clock may be hours off; it decides nothing here.
"""

from __future__ import annotations

import time

from service.model import EntryId

PUT_BACK_S = 5.0
"""How far a stored time may lie ahead where none can: the nodes of a Cluster, and a server and the
replica that takes over from it, are taken to agree within a few seconds."""

LONG_AGO_S = 3_600.0
"""Taken for the age of what lies further ahead: Redis's clock was put back, and nobody knows by how
much. More rows of the connector's log are read for it than need be, which does no harm."""


def now_ms() -> int:
    """Return what this machine's clock shows, ms since the epoch."""
    return time.time_ns() // 1_000_000


def ticks_ms() -> int:
    """Return milliseconds of a clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000


def entered_ms(entry: EntryId) -> int:
    """Return when an entry was put into its queue, ms since the epoch by Redis's clock."""
    return int(entry.partition("-")[0])


def due_by(stored: float, longest_ms: int) -> float:
    """Return when something put off is due, both time.monotonic.

    stored: as it was kept. longest_ms: longest wait there is; a jump of Redis's clock makes none
        longer.
    """
    return min(stored, time.monotonic() + longest_ms / 1000)


def happened_by(stored: float) -> tuple[float, float]:
    """Return the earliest and the latest that a stored moment can have been; time.monotonic."""
    now = time.monotonic()
    ahead = stored > now + PUT_BACK_S
    return now - LONG_AGO_S if ahead else min(stored, now), min(stored, now)
