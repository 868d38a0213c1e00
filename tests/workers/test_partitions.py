"""Who owns which partition, as workers come, go and die."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from service.model import Partition
from service.store.arrivals import Arrivals
from service.store.batch import Batch
from service.store.connection import connect
from service.store.inbox import Inbox
from service.store.keys import PartitionKeys
from service.store.leases import Leases
from service.store.partition import PartitionStore
from service.workers.owner import Owner
from service.workers.partitions import Partitions
from tests.workers.pieces import Desk, Ways, echo, text, until, ways

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
async def hire(redis_server, phone):
    """Make workers; all of them end with the test."""
    closing, workers = [], []
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


def _owners(client, batch: Batch, how: Ways, lease_s: float):
    def make_owner(partition, token, asked, changed) -> Owner:
        store = PartitionStore(client, batch, partition, token, sent_window_s=60)
        return Owner(store, how.handling, how.sending, changed, lease_s=lease_s, renewed=asked)

    return make_owner


async def test_a_worker_alone_owns_everything(hire):
    """Texts of some conversations would never be answered."""
    worker = hire("alone")
    await until(lambda: worker.owned == set(range(COUNT)), 2)


async def test_two_workers_share_evenly_within_two_seconds(hire):
    """A second process would stand idle."""
    first = hire("first")
    await until(lambda: len(first.owned) == COUNT, 2)
    second = hire("second")
    await until(lambda: len(first.owned) == len(second.owned) == COUNT // 2, 2)
    assert first.owned | second.owned == set(range(COUNT))


async def test_a_clean_stop_hands_everything_over_within_two_seconds(hire):
    """Every deployment would leave conversations unanswered until leases run out."""
    staying, leaving = hire("staying", 60), hire("leaving", 60)
    await until(lambda: len(staying.owned) == len(leaving.owned) == COUNT // 2, 4)
    begun = time.monotonic()
    await leaving.end()
    await until(lambda: len(staying.owned) == COUNT, 2)
    assert time.monotonic() - begun < 2


async def test_after_a_kill_the_others_take_over_once_its_leases_have_run_out(hire, desk: Desk):
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


async def test_a_worker_whose_leases_are_gone_lets_go_and_takes_them_again(hire, desk: Desk):
    """A worker that was frozen would go on as an owner that it is not any more."""
    worker = hire("frozen", 1)
    await until(lambda: len(worker.owned) == COUNT, 2)
    keys = [PartitionKeys(Partition(partition)) for partition in range(COUNT)]
    for each in keys:
        await desk.client.set(each.lease, "other:99", px=1_000)
    await until(lambda: not worker.owned, 2)
    await until(lambda: len(worker.owned) == COUNT, 4)
    assert all([(await desk.client.get(each.lease)).startswith(b"frozen:") for each in keys])


async def test_nothing_is_lost_doubled_or_overtaken_while_partitions_move(hire, desk: Desk, phone):
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
