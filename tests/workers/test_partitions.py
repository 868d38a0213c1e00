"""Who owns which partition, as workers come, go and die."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from service.handlers.router import Router
from service.model import Message, Partition
from service.store.arrivals import Arrivals
from service.store.batch import Batch
from service.store.connection import connect
from service.store.inbox import Inbox
from service.store.keys import PartitionKeys
from service.store.leases import Leases
from service.store.partition import PartitionStore
from service.workers.owner import Owner
from service.workers.partitions import MakeOwner, Partitions
from tests.workers.pieces import KEYS, ONLY, Desk, Phone, Ways, echo, text, until, ways

pytestmark = pytest.mark.anyio

COUNT = 8


@dataclass
class Worker:
    """One worker, as a process of its own would be: its own connections and its own stop."""

    partitions: Partitions
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.running = asyncio.create_task(self.partitions.run(self.stop, 0.5))

    async def end(self) -> None:
        self.stop.set()
        if self.running is not None:
            await self.running

    @property
    def owned(self) -> set[Partition]:
        return set(self.partitions.owned)


@pytest.fixture
async def hire(redis_server: str, phone: Phone) -> AsyncIterator[Callable[..., Worker]]:
    """Make workers; all of them end with the test."""
    closing: list[Any] = []
    workers: list[Worker] = []
    async with ways(echo(), phone.url) as how:

        def make(name: str, lease_s: float = 5) -> Worker:
            client, blocking = connect(redis_server), connect(redis_server, answer_timeout_s=None)
            batch, arrivals = Batch(client), Arrivals(blocking)
            closing.extend([arrivals, batch, client, blocking])
            worker = Worker(
                Partitions(
                    Leases(client, batch, owner=name, ttl_ms=int(lease_s * 1000)),
                    arrivals,
                    _owners(client, batch, how, lease_s),
                    count=COUNT,
                    lease_s=lease_s,
                )
            )
            workers.append(worker)
            worker.start()
            return worker

        yield make
        for worker in workers:
            await worker.end()
        for each in closing:
            await each.aclose()


def _owners(client: Any, batch: Batch, how: Ways, lease_s: float) -> MakeOwner:
    def make_owner(
        partition: Partition, token: str, asked: float, changed: Callable[[], None]
    ) -> Owner:
        store = PartitionStore(client, batch, partition, token, sent_window_s=60)
        return Owner(store, how.handling, how.sending, changed, lease_s=lease_s, renewed=asked)

    return make_owner


async def test_a_worker_alone_owns_everything(hire: Callable[..., Worker]) -> None:
    """Texts of some conversations would never be answered."""
    worker = hire("alone")
    await until(lambda: worker.owned == set(range(COUNT)), 2)


async def test_two_workers_share_evenly_within_two_seconds(hire: Callable[..., Worker]) -> None:
    """A second process would stand idle."""
    first = hire("first")
    await until(lambda: len(first.owned) == COUNT, 2)
    second = hire("second")
    await until(lambda: len(first.owned) == len(second.owned) == COUNT // 2, 2)
    assert first.owned | second.owned == set(range(COUNT))


async def test_a_clean_stop_hands_everything_over_within_two_seconds(
    hire: Callable[..., Worker],
) -> None:
    """Every deployment would leave conversations unanswered until leases run out."""
    staying, leaving = hire("staying", 60), hire("leaving", 60)
    await until(lambda: len(staying.owned) == len(leaving.owned) == COUNT // 2, 4)
    begun = time.monotonic()
    await leaving.end()
    await until(lambda: len(staying.owned) == COUNT, 2)
    assert time.monotonic() - begun < 2


async def test_after_a_kill_the_others_take_over_once_its_leases_have_run_out(
    hire: Callable[..., Worker], desk: Desk
) -> None:
    """A machine that dies would take its conversations with it, or two workers would own them."""
    killed = Leases(desk.client, desk.batch, owner="killed", ttl_ms=1_500)
    await killed.announce()
    for partition in range(COUNT):
        assert await killed.acquire(Partition(partition))
    begun = time.monotonic()
    heir = hire("heir")
    await until(lambda: bool(heir.owned), 4)
    assert time.monotonic() - begun >= 1.3
    await until(lambda: len(heir.owned) == COUNT, 2)


async def test_a_worker_whose_leases_are_gone_lets_go_and_takes_them_again(
    hire: Callable[..., Worker], desk: Desk
) -> None:
    """A worker that was frozen would go on as an owner that it is not any more."""
    worker = hire("frozen", 1)
    await until(lambda: len(worker.owned) == COUNT, 2)
    keys = [PartitionKeys(Partition(partition)) for partition in range(COUNT)]
    for each in keys:
        await desk.client.set(each.lease, "other:99", px=1_000)
    await until(lambda: not worker.owned, 2)
    await until(lambda: len(worker.owned) == COUNT, 4)
    assert all([(await desk.client.get(each.lease)).startswith(b"frozen:") for each in keys])


async def test_nothing_is_lost_doubled_or_overtaken_while_partitions_move(
    hire: Callable[..., Worker], desk: Desk, phone: Phone
) -> None:
    """Scaling up or down in the middle of the day would garble conversations."""
    inbox = Inbox(desk.batch, partitions=COUNT, window_s=600, limit=5_000)
    people = [f"+150055502{n:02}" for n in range(20)]

    async def publish() -> None:
        for n in range(20):
            for number in people:
                await inbox.accept(text(f"SM{number}-{n}", str(n), theirs=number))
            await asyncio.sleep(0.1)

    first = hire("first")
    publishing = asyncio.create_task(publish())
    await until(lambda: len(phone.accepted) > 40)
    second = hire("second")
    await until(lambda: len(second.owned) == COUNT // 2, 3)
    await first.end()
    await publishing
    await until(lambda: len(phone.accepted) >= 20 * len(people), 8)
    await asyncio.sleep(0.2)
    for number in people:
        assert [body for to, body in phone.accepted if to == number] == [str(n) for n in range(20)]


@contextlib.asynccontextmanager
async def running(
    desk: Desk, leases: Leases, make_owner: MakeOwner, lease_s: float, grace_s: float
) -> AsyncIterator[None]:
    """Run a worker of the only partition until the end of the block."""
    arrivals, stop = Arrivals(desk.blocking), asyncio.Event()
    partitions = Partitions(leases, arrivals, make_owner, count=1, lease_s=lease_s)
    run = asyncio.create_task(partitions.run(stop, grace_s))
    try:
        yield
    finally:
        stop.set()
        await run
        await arrivals.aclose()


async def test_a_stop_keeps_the_lease_until_what_is_under_way_has_ended(
    desk: Desk, phone: Phone
) -> None:
    """Another worker would begin with the same text, while this one's handler still runs."""
    router, began, held = Router(), asyncio.Event(), []
    ours = asyncio.get_running_loop()

    @router.default
    async def linger(message: Message) -> str:
        # On a loop of its own: the event and the client are this one's.
        ours.call_soon_threadsafe(began.set)
        await asyncio.sleep(3)
        lease = asyncio.run_coroutine_threadsafe(desk.client.get(KEYS.lease), ours)
        held.append(await asyncio.wrap_future(lease))
        return "done"

    await desk.take_in(text("SM1"))
    leases = Leases(desk.client, desk.batch, owner="leaving", ttl_ms=2_000)
    async with ways(router, phone.url, timeout_s=30) as how:
        make_owner = _owners(desk.client, desk.batch, how, 2)
        async with running(desk, leases, make_owner, lease_s=2, grace_s=10):
            await began.wait()
    assert held == [b"leaving:1"]
    assert phone.texts == ["done"]
    assert not await desk.client.exists(KEYS.lease)


