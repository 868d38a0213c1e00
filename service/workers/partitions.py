"""Which partitions this worker owns: shares them evenly with the others, renews, hands over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from service.core.causes import cause_of
from service.core.sharing import share_of
from service.errors import StoreError
from service.model import Partition
from service.store.arrivals import Arrivals
from service.store.leases import Leases
from service.workers.counts import Counts
from service.workers.owner import Owner
from service.workers.supervised import Tasks, paused

log = structlog.get_logger()

TICK_S = 0.5
"""How often a worker looks at who else is there: bounds a hand-over to two ticks and the grace."""

RENEWALS = 3.3
"""Renewals in a lease's time: 1.2 s apart for 4 s, so that two can fail before it runs out."""

HAND_OVER_GRACE_S = 1.0
"""What a handler or POST under way gets when its partition goes to another living worker."""

BLOCK_MS = 1_000
READ_COUNT = 200

HELD_BACK_MS = 20
"""How long a read may block while the inbox of another partition is not read, as enough of it is in
memory. That lasts a little longer than this if handlers are quick."""


MakeOwner = Callable[[Partition, str, float, Callable[[], None]], Owner]
"""Builds the runner of a partition from: the partition, the lease token, when that was asked for
(time.monotonic), and what to call when the reader has to start over."""


