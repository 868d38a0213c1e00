"""One process of the running service: its parts, and the order they start and stop in."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import structlog
import uvloop

from service.connector.backfill import Backfill
from service.connector.client import Connector
from service.connector.provisioning import Provisioner
from service.connector.watching import InstanceWatch
from service.core.breaker import Breaker
from service.core.retry import Schedule
from service.core.sealing import Sealer
from service.core.tally import Figures, merge
from service.core.twilio.signature import Verifier
from service.errors import ParleyError, StoreMismatch, StoreUnavailable
from service.handlers.loop import HandlersLoop
from service.handlers.threads import DaemonThreads
from service.host.bounded import bounded
from service.host.crowd import CONNECTIONS_LIMIT, Crowd
from service.host.descriptors import needed_for, usable
from service.host.listeners import AppServer, stop_event
from service.host.notify import Starter
from service.host.slots import Slots
from service.model import Partition
from service.operate.clients import backfill_of, connector_of, look_at
from service.operate.clocks import Clocks
from service.operate.files import message_template, wanted_instance
from service.settings.forms import CALLBACK_PATH
from service.settings.table import Settings
from service.store.arrivals import Arrivals
from service.store.batch import Batch
from service.store.client import Redis, ping
from service.store.connection import connect
from service.store.dead_letters import DeadLetters
from service.store.inbox import Inbox
from service.store.instances import Instances
from service.store.layout import claim_partition_count
from service.store.leases import Leases
from service.store.pace import Pace
from service.store.partition import PartitionStore
from service.store.queues import Queues
from service.store.watch import Watch
from service.store.watermark import Watermark
from service.web.door.callbacks import Door
from service.web.door.events import Events
from service.web.door.public import public_app, written_paths
from service.web.door.way_in import connections
from service.web.internal.app import Check, internal_app
from service.wiring.reporting import (
    LOOK_TIMEOUT_S,
    Reporting,
    of_backfill,
    of_door,
    of_process,
    of_work,
)
from service.workers.counts import Counts
from service.workers.handling import Handling
from service.workers.lanes import WIDTH
from service.workers.owner import POST_GRACE_S, Owner
from service.workers.partitions import Partitions
from service.workers.replies import Sending
from service.workers.supervised import Tasks, end_all
from service.workers.telling import Tell

if TYPE_CHECKING:
    from service.handlers.router import Router

log = structlog.get_logger()

ProcessRole = Literal["web", "worker", "all"]

STOP_GRACE_S = 7.0
"""What requests, handlers and POSTs under way get at a stop; container platforms give 10 s."""

LET_GO_S = 0.3
"""After that grace, what a handler gets to end once it has been cancelled."""

CUT_SHORT_S = 0.5
"""Behind all graces: what has not stopped by then is cancelled, and left if that does not help."""

PARTS_S = STOP_GRACE_S + LET_GO_S + POST_GRACE_S + CUT_SHORT_S
"""What the door and the worker get at a stop: the POST of a handler that took all of the grace has
one of its own behind it."""

CLOSE_S = 1.0
"""What each step of tidying up gets after that."""

FORCE_S = 6.0
"""Behind the grace: the process ends by force, such as with a thread of a handler that hangs."""

LAYOUT_RETRY_S = 1.0

OPENING_S = 5.0
"""What callers wait for, in the queue of the listener, until the first look at Redis is done.
Another process on the same listener may be able to take them meanwhile; Twilio waits for 15 s."""

WAITING_SAID_S = 30.0
"""How often the log says that Redis is still away at the start."""

LEAST_CONNECTIONS = 50
"""Of callers, however few files may be open: the start has said that they are too few."""

INTERNAL_CONNECTIONS = 100
"""Of probes, people and collectors of metrics, in one process."""

YOUNG_OBJECTS = 10_000
"""New objects before the collector looks for circles among them. Each text under way is some tens,
and ends without one: at CPython's 700 the search took a tenth of a busy worker's time."""


class Process:
    """One process of the service.

    role: which parts run. redis_url: the Redis to use. router: the loaded handlers.
    starter: whom to tell when it is up and when it stops.
    slots: where the processes of one supervisor leave their figures; None for a process alone.
    worker: its id as an owner of partitions, unique for each start, without ":".
    let_go: called once it was told to stop: nobody else is to listen any more.
    stopping: whether it was told to stop, or has to. hangs: whether something did not stop in
        time, so that what is left of it must be ended by force.
    """

    def __init__(
        self,
        settings: Settings,
        role: ProcessRole,
        redis_url: str,
        router: Router,
        *,
        starter: Starter,
        slots: Slots | None = None,
        tell: Tell | None = None,
        worker: str,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        self._let_go = let_go
        self.stopping = False
        self.hangs = False
        self._worker = worker
        self._settings = settings
        self._role = role
        self._redis_url = redis_url
        self._router = router
        self._starter = starter
        self._slots = slots
        self._tell = tell
        self._wanted = wanted_instance(settings)
        self._message = message_template(settings)
        self._open = asyncio.Event()
        self._failure: ParleyError | None = None
        self._stop = asyncio.Event()
        self._tasks = Tasks(self._fail)
        self._watch: Watch | None = None
        self._door: Door | None = None
        self._crowd = Crowd(_room_for_callers(settings))
        self._backfill: Backfill | None = None
        self._partitions: Partitions | None = None
        self._breaker = Breaker()
        self._counts = Counts()
        self._clocks = Clocks()

    async def run(
        self, public: socket.socket | None, internal: socket.socket, *, stop_with_stdin: bool
    ) -> int:
        """Run until SIGTERM or SIGINT; returns the exit status.

        Raises StoreMismatch, and KeepsFailing when a part of it does not keep running.
        """
        settings = self._settings
        stop = self._stop = stop_event(stop_with_stdin=stop_with_stdin)
        client = connect(self._redis_url)
        batch = Batch(client)
        connector = connector_of(settings, self._message, self._clocks)
        sealer = Sealer(settings.secret_keys)
        provisioner = Provisioner(connector, Instances(client, sealer), sealer, self._wanted)
        instance = InstanceWatch(
            provisioner,
            connector,
            watch_s=settings.connector_watch_s,
            repair=settings.connector_repair == "repair",
        )
        closing = asyncio.Event()
        readiness = self._readiness(client, instance)
        reporting = Reporting(
            lambda: self._figures(batch, instance),
            Queues(client, settings.partitions, timeout_s=LOOK_TIMEOUT_S),
            self._slots,
            self._clocks.redis_now_ms,
        )
        internal_server = AppServer(
            internal_app(
                readiness,
                lambda: self._counters(batch),
                reporting.gather,
                hosts=(settings.internal_host, *settings.internal_hosts.split()),
            ),
            internal,
            stop_s=1,
            http=bounded(Crowd(INTERNAL_CONNECTIONS)),
        )
        start = self._tasks.start
        addresses = _addresses(public, internal)
        background = [
            start("the internal server", partial(internal_server.run_until, closing), stop=closing),
            start("the figures", partial(reporting.run_until, closing), stop=closing),
        ]
        watching = [
            start("the watch over the instance", instance.run),
            start("the backfill", partial(self._fill_gaps, client, batch, connector, instance)),
            start("the watch over Redis", partial(self._claim_layout, client, batch)),
            start("the comparison of clocks", partial(self._clocks.run, client)),
        ]
        parts = []
        tidied = True
        try:
            if public is not None:
                door = partial(self._serve_public, client, batch, connector, public, stop)
                parts.append(start("the door", door, stop=stop, answers=True))
            if self._role != "web":
                work = partial(self._work, client, batch, connector, instance, stop)
                parts.append(start("the worker", work, stop=stop, answers=True))
            # What was imported and built stays: the collector need not walk it again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS, 20, 20)
            if await self._opened(stop):
                log.info("Parley is up", role=self._role, **addresses)
                self._starter.up()
            await stop.wait()
            self.stopping = True
            self._starter.stopping()
            self._let_go()
            _end_by_force(STOP_GRACE_S + FORCE_S)
            tidied = await end_all(parts, PARTS_S)
            parts.clear()
        finally:
            for task in (*parts, *watching):
                task.cancel()
            tidied = await end_all((*parts, *watching), CLOSE_S) and tidied
            closing.set()
            closes = (connector.aclose, batch.aclose)
            closed = [asyncio.create_task(each(), name=each.__qualname__) for each in closes]
            tidied = await end_all((*background, *closed), 2 * CLOSE_S) and tidied
            disconnected = asyncio.create_task(client.aclose(), name="Redis")
            tidied = await end_all((disconnected,), CLOSE_S) and tidied
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            self.hangs = not (await end_all(rest, CLOSE_S) and tidied)
        if self._failure is not None:
            raise self._failure
        log.info("Parley has stopped")
        return int(self.hangs)

    def _fail(self, reason: ParleyError) -> None:
        """End the process in good order, and let `run` raise the reason."""
        self._failure = reason
        self._stop.set()

    async def _opened(self, stop: asyncio.Event) -> bool:
        """Wait until Redis is known to be laid out as we are; False when told to stop before."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._open, stop)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return not stop.is_set()

    async def _claim_layout(self, client: Redis, batch: Batch) -> None:
        """Let callbacks in and partitions start once Redis is known to be laid out as we are.

        Then watch it, until cancelled.
        """
        said = -WAITING_SAID_S
        while True:
            try:
                verdict = await look_at(client, self._settings)
                await claim_partition_count(client, self._settings.partitions)
                await self._clocks.look(client)
            except StoreUnavailable as error:
                if time.monotonic() - said >= WAITING_SAID_S:
                    log.warning("waiting for Redis", error=str(error))
                    said = time.monotonic()
                await asyncio.sleep(LAYOUT_RETRY_S)
            except StoreMismatch as error:
                self._fail(error)
                return
            else:
                break
        for note in verdict.notes:
            log.warning(note)
        dead = DeadLetters(
            client,
            batch,
            partitions=self._settings.partitions,
            inbox_limit=self._settings.inbox_limit,
        )
        self._watch = Watch(
            lambda: look_at(client, self._settings), dead.count, batch.confirm, verdict
        )
        self._open.set()
        await self._watch.run()

    async def _fill_gaps(
        self, client: Redis, batch: Batch, connector: Connector, instance: InstanceWatch
    ) -> None:
        """Read back what no callback brought, until cancelled."""
        settings = self._settings
        if not settings.backfill_every_s:
            return
        await self._open.wait()
        self._backfill = backfill_of(settings, client, batch, connector, now=self._clocks.redis_now)

        def refused() -> int:
            counted = self._door.counters if self._door is not None else None
            return 0 if counted is None else counted.unavailable + counted.busy + counted.failed

        await self._backfill.keep_filling(instance.ready, settings.backfill_every_s, refused)

    async def _serve_public(
        self,
        client: Redis,
        batch: Batch,
        connector: Connector,
        listener: socket.socket,
        stop: asyncio.Event,
    ) -> None:
        settings = self._settings
        inbox = Inbox(
            batch,
            partitions=settings.partitions,
            window_s=settings.dedupe_window_s,
            limit=settings.inbox_limit,
            opened=self._open,
        )
        door = Door(
            Verifier(
                settings.public_url + CALLBACK_PATH, settings.auth_tokens, settings.shared_keys
            ),
            settings.twilio_account_sid,
            inbox,
            events=Events(
                settings.event_key,
                account=settings.twilio_account_sid,
                sender=settings.twilio_sender,
                inbox=inbox,
                numbers=Watermark(client),
                pictures=connector,
                limit_bytes=settings.event_limit_bytes,
            ),
            body_limit_bytes=settings.body_limit_bytes,
            now=self._clocks.redis_now,
        )
        self._door = door
        prefix = urlsplit(settings.public_url).path
        app = public_app(door, callback_path=CALLBACK_PATH, prefix=prefix)
        paths = written_paths(callback_path=CALLBACK_PATH, prefix=prefix)
        http = connections(door, paths, self._crowd)
        with suppress(TimeoutError):
            async with asyncio.timeout(OPENING_S):
                await self._opened(stop)
        await AppServer(app, listener, stop_s=STOP_GRACE_S, http=http).run_until(stop)

    async def _work(
        self,
        client: Redis,
        batch: Batch,
        connector: Connector,
        instance: InstanceWatch,
        stop: asyncio.Event,
    ) -> None:
        settings = self._settings
        if not await self._opened(stop):
            return
        executor = DaemonThreads(settings.handler_concurrency, "handler")
        place = HandlersLoop(executor, uvloop.new_event_loop)
        handling = Handling(
            router=self._router,
            slots=asyncio.Semaphore(settings.handler_concurrency),
            place=place,
            timeout_s=settings.handler_timeout_s,
            schedule=_schedule(settings, settings.handler_attempts),
            counts=self._counts,
            tell=self._tell,
            opt_out_words=settings.words_left_to_twilio,
            long_replies=settings.long_replies,
            width=max(WIDTH, settings.handler_concurrency),
        )
        sending = Sending(
            connector=connector,
            provisioned=instance.ready,
            suspect=instance.suspect,
            breaker=self._breaker,
            pace=Pace(batch, rate) if (rate := settings.segments_per_second) else None,
            slots=asyncio.Semaphore(settings.send_concurrency),
            schedule=_schedule(settings, settings.send_attempts),
            in_doubt=settings.in_doubt,
            arrival_s=settings.send_timeout_s,
            counts=self._counts,
            tell=self._tell,
            redis_now_ms=self._clocks.redis_now_ms,
            width=max(WIDTH, settings.send_concurrency),
        )

        def make_owner(
            partition: Partition, token: str, asked: float, changed: Callable[[], None]
        ) -> Owner:
            store = PartitionStore(
                client, batch, partition, token, sent_window_s=settings.dedupe_window_s
            )
            return Owner(
                store,
                handling,
                sending,
                changed,
                lease_s=settings.lease_ttl_s,
                renewed=asked,
            )

        lease_ms = int(settings.lease_ttl_s * 1000)
        blocking = connect(self._redis_url, answer_timeout_s=None)
        arrivals = Arrivals(blocking)
        partitions = Partitions(
            Leases(client, batch, owner=self._worker, ttl_ms=lease_ms),
            arrivals,
            make_owner,
            count=settings.partitions,
            lease_s=settings.lease_ttl_s,
            counts=self._counts,
            tasks=self._tasks,
        )
        self._partitions = partitions
        letting_go = asyncio.create_task(_let_go_of_handlers(place, stop))
        try:
            await partitions.run(stop, STOP_GRACE_S)
        finally:
            letting_go.cancel()
            await asyncio.gather(letting_go, return_exceptions=True)
            await place.aclose()
            executor.shutdown(wait=False)
            await arrivals.aclose()
            await blocking.aclose()

    def _figures(self, batch: Batch, instance: InstanceWatch) -> Figures:
        found = [of_process(batch, ready=instance.ready.is_set())]
        if self._door is not None:
            found.append(of_door(self._door, self._crowd))
        if self._role != "web":
            owned = len(self._partitions.owned) if self._partitions is not None else 0
            found.append(of_work(self._counts, self._breaker, owned))
        if self._backfill is not None:
            found.append(of_backfill(self._backfill))
        return merge(found)

    def _counters(self, batch: Batch) -> dict[str, int]:
        door = asdict(self._door.counters) if self._door is not None else {}
        return {
            "pid": os.getpid(),
            "script_calls": batch.calls,
            "script_round_trips": batch.round_trips,
            "dead_letters": self._watch.dead_letters if self._watch is not None else 0,
            **{f"callbacks_{what}": count for what, count in door.items()},
            **{
                f"connections_{what}": count for what, count in asdict(self._crowd.counters).items()
            },
        }

    def _readiness(
        self, client: Redis, instance: InstanceWatch
    ) -> Callable[[], Coroutine[Any, Any, Mapping[str, Check]]]:
        async def readiness() -> Mapping[str, Check]:
            try:
                await ping(client)
                watch = self._watch
                redis = Check(
                    ok=watch is not None,
                    detail="opening" if watch is None else "; ".join(watch.verdict.notes),
                )
            except StoreUnavailable as error:
                redis = Check(ok=False, detail=str(error))
            return {
                "redis": redis,
                "instance": Check(ok=instance.ready.is_set(), detail=instance.state),
                # Texts arrive and replies leave without it: no reason to take no traffic.
                "backfill": Check(ok=True, detail=self._backfill.state if self._backfill else ""),
                # It is allowed for, and still worth knowing.
                "clock": Check(ok=True, detail=self._clocks.state),
                "handlers": Check(ok=True, detail=f"{len(self._router)} routes"),
                **{
                    name: Check(ok=state.running or not state.answers, detail=str(state))
                    for name, state in self._tasks.failed.items()
                },
            }

        return readiness


