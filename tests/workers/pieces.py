"""What the workers' tests share: a whole worker on the run's Redis, and a connector to upset it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal

from aiohttp import web

from service.core.breaker import Breaker
from service.core.retry import Schedule
from service.handlers.loop import HandlersLoop
from service.handlers.router import Router
from service.model import EntryId, Message, MessageSid, Partition
from service.store.arrivals import Arrivals
from service.store.batch import Batch
from service.store.client import Redis
from service.store.connection import connect
from service.store.dead_letters import DeadLetter, DeadLetters, Filter
from service.store.inbox import Inbox
from service.store.keys import PartitionKeys
from service.store.leases import Leases
from service.store.partition import PartitionStore
from service.workers.handling import Handling
from service.workers.owner import Owner
from service.workers.partitions import Partitions
from service.workers.replies import Sending
from tests.connector.pieces import BASE, OURS, connected

ONLY = Partition(0)
KEYS = PartitionKeys(ONLY)
QUICK = Schedule(first_ms=10, longest_ms=50, attempts=3)

ACCEPTED = "accepted"
LOST = "accepted, and the connection reset instead of an answer"
RESET = "the connection reset, nothing done"
FAILED_AFTER = "accepted, and answered 500"
UNNAMED = "accepted, and answered 200 without a body"

Plan = str | tuple[int, dict[str, str]]


@dataclass
class Phone:
    """A connector on loopback that keeps count of every text, and misbehaves as planned.

    plan: what happens to the next POSTs; after it `always`. refusal: said with an error status.
    numbered: it answers with numbers of its own instead of the sids its log has.
    limits: what is answered with 429 to POSTs of a text, by the text.
    log_status: answer to reading the log. mapped: its rows are mapped to their ids alone.
    ahead_s: its clock, in the dates of its log and of its answers; dated: these tell it.
    accepted: (to, text) in the order sent on. over: texts answered by `limits`.
    posts: when each POST came, time.monotonic.
    """

    url: str = ""
    plan: list[Plan] = field(default_factory=list)
    always: Plan = ACCEPTED
    refusal: dict[str, str] = field(default_factory=lambda: {"message": "no"})
    numbered: bool = False
    limits: dict[str, str] = field(default_factory=dict)
    log_status: int = 200
    mapped: bool = False
    ahead_s: float = 0
    dated: bool = True
    accepted: list[tuple[str, str]] = field(default_factory=list)
    posts: list[float] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    looks: int = 0
    rows: list[dict[str, str]] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.accepted]

    def take(self, to: str, body: str, ago: timedelta = timedelta()) -> str:
        """Send a text on, as if a POST had asked for it so long ago."""
        self.accepted.append((to, body))
        row = {"sid": f"SMout{len(self.rows)}", "from": OURS, "to": to, "body": body}
        row |= {"direction": "outbound-api", "date_sent": (self.now - ago).isoformat()}
        self.rows.insert(0, row)
        return row["sid"]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return self._log(request)
        self.posts.append(time.monotonic())
        body = await request.json()
        if body["Body"] in self.limits:
            self.over.append(body["Body"])
            return web.json_response({"message": self.limits[body["Body"]]}, status=429)
        does = self.plan.pop(0) if self.plan else self.always
        if isinstance(does, tuple):
            return web.json_response(self.refusal, status=does[0], headers=does[1])
        sid = self.take(body["To"], body["Body"]) if does != RESET else ""
        if does in {LOST, RESET}:
            assert request.transport is not None
            request.transport.abort()
        if does == UNNAMED:
            return web.Response(content_type="application/json")
        status = 500 if does == FAILED_AFTER else 200
        named = {"id": len(self.posts)} if self.numbered else {"sid": sid}
        return web.json_response(named | {"status": "queued"}, status=status)

    def _log(self, request: web.Request) -> web.Response:
        self.looks += 1
        first = (int(request.query["page"]) - 1) * int(request.query["pageSize"])
        page = self.rows[first : first + int(request.query["pageSize"])]
        if self.mapped:
            page = [{"id": row["sid"]} for row in page]
        return web.json_response(page if self.log_status == 200 else {}, status=self.log_status)


@contextlib.asynccontextmanager
async def ringing() -> AsyncIterator[Phone]:
    """Run a phone on a free port."""
    phone = Phone()
    app = web.Application()

    async def tell_time(_: web.Request, answer: web.StreamResponse) -> None:
        answer.headers["Date"] = format_datetime(phone.now, usegmt=True) if phone.dated else ""

    app.on_response_prepare.append(tell_time)
    app.router.add_route("*", "/{path:.*}", phone.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    phone.url = f"http://127.0.0.1:{runner.addresses[0][1]}{BASE}"
    try:
        yield phone
    finally:
        await runner.cleanup()


@dataclass
class Desk:
    """One process's parts around the only partition."""

    client: Any  # a Redis; its answers are bytes, which redis-py's types leave open
    blocking: Redis
    batch: Batch
    inbox: Inbox
    letters: DeadLetters

    async def take_in(self, *messages: Message) -> list[EntryId]:
        """Accept messages; returns their entries."""
        found = []
        for text in messages:
            assert await self.inbox.accept(text)
            # A worker may be done with it by now.
            latest = await self.client.xrevrange(KEYS.inbox, count=1)
            found += [EntryId(id_.decode()) for id_, _ in latest]
        return found

    @contextlib.asynccontextmanager
    async def owned(self) -> AsyncIterator[PartitionStore]:
        """Own the partition by hand: an earlier worker, whose lease is gone afterwards."""
        leases = Leases(self.client, self.batch, owner="earlier", ttl_ms=60_000)
        token = await leases.acquire(ONLY)
        assert token is not None
        yield PartitionStore(self.client, self.batch, ONLY, token, sent_window_s=3_600)
        await leases.release(ONLY, token)

    async def dead(self) -> list[DeadLetter]:
        """List the dead letters."""
        return [letter async for letter in self.letters.find(Filter())]

    async def empty(self) -> bool:
        """Tell whether nothing is left to do."""
        waiting = [await self.client.xlen(each) for each in (KEYS.inbox, KEYS.outbox)]
        return not any(waiting)