class Partitions:
    """Owns a fair share of the deployment's partitions and runs them.

    count: partitions of the deployment. lease_s: how long a lease lasts unrenewed.
    counts: where leases taken and lost are counted. tasks: keeps what runs here running.
    """

    def __init__(
        self,
        leases: Leases,
        arrivals: Arrivals,
        make_owner: MakeOwner,
        *,
        count: int,
        lease_s: float,
        counts: Counts | None = None,
        tasks: Tasks | None = None,
    ) -> None:
        self._leases = leases
        self._tasks = tasks or Tasks()
        self._counts = counts or Counts()
        self._arrivals = arrivals
        self._make_owner = make_owner
        self._count = count
        self._renew_s = lease_s / RENEWALS
        self._owners: dict[Partition, tuple[Owner, asyncio.Task[None]]] = {}
        self._leaving: dict[Partition, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    @property
    def owned(self) -> Sequence[Partition]:
        """The partitions this worker runs now, sorted."""
        return sorted(self._owners)

    async def run(self, stop: asyncio.Event, grace_s: float) -> None:
        """Own and run partitions until `stop` is set, then hand all of them over.

        grace_s: what handlers and POSTs under way get to finish at the end.
        """
        reader = self._tasks.start("the reader of inboxes", self._read, answers=True)
        try:
            share = partial(self._share, stop)
            await self._tasks.keep("the leases", share, stop=stop, answers=True)
        finally:
            await self._give_up_all(grace_s)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            try:
                await self._leases.leave()
            except StoreError as error:
                log.warning("left without signing off", error=str(error))

    async def _share(self, stop: asyncio.Event) -> None:
        """Hold the share of the partitions that is ours, until `stop` is set."""
        renewed = -self._renew_s
        while not stop.is_set():
            try:
                due = time.monotonic() - renewed >= self._renew_s
                await self._tick(renew=due)
                if due:
                    renewed = time.monotonic()
            except StoreError as error:
                log.warning("leases can't be kept at the moment", error=str(error))
            await paused(min(TICK_S, self._renew_s), stop)

    async def _tick(self, *, renew: bool) -> None:
        if renew:
            await self._renew_all()
        living = await self._leases.announce()
        share = share_of(self._leases.owner, living, self._count)
        staying = [p for p in self.owned if p not in self._leaving]
        for partition in staying[share:]:
            self._give_up(partition, HAND_OVER_GRACE_S)
        missing = share - len(staying)
        if missing > 0:
            await self._take(missing)

    async def _take(self, missing: int) -> None:
        free = [Partition(p) for p in range(self._count) if p not in self._owners]
        # Every free one is asked for: which are held is known only by asking. What comes too many,
        # two workers asking at once, goes back at once.
        for partition in free:
            if missing == 0:
                break
            asked = time.monotonic()
            token = await self._leases.acquire(partition)
            if token is not None:
                missing -= 1
                self._start(partition, token, asked)

    def _start(self, partition: Partition, token: str, asked: float) -> None:
        owner = self._make_owner(partition, token, asked, self._changed.set)
        # Alone: one entry that breaks its partition must not end the others.
        task = self._tasks.start(
            f"partition {partition}", owner.run, stop=owner.stopping, alone=True
        )
        self._owners[partition] = owner, task
        self._counts.leases_taken += 1
        task.add_done_callback(lambda _: self._ended(partition, owner))
        log.debug("partition taken", partition=partition)

    def _ended(self, partition: Partition, owner: Owner) -> None:
        found = self._owners.get(partition)
        if found is not None and found[0] is owner:
            del self._owners[partition]
            # What is handed over ends by itself; whatever else ends has lost its lease.
            self._counts.leases_lost += partition not in self._leaving

    async def _renew(self, partition: Partition, owner: Owner) -> None:
        asked = time.monotonic()
        if await self._leases.renew(partition, owner.token):
            owner.renewed(asked)
        elif self._owners.get(partition, (None,))[0] is owner:
            log.warning("lease lost", partition=partition)
            owner.stop(0)

    def _give_up(self, partition: Partition, grace_s: float) -> None:
        """Begin to hand a partition over; until it is done its lease is renewed like any other.

        The lease must outlive what is under way, or a second handler could start elsewhere.
        """
        owner, task = self._owners[partition]
        owner.stop(grace_s)

        async def release() -> None:
            await asyncio.wait((task,))
            try:
                # What a handler left behind still does ends with this process, before the lease.
                if not owner.left_running:
                    await self._leases.release(partition, owner.token)
            except Exception as error:  # noqa: BLE001  nobody awaits this
                log.warning("lease left to run out", partition=partition, **cause_of(error))
            finally:
                del self._leaving[partition]

        self._leaving[partition] = asyncio.create_task(release())

    async def _give_up_all(self, grace_s: float) -> None:
        for partition in self.owned:
            if partition not in self._leaving:
                self._give_up(partition, grace_s)
        while self._leaving:
            await asyncio.wait(list(self._leaving.values()), timeout=self._renew_s)
            try:
                await self._renew_all()
            except Exception as error:  # noqa: BLE001  the stop goes on
                log.warning("leases can't be kept while stopping", **cause_of(error))

    async def _renew_all(self) -> None:
        owned = [(p, owner) for p, (owner, _) in self._owners.items()]
        await asyncio.gather(*(self._renew(p, owner) for p, owner in owned))

    async def _read(self) -> None:
        """Bring new inbox entries to the owners, starting over whenever their set changes."""
        while True:
            self._changed.clear()
            reading = {
                p: bookmark
                for p, (owner, _) in self._owners.items()
                if (bookmark := owner.bookmark) is not None
            }
            if not reading:
                await self._changed.wait()
                continue
            bookmarks = {p: each for p, each in reading.items() if self._owners[p][0].room}
            if not bookmarks:
                await paused(HELD_BACK_MS / 1000, self._changed)
                continue
            waiting = asyncio.ensure_future(
                self._arrivals.wait(
                    {p: bookmark.entry for p, bookmark in bookmarks.items()},
                    block_ms=BLOCK_MS if len(bookmarks) == len(reading) else HELD_BACK_MS,
                    count=READ_COUNT,
                )
            )
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait((waiting, changed), return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    for partition, entries in waiting.result().items():
                        if owned := self._owners.get(partition):
                            await owned[0].take(entries, bookmarks[partition])
            except StoreError as error:
                log.warning("inboxes can't be read at the moment", error=str(error))
                await asyncio.sleep(TICK_S)
            finally:
                for task in (waiting, changed):
                    task.cancel()
                await asyncio.gather(waiting, changed, return_exceptions=True)
