"""Hears of new inbox entries: one blocking read over every partition a worker owns.

In a Cluster a read can't span partitions: each has its own, on its own connection. They are left
waiting when another partition's is answered, and picked up by the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from service.errors import StoreUnavailable
from service.model import EntryId, Partition
from service.store.backlog import Entry, read_entries
from service.store.cluster import Cluster, slot_of
from service.store.connection import ANSWER_TIMEOUT_S, translated
from service.store.keys import PartitionKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

START = EntryId("0-0")
"""Before the first entry of any stream."""

RETRY_S = 0.5
"""Pause before a partition is read again after its node failed; the others are read meanwhile."""


class Arrivals:
    """Waits for inbox entries.

    client: a Redis client of its own, as a blocked read keeps its connection to itself.
    """

    def __init__(self, client: Redis | Cluster) -> None:
        self._client = client
        self._reads: dict[Partition, tuple[EntryId, asyncio.Task[Sequence[Entry]]]] = {}

    async def wait(
        self, after: Mapping[Partition, EntryId], *, block_ms: int, count: int
    ) -> dict[Partition, Sequence[Entry]]:
        """Return entries behind the given ids, oldest first, waiting up to block_ms for the first.

        after: by partition, the last id already seen. count: most entries per partition.
        Cancelled, it has lost nothing: what it would have returned is found again behind `after`.
        Raises StoreUnavailable.
        """
        if isinstance(self._client, Cluster):
            return await self._wait_for_any(self._client, after, block_ms, count)
        partitions = {PartitionKeys(p).inbox.encode(): p for p in after}
        with translated():
            async with asyncio.timeout(block_ms / 1000 + ANSWER_TIMEOUT_S):
                found: Any = await self._client.xread(
                    {stream: after[p] for stream, p in partitions.items()},
                    count=count,
                    block=block_ms,
                )
        return {partitions[stream]: entries for stream, entries in _pages(found)}

    async def aclose(self) -> None:
        """End the reads under way."""
        reads = [read for _, read in self._reads.values()]
        self._reads = {}
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    async def _wait_for_any(
        self, cluster: Cluster, after: Mapping[Partition, EntryId], block_ms: int, count: int
    ) -> dict[Partition, Sequence[Entry]]:
        for partition, (behind, read) in list(self._reads.items()):
            # A failure from before this call says nothing of now.
            stale = read.done() and read.exception() is not None
            if stale or after.get(partition) != behind:
                read.cancel()
                del self._reads[partition]
        for partition, behind in after.items():
            if partition not in self._reads:
                read = asyncio.create_task(_read(cluster, partition, behind, block_ms, count))
                read.add_done_callback(_mark_seen)
                self._reads[partition] = behind, read
        tasks = {read: partition for partition, (_, read) in self._reads.items()}
        done, _ = await asyncio.wait(
            tasks, timeout=block_ms / 1000, return_when=asyncio.FIRST_COMPLETED
        )
        found: dict[Partition, Sequence[Entry]] = {}
        failure: StoreUnavailable | None = None
        for read in done:
            del self._reads[tasks[read]]
            try:
                found[tasks[read]] = read.result()
            except StoreUnavailable as error:
                failure = error
        if failure is not None and not found and not self._reads:
            raise failure
        if failure is not None:
            log.warning("some inboxes can't be read at the moment", error=str(failure))
        return {partition: entries for partition, entries in found.items() if entries}


async def _read(
    cluster: Cluster, partition: Partition, behind: EntryId, block_ms: int, count: int
) -> Sequence[Entry]:
    inbox = PartitionKeys(partition).inbox
    command = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", inbox, behind)
    try:
        with translated():
            async with asyncio.timeout(block_ms / 1000 + ANSWER_TIMEOUT_S):
                [(answer,)] = await cluster.send([(slot_of(inbox), command)], ())
            if isinstance(answer, Exception):
                raise answer
    except StoreUnavailable:
        await asyncio.sleep(RETRY_S)
        raise
    return next((entries for _, entries in _pages(answer)), ())


def _mark_seen(read: asyncio.Task[Sequence[Entry]]) -> None:
    """Keep asyncio from reporting the failure of a read that nobody asks after any more."""
    if not read.cancelled():
        read.exception()


def _pages(found: Any) -> Iterable[tuple[bytes, Sequence[Entry]]]:
    rows = found.items() if isinstance(found, dict) else found or []
    return ((stream, read_entries(_flat(page))) for stream, page in rows)


def _flat(page: Sequence) -> Sequence:  # type: ignore[type-arg]
    """RESP3 answers nest a stream's entries one level deeper than RESP2's."""
    return (
        page[0]
        if page and isinstance(page[0], list) and page[0] and isinstance(page[0][0], tuple)
        else page
    )
