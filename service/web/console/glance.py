"""Looks at the deployment for whoever has the overview open: once for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from service.core.tally import Figures
from service.operate.overview import Checked, Overview, overview_of

FRESH_S = 1.0
"""A look younger than this serves the next one who asks."""


class Glance:
    """The overview, at most `fresh_s` old.

    readiness: what /readyz looks at; it answers in time, whatever happens.
    gather: gathers what /metrics shows.
    """

    def __init__(
        self,
        readiness: Callable[[], Awaitable[Mapping[str, Checked]]],
        gather: Callable[[], Awaitable[Figures]],
        *,
        fresh_s: float = FRESH_S,
    ) -> None:
        self._readiness = readiness
        self._gather = gather
        self._fresh_s = fresh_s
        self._looking = asyncio.Lock()
        self._last: Overview | None = None
        self._at = 0.0

    async def look(self) -> Overview:
        """Return how the deployment stands."""
        async with self._looking:
            if self._last is None or time.monotonic() - self._at >= self._fresh_s:
                checks, figures = await asyncio.gather(self._readiness(), self._gather())
                self._last, self._at = overview_of(checks, figures), time.monotonic()
            return self._last
