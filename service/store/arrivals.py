"""Hears of new inbox entries: blocking reads over every partition a worker owns, see `reading`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from service.model import EntryId, Partition
from service.store.backlog import Entry
from service.store.keys import PartitionKeys

if TYPE_CHECKING:
    from service.store.client import Redis

START = EntryId("0-0")
"""Before the first entry of any stream."""


class Arrivals:
    """Waits for inbox entries.

    client: a Redis client of its own, as a blocked read keeps its connection to itself.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._reader = client.reader()

    async def wait(
        self, after: Mapping[Partition, EntryId], *, block_ms: int, count: int
    ) -> dict[Partition, Sequence[Entry]]:
        """Return entries behind the given ids, oldest first, waiting up to block_ms for the first.

        after: by partition, the last id already seen. count: most entries per partition.
        Cancelled, it has lost nothing: what it would have returned is found again behind `after`.
        Raises StoreUnavailable.
        """
        partitions = {PartitionKeys(p).inbox: p for p in after}
        found = await self._reader.wait(
            {stream: after[p] for stream, p in partitions.items()}, block_ms=block_ms, count=count
        )
        return {partitions[stream]: entries for stream, entries in found.items()}

    async def aclose(self) -> None:
        """End the reads under way."""
        await self._reader.aclose()
