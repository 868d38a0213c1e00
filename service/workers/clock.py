"""The wall clock that retry times are kept by, as they outlive the process."""

from __future__ import annotations

import time

from service.model import EntryId


def now_ms() -> int:
    """Return the time, ms since the epoch."""
    return time.time_ns() // 1_000_000


def entered_ms(entry: EntryId) -> int:
    """Return when an entry was put into its queue, ms since the epoch by Redis's clock."""
    return int(entry.partition("-")[0])


def due_at(ms: int) -> float:
    """Return what time.monotonic will be, or was, at a time, ms since the epoch."""
    return time.monotonic() + (ms - now_ms()) / 1000