@contextlib.asynccontextmanager
async def opened(redis_url: str) -> AsyncIterator[Desk]:
    """Open the store of a deployment with one partition."""
    client, blocking = connect(redis_url), connect(redis_url, answer_timeout_s=None)
    batch = Batch(client)
    inbox = Inbox(batch, partitions=1, window_s=600, limit=5_000)
    letters = DeadLetters(client, batch, partitions=1, inbox_limit=5_000)
    yield Desk(client, blocking, batch, inbox, letters)
    await batch.aclose()
    await client.aclose()
    await blocking.aclose()


@dataclass
class Ways:
    """How a worker handles and sends."""

    handling: Handling
    sending: Sending


@contextlib.asynccontextmanager
async def ways(
    router: Router,
    base_url: str,
    *,
    handlers: Schedule = QUICK,
    sends: Schedule = QUICK,
    in_doubt: Literal["hold", "resend"] = "hold",
    timeout_s: float = 5,
    arrival_s: float = 0,
) -> AsyncIterator[Ways]:
    """Put together how a worker handles and sends; timeout_s: of a handler."""
    with ThreadPoolExecutor(2) as executor:
        async with (
            HandlersLoop(executor) as place,
            connected(base_url, token="token", timeout_s=2) as connector,
        ):
            provisioned = asyncio.Event()
            provisioned.set()
            yield Ways(
                Handling(router, asyncio.Semaphore(8), place, timeout_s, handlers),
                Sending(
                    connector,
                    provisioned,
                    lambda: None,
                    Breaker(),
                    None,
                    asyncio.Semaphore(8),
                    sends,
                    in_doubt,
                    arrival_s,
                ),
            )


def owner_of(
    desk: Desk, how: Ways, token: str, renewed: float, changed: Callable[[], None]
) -> Owner:
    """Make the runner of the only partition."""
    store = PartitionStore(desk.client, desk.batch, ONLY, token, sent_window_s=3_600)
    return Owner(store, how.handling, how.sending, changed, lease_s=5, renewed=renewed)


@contextlib.asynccontextmanager
async def at_work(desk: Desk, how: Ways) -> AsyncIterator[None]:
    """Run a worker until the end of the block."""
    arrivals = Arrivals(desk.blocking)
    partitions = Partitions(
        Leases(desk.client, desk.batch, owner="worker", ttl_ms=5_000),
        arrivals,
        lambda _, token, asked, changed: owner_of(desk, how, token, asked, changed),
        count=1,
        lease_s=5,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(partitions.run(stop, 1))
    try:
        yield
    finally:
        stop.set()
        await running
        await arrivals.aclose()


async def until(done: Callable[[], bool | Awaitable[bool]], timeout_s: float = 8) -> None:
    """Wait until `done` says so."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = done()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        await asyncio.sleep(0.01)


def text(sid: str, body: str = "hello", theirs: str = "+15005550123") -> Message:
    """Make an inbound text."""
    return Message(
        sid=MessageSid(sid),
        from_=theirs,
        to=OURS,
        body=body,
        media=(),
        account="AC1",
        received_at=datetime.now(UTC),
        raw={},
    )


def echo() -> Router:
    """Make a router that answers with the text it got."""
    router = Router()
    router.default(lambda message: message.body)
    return router


def unexpected(error: BaseException) -> None:
    """Take a failure that no part of a test should report."""
    raise AssertionError(repr(error)) from error
