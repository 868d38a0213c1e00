"""Up to when every text is known to be in an inbox, whether a callback brought it or a backfill.

By the clock of the connector's log, which it is compared with.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from service.store.failures import translated
from service.store.keys import BACKFILL_LOCK, COVERED, FIRST_START, OUR_NUMBERS
from service.store.locks import locked

if TYPE_CHECKING:
    from service.store.client import Redis


class Watermark:
    """Keeps the moment. Every method raises StoreUnavailable."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def load(self) -> datetime | None:
        """Return it; None in a deployment that has not begun yet."""
        with translated():
            covered_ms = await self._client.get(COVERED)
        return None if covered_ms is None else datetime.fromtimestamp(int(covered_ms) / 1000, UTC)

    async def save(self, covered: datetime) -> None:
        """Keep it. covered: aware."""
        with translated():
            await self._client.set(COVERED, int(covered.timestamp() * 1000))

    async def first(self, now: datetime) -> datetime:
        """Return when this deployment first began; `now`, if it does so now."""
        # Whole seconds: the dates of the log have no others.
        with translated():
            await self._client.set(FIRST_START, int(now.timestamp()) * 1000, nx=True)
            first_ms = await self._client.get(FIRST_START)
        return datetime.fromtimestamp(int(first_ms or 0) / 1000, UTC)

    async def numbers(self) -> frozenset[str]:
        """Return the numbers that are known as ours."""
        with translated():
            found = await self._client.smembers(OUR_NUMBERS)
        return frozenset(number.decode() for number in found)

    async def learn(self, numbers: Collection[str]) -> None:
        """Keep numbers as ours."""
        if numbers:
            with translated():
                await self._client.sadd(OUR_NUMBERS, *numbers)

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Let one process at a time read the log; waits for it. Raises LockLost, too."""
        return locked(self._client, BACKFILL_LOCK)
