"""Finds the replies of a run in the sandbox's record of what reached the connector."""

from __future__ import annotations

import asyncio
import time

from service.lab.bench.control import Control
from service.lab.bench.figures import Arrival, Marker

PATIENCE_S = 15.0
"""Longest wait for the next reply before the missing ones count as lost: longer than a lease."""

POLL_S = 0.05
PAGE = 5_000


class ReplyLog:
    """The replies that reached the connector: the sandbox's /sandbox/replies."""

    def __init__(self, address: str) -> None:
        self._control = Control(address.rstrip("/"), "the connector's log")
        self._seen = 0

    async def begin(self, delay_ms: float | None) -> None:
        """Forget what is there already; delay_ms: make every answer wait, None to leave it."""
        if delay_ms is not None:
            await self._control.post("/sandbox/trouble", {"count": -1, "latency_ms": delay_ms})
        self._seen = await self._received()

    async def wait_for(self, run: str, accepted: set[int]) -> bool:
        """Wait until every accepted message has its reply, or nothing comes any more.

        Counts them first: reading them all would cost the sandbox time it is measured in.
        Returns whether all have come.
        """
        missing, known = len(accepted), self._seen
        last, changed = known, time.monotonic()
        while True:
            received = await self._received()
            now = time.monotonic()
            if received != last:
                last, changed = received, now
            stalled = now - changed > PATIENCE_S
            if received - known >= missing or stalled:
                found = {each.marker.number for each in await self.arrivals(run)}
                missing, known = len(accepted - found), received
                if not missing or stalled:
                    return not missing
            await asyncio.sleep(POLL_S)

    async def arrivals(self, run: str) -> list[Arrival]:
        """Return the run's replies, in order of arrival."""
        found, after = [], self._seen
        while True:
            page = await self._control.get(f"/sandbox/replies?after={after}&count={PAGE}")
            for reply in page["replies"]:
                after = reply["arrival"]
                marker = Marker.find(reply["body"])
                if marker is not None and marker.run == run:
                    found.append(Arrival(marker, reply["moment_s"]))
            if not page["replies"]:
                return found

    async def aclose(self) -> None:
        """Close the connection."""
        await self._control.aclose()

    async def _received(self) -> int:
        return int((await self._control.get("/sandbox/replies"))["received"])
