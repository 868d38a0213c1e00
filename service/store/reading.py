"""Blocking reads of streams, for `arrivals`: one for all of them, or in a Cluster one for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from service.errors import StoreUnavailable
from service.model import EntryId
from service.store.backlog import Entry, read_entries
from service.store.client import ANSWER_TIMEOUT_S
from service.store.failures import translated

if TYPE_CHECKING:
    from redis.typing import KeyT, StreamIdT

    from service.store.plain_cluster import PlainCluster
    from service.store.server import Server

log = structlog.get_logger()

RETRY_S = 0.5
"""Pause before a stream is read again after its node failed; the others are read meanwhile."""


class Reader(Protocol):
    """Waits for entries of streams."""

    async def wait(
        self, after: Mapping[str, EntryId], *, block_ms: int, count: int
    ) -> dict[str, Sequence[Entry]]:
        """Return entries behind the given ids, by stream, waiting up to block_ms for the first.

        Raises StoreUnavailable. Cancelled, it has lost nothing.
        """

    async def aclose(self) -> None:
        """End the reads under way."""


class OneRead:
    """Reads all streams of one server at once."""

    def __init__(self, client: Server) -> None:
        self._client = client

    async def wait(
        self, after: Mapping[str, EntryId], *, block_ms: int, count: int
    ) -> dict[str, Sequence[Entry]]:
        """Wait; see `Reader`."""
        streams: dict[KeyT, StreamIdT] = dict(after.items())
        with translated():
            async with asyncio.timeout(block_ms / 1000 + ANSWER_TIMEOUT_S):
                found = await self._client.xread(streams, count=count, block=block_ms)
        return {stream.decode(): entries for stream, entries in _pages(found)}

    async def aclose(self) -> None:
        """Do nothing: a read ends with whoever waits for it."""


class ReadsByStream:
    """Reads each stream of a Cluster on its own, as a read can't span slots.

    Those that wait are left waiting when another one is answered, and picked up by the next call.
    """

    def __init__(self, cluster: PlainCluster) -> None:
        self._cluster = cluster
        self._reads: dict[str, tuple[EntryId, asyncio.Task[Sequence[Entry]]]] = {}

    async def wait(
        self, after: Mapping[str, EntryId], *, block_ms: int, count: int
    ) -> dict[str, Sequence[Entry]]:
        """Wait; see `Reader`."""
        self._forget_stale(after)
        for stream, behind in after.items():
            if stream not in self._reads:
                read = asyncio.create_task(self._read(stream, behind, block_ms, count))
                read.add_done_callback(_mark_seen)
                self._reads[stream] = behind, read
        tasks = {read: stream for stream, (_, read) in self._reads.items()}
        done, _ = await asyncio.wait(
            tasks, timeout=block_ms / 1000, return_when=asyncio.FIRST_COMPLETED
        )
        found: dict[str, Sequence[Entry]] = {}
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
        return {stream: entries for stream, entries in found.items() if entries}

    async def aclose(self) -> None:
        """End the reads under way."""
        reads = [read for _, read in self._reads.values()]
        self._reads = {}
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    def _forget_stale(self, after: Mapping[str, EntryId]) -> None:
        for stream, (behind, read) in list(self._reads.items()):
            # A failure from before this call says nothing of now.
            failed = read.done() and read.exception() is not None
            if failed or after.get(stream) != behind:
                read.cancel()
                del self._reads[stream]

    async def _read(
        self, stream: str, behind: EntryId, block_ms: int, count: int
    ) -> Sequence[Entry]:
        command = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", stream, behind)
        try:
            with translated():
                async with asyncio.timeout(block_ms / 1000 + ANSWER_TIMEOUT_S):
                    [(answer,)] = await self._cluster.send([(stream, command)], ())
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
