"""One owned partition at work: what was left is restored, new entries come in, until it is over.

Crash-only: whatever can't go on (Redis away, an answer lost) ends the round, and the next one
starts from what Redis holds. Nothing is repaired in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from service.errors import LeaseLost, StoreError
from service.model import EntryId, Partition
from service.store.arrivals import START
from service.store.backlog import Entry, Later, may_have_notes
from service.store.partition import PartitionStore
from service.workers.handling import Handling, Processor, SettledUnseen
from service.workers.lanes import Lanes
from service.workers.replies import Sending
from service.workers.sending import Sender

log = structlog.get_logger()

RESTART_S = 0.25
"""Pause before a partition is read again after a failure."""

POST_GRACE_S = 1.0
"""What a POST under way gets after a failure: its answer spares a doubt. Handlers get nothing, as
the store's answers can't be trusted any more."""


class Bookmark(NamedTuple):
    """A place in the inbox: which round of the owner reads, and the last entry it took in."""

    round: int
    entry: EntryId


class Owner:
    """Runs one partition under one lease.

    store: the partition, with the lease's token. lease_s: how long the lease lasts unrenewed.
    renewed: when it was asked for (time.monotonic).
    left_running: at its end a handler was left behind that ends with the process alone.
    changed: called when `bookmark` appears, goes or moves back, so that the reader starts over.
    """

    def __init__(
        self,
        store: PartitionStore,
        handling: Handling,
        sending: Sending,
        changed: Callable[[], None],
        *,
        lease_s: float,
        renewed: float,
    ) -> None:
        self._lease_s = lease_s
        self._renewed = renewed
        self._store = store
        self._handling = handling
        self._sending = sending
        self._changed = changed
        self._failure: asyncio.Future[BaseException] | None = None
        self._noted_to: EntryId | None = None
        self._handler: Processor | None = None
        self._stopping = asyncio.Event()
        self._grace_s = 0.0
        self._grace_ends = 0.0
        self._position: EntryId | None = None
        self.left_running = False
        self._rounds = 0
        self._restarts = 0

    @property
    def partition(self) -> Partition:
        """Which one."""
        return self._store.partition

    @property
    def token(self) -> str:
        """The lease it runs under."""
        return self._store.token

    @property
    def stopping(self) -> asyncio.Event:
        """Set once it was asked to end."""
        return self._stopping

    @property
    def bookmark(self) -> Bookmark | None:
        """Where in the inbox to read on; None while the partition is not read."""
        return Bookmark(self._rounds, self._position) if self._position else None

    @property
    def room(self) -> bool:
        """Whether it takes in more: not while enough that was read waits for a lane."""
        return self._handler is not None and self._handler.room

    @property
    def expired(self) -> bool:
        """Whether the lease may have run out, by our own clock, as far as we were told."""
        return time.monotonic() - self._renewed > self._lease_s

    def renewed(self, asked: float) -> None:
        """Note that a renewal asked for at this time (time.monotonic) was granted."""
        self._renewed = asked

    async def run(self) -> None:
        """Work until `stop` or until the lease is lost. Nothing is under way when it returns.

        Nor when it raises, which is a defect here; it may be run again.
        """
        while not self._stopping.is_set():
            try:
                await self._round()
            except LeaseLost:
                log.warning("partition lost to another worker", partition=self.partition)
                return
            except StoreError as error:
                log.warning("partition starts over", partition=self.partition, error=str(error))
                self._handling.counts.restarts += 1
                await asyncio.sleep(RESTART_S)
            except SettledUnseen:
                continue

    def stop(self, grace_s: float) -> None:
        """Ask `run` to end; handlers and POSTs under way get `grace_s` seconds to finish."""
        self._grace_s = grace_s
        self._grace_ends = time.monotonic() + grace_s
        self._stopping.set()

    async def take(self, entries: Sequence[Entry], bookmark: Bookmark) -> None:
        """Take in entries read behind `bookmark`, oldest first.

        Ignored when it is not today's: the partition started over while they were on their way.
        """
        handler = self._handler
        if handler is None or bookmark != self.bookmark:
            return
        try:
            later, tries = await self._notes(entries)
            for entry in entries:
                if self._handler is not handler:
                    return  # Its round ended; the next one reads from the start.
                self._position = entry.id
                await handler.offer(entry, later.get(entry.id), tries=tries.get(entry.id, 0))
        except Exception as error:  # noqa: BLE001  (the round raises it: this partition's alone)
            self._fail(error)

    async def _notes(
        self, entries: Sequence[Entry]
    ) -> tuple[Mapping[EntryId, Later], Mapping[EntryId, int]]:
        """Read what earlier owners noted of entries; what came since has no notes."""
        if not entries or not may_have_notes(entries[0].id, self._noted_to):
            return {}, {}
        return await self._store.notes([entry.id for entry in entries])

    def _check_lease(self) -> None:
        if self.expired:
            raise LeaseLost(f"the lease on partition {self.partition} may have run out")

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    async def _round(self) -> None:
        self._failure = asyncio.get_running_loop().create_future()
        sender = Sender(self._store, self._sending, self._check_lease, self._fail)
        handler = Processor(self._store, sender, self._handling, self._fail, lambda: self.expired)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            if self._restarts:
                # What an earlier round sent and gave up on could still be carried out, behind the
                # back of this one.
                await self._store.restart(self._restarts)
            backlog = await self._store.backlog()
            await sender.restore(backlog)
            # Of the rest, the outbox above all, the sender keeps what it needs.
            self._noted_to = backlog.noted_to
            del backlog
            self._handler = handler
            self._rounds += 1
            self._position = START
            self._changed()
            await self._while_leased(stopping, self._failure)
        finally:
            self._restarts += 1
            stopping.cancel()
            self._position = None
            self._handler = None
            self._changed()
            failed = self._failure.done()
            await self._close(handler.lanes, 0 if failed else self._grace_left())
            self.left_running = handler.left_running
            # A handler that took all of the grace leaves the POST of its reply a little.
            left_s = max(min(POST_GRACE_S, self._grace_s), self._grace_left())
            await self._close(sender.lanes, POST_GRACE_S if failed else left_s)
        if failed:
            raise self._failure.result()
        self._check_lease()

    def _grace_left(self) -> float:
        return max(0.0, self._grace_ends - time.monotonic())

    async def _close(self, lanes: Lanes, grace_s: float) -> None:
        """Close lanes; the grace ends with the lease."""
        closing = asyncio.ensure_future(lanes.close(grace_s))
        await self._while_leased(closing)
        await lanes.close(0)
        await closing

    async def _while_leased(self, *ends: asyncio.Future[Any]) -> None:
        """Wait for one of `ends`, or until the lease may have run out, whichever comes first.

        By our own clock: when Redis can't be reached nobody tells us that others have taken over.
        """
        while not self.expired and not any(end.done() for end in ends):
            left_s = self._renewed + self._lease_s - time.monotonic()
            await asyncio.wait(ends, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