async def _let_go_of_handlers(place: HandlersLoop, stop: asyncio.Event) -> None:
    """At a stop, wait no longer than its grace for handlers that can't be ended."""
    await stop.wait()
    await asyncio.sleep(STOP_GRACE_S + LET_GO_S)
    place.let_go_of_all()


def _room_for_callers(settings: Settings) -> int:
    """Say how many connections of callers there may be, with a reserve for all our own."""
    own = settings.send_concurrency + settings.handler_concurrency + INTERNAL_CONNECTIONS
    return max(LEAST_CONNECTIONS, min(CONNECTIONS_LIMIT, usable() - needed_for(own, callers=0)))


def _addresses(public: socket.socket | None, internal: socket.socket) -> dict[str, str]:
    names = {"public": public, "internal": internal}
    return {
        name: "{}:{}".format(*listener.getsockname()[:2])
        for name, listener in names.items()
        if listener is not None
    }


def _schedule(settings: Settings, attempts: int) -> Schedule:
    return Schedule(
        first_ms=int(settings.retry_first_s * 1000),
        longest_ms=int(settings.retry_max_s * 1000),
        attempts=attempts,
    )


def _end_by_force(after_s: float) -> None:
    """End the process after so long, whatever hangs by then: a thread keeps it from ending."""

    def end() -> None:
        log.error("Parley did not stop in time and ends by force", after_s=after_s)
        os._exit(1)

    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()
