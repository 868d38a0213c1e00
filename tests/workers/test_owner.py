"""One partition under its lease, seen from inside the process."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from service.handlers.router import Router
from service.model import Message, Outbound
from service.store.arrivals import START
from service.store.backlog import Backlog, Entry
from service.store.partition import PartitionStore
from service.workers.owner import Bookmark, Owner
from service.workers.replies import SendingConnector
from tests.present import present
from tests.store.pieces import outbound
from tests.workers.pieces import ONLY, Desk, Phone, echo, owner_of, text, until, ways

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stop", [False, True], ids=["at work", "with time to finish"])
async def test_a_handler_ends_with_the_lease_though_nobody_says_that_it_is_lost(
    desk: Desk, phone: Phone, stop: bool
) -> None:
    """Cut off from Redis, this worker would run a handler beside its successor's."""
    router, began, ended = Router(), asyncio.Event(), []

    async def linger(message: Message) -> None:
        began.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(time.monotonic())

    router.default(linger)
    async with desk.owned() as mine, ways(router, phone.url, timeout_s=30) as how:
        store = PartitionStore(desk.client, desk.batch, ONLY, mine.token, sent_window_s=60)
        asked = time.monotonic()
        owner = Owner(store, how.handling, how.sending, lambda: None, lease_s=0.8, renewed=asked)
        running = asyncio.create_task(owner.run())
        await until(lambda: owner.bookmark is not None)
        (entry,) = await desk.take_in(text("SM1"))
        bookmark = owner.bookmark
        assert bookmark is not None
        await owner.take([Entry(entry, text("SM1"))], bookmark)
        await began.wait()
        if stop:
            owner.stop(20)
        async with asyncio.timeout(5):
            await running
    assert len(ended) == 1
    assert 0.7 < ended[0] - asked < 1.2


async def test_what_was_read_for_another_round_or_place_is_left_where_it_is(
    desk: Desk, phone: Phone
) -> None:
    """A partition that started over would pass over texts, or begin with a later one."""
    router, handled = Router(), []
    router.default(lambda message: handled.append(message.sid))
    async with desk.owned() as mine, ways(router, phone.url) as how:
        owner = owner_of(desk, how, mine.token, time.monotonic(), lambda: None)
        running = asyncio.create_task(owner.run())
        await until(lambda: owner.bookmark is not None)
        bookmark = owner.bookmark
        assert bookmark == (1, START)
        texts = [text(f"SM{n}") for n in range(3)]
        entries = [
            Entry(id_, each) for id_, each in zip(await desk.take_in(*texts), texts, strict=True)
        ]
        # Read before the partition started over, behind a text that was under way then.
        await owner.take(entries[1:], Bookmark(0, entries[0].id))
        await owner.take(entries[1:], Bookmark(0, START))
        await owner.take(entries[2:], Bookmark(1, entries[1].id))
        assert owner.bookmark == bookmark
        await owner.take(entries[:2], bookmark)
        await owner.take(entries, bookmark)  # read a second time, as the reader was slow
        assert owner.bookmark == (1, entries[1].id)
        await owner.take(entries[2:], Bookmark(1, entries[1].id))
        await until(desk.empty)
        owner.stop(1)
        await running
    assert handled == ["SM0", "SM1", "SM2"]


async def test_a_process_frozen_on_the_way_to_a_post_does_not_send_it(
    desk: Desk, phone: Phone
) -> None:
    """By the time it goes on, another worker has sent the reply: the person gets it twice."""

    class Frozen:
        def __init__(self, connector: SendingConnector) -> None:
            self._connector = connector
            self.sent_to = connector.sent_to
            self.moment = connector.moment

        async def send(self, outbound: Outbound, before_write: Callable[[], None]) -> str:
            time.sleep(1.2)  # the whole process, its clock excepted
            return await self._connector.send(outbound, before_write)

    async with desk.owned() as mine, ways(echo(), phone.url) as how:
        store = PartitionStore(desk.client, desk.batch, ONLY, mine.token, sent_window_s=60)
        sending = replace(how.sending, connector=Frozen(how.sending.connector))
        began = time.monotonic()
        owner = Owner(store, how.handling, sending, lambda: None, lease_s=1, renewed=began)
        running = asyncio.create_task(owner.run())
        await until(lambda: owner.bookmark is not None)
        (entry,) = await desk.take_in(text("SM1"))
        await owner.take([Entry(entry, text("SM1"))], present(owner.bookmark))
        async with asyncio.timeout(5):
            await running
        assert phone.posts == []
        assert len((await mine.backlog()).marked) == 1, "in doubt: the next owner looks it up"


async def test_an_entry_that_breaks_its_partition_breaks_no_other(desk: Desk, phone: Phone) -> None:
    """The reader brings entries to all partitions, and none would get any more."""
    async with desk.owned() as mine, ways(echo(), phone.url) as how:
        owner = owner_of(desk, how, mine.token, time.monotonic(), lambda: None)
        running = asyncio.create_task(owner.run())
        await until(lambda: owner.bookmark is not None)
        (entry,) = await desk.take_in(text("SM1"))
        await owner.take(
            [Entry(entry, None)],  # type: ignore[arg-type]  # what is wrong
            present(owner.bookmark),
        )
        with pytest.raises(AttributeError):
            await asyncio.wait_for(running, 1)


async def test_the_outbox_of_the_start_is_not_kept_in_memory(desk: Desk, phone: Phone) -> None:
    """Every reply that an earlier worker left would be in memory for as long as the lease."""
    (entry,) = await desk.take_in(text("SM1"))
    async with desk.owned() as mine, ways(echo(), phone.url) as how:
        await mine.settle(entry, [outbound(text("SM1"))], mark=False)
        owner = owner_of(desk, how, mine.token, time.monotonic(), lambda: None)
        running = asyncio.create_task(owner.run())
        await until(desk.empty)
        gc.collect()
        kept = [each for each in gc.get_objects() if isinstance(each, Backlog)]
        assert not [each for each in kept if each.outbox]
        owner.stop(1)
        await running
