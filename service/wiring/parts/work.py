"""The work side of a process: its share of the partitions, their handlers and their replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop

from service.core import metrics as m
from service.core.breaker import Breaker
from service.core.retry import Schedule
from service.core.tally import Figures, spread_of
from service.handlers.loop import HandlersLoop
from service.handlers.router import Router
from service.handlers.threads import DaemonThreads
from service.model import Partition
from service.settings.table import Settings
from service.store.arrivals import Arrivals
from service.store.connection import connect
from service.store.leases import Leases
from service.store.pace import Pace
from service.store.partition import PartitionStore
from service.wiring.parts.base import Base
from service.wiring.stopping import LET_GO_S, STOP_GRACE_S
from service.workers.clock import ticks_ms
from service.workers.counts import Counts
from service.workers.handling import Handling
from service.workers.lanes import WIDTH
from service.workers.owner import Owner
from service.workers.partitions import MakeOwner, Partitions
from service.workers.replies import Sending
from service.workers.telling import Tell


class WorkSide:
    """Handles texts and sends replies.

    router: the loaded handlers. redis_url: for the reads that wait, which need connections of
        their own. worker: its id as an owner of partitions, unique for each start, without ":".
    tell: logs what people wrote, where that is asked for.
    """

    def __init__(
        self, base: Base, router: Router, redis_url: str, worker: str, tell: Tell | None
    ) -> None:
        settings = base.settings
        self._stop = base.stop
        self._tasks = base.tasks
        self._redis = base.redis
        self._breaker = Breaker()
        self._counts = Counts()
        self._threads = DaemonThreads(settings.handler_concurrency, "handler")
        self._place = HandlersLoop(self._threads, uvloop.new_event_loop)
        self._blocking = connect(redis_url, answer_timeout_s=None)
        self._arrivals = Arrivals(self._blocking)
        handling = self._handling(settings, router, tell)
        sending = self._sending(settings, base, tell)
        lease_ms = int(settings.lease_ttl_s * 1000)
        self._partitions = Partitions(
            Leases(base.client, base.batch, owner=worker, ttl_ms=lease_ms),
            self._arrivals,
            _owners(base, handling, sending),
            count=settings.partitions,
            lease_s=settings.lease_ttl_s,
            counts=self._counts,
            tasks=self._tasks,
        )

    def start(self) -> asyncio.Task[None]:
        """Begin to work, until the process is told to stop."""
        return asyncio.create_task(self._work(), name="the worker")

    async def run(self) -> None:
        """Own partitions and run them until the process is told to stop. It may be run again."""
        if not await self._redis.opened_before_stop():
            return
        letting_go = asyncio.create_task(self._let_go_of_handlers())
        try:
            await self._partitions.run(self._stop.told, STOP_GRACE_S)
        finally:
            letting_go.cancel()
            await asyncio.gather(letting_go, return_exceptions=True)

    def figures(self) -> Figures:
        """Return what the workers count."""
        counts = self._counts
        state = self._breaker.state(ticks_ms())
        return Figures(
            counters={
                m.TEXTS.name: dict(counts.texts),
                m.HANDLER_FAILURES.name: {"": counts.handler_failures},
                m.REPLIES.name: dict(counts.replies),
                m.POSTPONED.name: {"": counts.postponed},
                m.LEASES_TAKEN.name: {"": counts.leases_taken},
                m.LEASES_LOST.name: {"": counts.leases_lost},
                m.PARTITION_RESTARTS.name: {"": counts.restarts},
            },
            histograms={
                m.HANDLER.name: spread_of(counts.handler),
                m.SEND.name: spread_of(counts.send),
                m.CALLBACK_TO_REPLY.name: spread_of(counts.callback_to_reply),
            },
            gauges={
                m.PARTITIONS_OWNED.name: {"": len(self._partitions.owned)},
                m.BREAKER.name: {each: int(each == state) for each in m.BREAKER_STATES},
            },
        )

    def counters(self) -> Mapping[str, int]:
        """Return nothing: /counters is of what comes in by the door."""
        return {}

    async def _work(self) -> None:
        stop = self._stop.told
        try:
            await self._tasks.keep("the worker", self.run, stop=stop, answers=True)
        finally:
            await self._place.aclose()
            self._threads.shutdown(wait=False)
            await self._arrivals.aclose()
            await self._blocking.aclose()

    async def _let_go_of_handlers(self) -> None:
        """At a stop, wait no longer than its grace for handlers that can't be ended."""
        await self._stop.told.wait()
        await asyncio.sleep(STOP_GRACE_S + LET_GO_S)
        self._place.let_go_of_all()

    def _handling(self, settings: Settings, router: Router, tell: Tell | None) -> Handling:
        return Handling(
            router=router,
            slots=asyncio.Semaphore(settings.handler_concurrency),
            place=self._place,
            timeout_s=settings.handler_timeout_s,
            schedule=_schedule(settings, settings.handler_attempts),
            counts=self._counts,
            tell=tell,
            opt_out_words=settings.words_left_to_twilio,
            long_replies=settings.long_replies,
            width=max(WIDTH, settings.handler_concurrency),
        )

    def _sending(self, settings: Settings, base: Base, tell: Tell | None) -> Sending:
        return Sending(
            connector=base.connector,
            provisioned=base.instance.ready,
            suspect=base.instance.suspect,
            breaker=self._breaker,
            pace=Pace(base.batch, rate) if (rate := settings.segments_per_second) else None,
            slots=asyncio.Semaphore(settings.send_concurrency),
            schedule=_schedule(settings, settings.send_attempts),
            in_doubt=settings.in_doubt,
            arrival_s=settings.send_timeout_s,
            counts=self._counts,
            tell=tell,
            redis_now_ms=base.clocks.redis_now_ms,
            width=max(WIDTH, settings.send_concurrency),
        )


def _owners(base: Base, handling: Handling, sending: Sending) -> MakeOwner:
    """Return what makes the owner of a partition."""
    settings = base.settings

    def make_owner(
        partition: Partition, token: str, asked: float, changed: Callable[[], None]
    ) -> Owner:
        store = PartitionStore(
            base.client, base.batch, partition, token, sent_window_s=settings.dedupe_window_s
        )
        return Owner(store, handling, sending, changed, lease_s=settings.lease_ttl_s, renewed=asked)

    return make_owner


def _schedule(settings: Settings, attempts: int) -> Schedule:
    return Schedule(
        first_ms=int(settings.retry_first_s * 1000),
        longest_ms=int(settings.retry_max_s * 1000),
        attempts=attempts,
    )
