"""Hears of new inbox entries: one blocking read over every partition a worker owns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from service.model import EntryId, Partition
from service.store.connection import translated
from service.store.keys import PartitionKeys
from service.store.partition import Entry, read_entries

if TYPE_CHECKING:
    from redis.asyncio import Redis

START = EntryId("0-0")
"""Before the first entry of any stream."""


class Arrivals:
    """Waits for inbox entries.

    client: a Redis client of its own, as a blocked read keeps its connection to itself.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def wait(
        self, after: Mapping[Partition, EntryId], *, block_ms: int, count: int
    ) -> dict[Partition, Sequence[Entry]]:
        """Return entries behind the given ids, oldest first, waiting up to block_ms for the first.

        after: by partition, the last id already seen. count: most entries per partition.
        Raises StoreUnavailable.
        """
        streams = {PartitionKeys(p).inbox: p for p in after}
        with translated():
            found: Any = await self._client.xread(
                {stream: after[p] for stream, p in streams.items()},
                count=count,
                block=block_ms,
            )
        rows = found.items() if isinstance(found, dict) else found or []
        return {streams[stream.decode()]: read_entries(_flat(page)) for stream, page in rows}


def _flat(page: Sequence) -> Sequence:  # type: ignore[type-arg]
    """RESP3 answers nest a stream's entries one level deeper than RESP2's."""
    return (
        page[0]
        if page and isinstance(page[0], list) and page[0] and isinstance(page[0][0], tuple)
        else page
    )
