"""The wall clock that retry times are kept by, as they outlive the process."""

from __future__ import annotations

import asyncio
import time

from service.model import EntryId


def now_ms() -> int:
    """Return the time, ms since the epoch."""
    return time.time_ns() // 1_000_000


def entered_ms(entry: EntryId) -> int:
    """Return when an entry was put into its queue, ms since the epoch by Redis's clock."""
    return int(entry.partition("-")[0])


async def sleep_until(ms: int) -> None:
    """Sleep until a time, ms since the epoch; returns at once when it is past."""
    await asyncio.sleep(max(0, ms - now_ms()) / 1000)