async def test_a_lease_counts_from_when_it_was_asked_for_however_late_the_answer(
    desk: Desk, phone: Phone
) -> None:
    """Over a slow line a worker would go on handling what another has taken over."""
    asked: list[float] = []
    told: list[float] = []

    class Far(Leases):
        async def acquire(self, partition: Partition) -> str | None:
            asked.append(time.monotonic())
            token = await super().acquire(partition)
            await asyncio.sleep(0.2)
            return token

        async def renew(self, partition: Partition, token: str) -> bool:
            asked.append(time.monotonic())
            held = await super().renew(partition, token)
            await asyncio.sleep(0.2)
            return held

    class Noting(Owner):
        def renewed(self, asked: float) -> None:
            told.append(asked)
            super().renewed(asked)

    leases = Far(desk.client, desk.batch, owner="far", ttl_ms=3_000)
    async with ways(echo(), phone.url) as how:

        def make_owner(
            partition: Partition, token: str, asked_for: float, changed: Callable[[], None]
        ) -> Owner:
            told.append(asked_for)
            store = PartitionStore(desk.client, desk.batch, ONLY, token, sent_window_s=60)
            parts = (store, how.handling, how.sending, changed)
            return Noting(*parts, lease_s=3, renewed=asked_for)

        async with running(desk, leases, make_owner, lease_s=3, grace_s=1):
            await until(lambda: len(told) >= 2)
    assert all(counted <= sent for counted, sent in zip(told, asked, strict=False))
