"""The parts of a process: whole from the start, and as good after a failure as before."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial

import httpx
import pytest

from service.core.metrics import PARTITIONS_OWNED
from service.errors import StoreMismatch
from service.handlers.router import Router
from service.model import Message
from service.store.inbox import Inbox
from service.wiring.parts.base import Base
from service.wiring.parts.gaps import Gaps
from service.wiring.parts.public import PublicSide
from service.wiring.parts.work import WorkSide
from tests.workers.pieces import text, until

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def running(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    """Cancel tasks at the end, more than once as a process does: one may miss the first time."""
    try:
        yield
    finally:
        while left := [task for task in tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=0.5)


async def test_redis_is_opening_until_it_was_looked_at(make_base: Callable[..., Base]) -> None:
    """A process that can take no text yet would call itself ready."""
    base = make_base()
    check = await base.redis.check()
    assert (check.ok, check.detail) == (False, "opening")
    assert base.redis.known.dead_letters == 0
    async with running(asyncio.create_task(base.redis.run())):
        assert await base.redis.opened_before_stop()
        assert (await base.redis.check()).ok


async def test_redis_laid_out_otherwise_stops_the_process(make_base: Callable[..., Base]) -> None:
    """Texts would land in partitions that nobody looks at."""
    first = make_base()
    async with running(asyncio.create_task(first.redis.run())):
        await first.redis.opened_before_stop()
    other = make_base(PARTITIONS="8")
    await other.redis.run()
    assert not await other.redis.opened_before_stop()
    assert not other.redis.opened.is_set()
    with pytest.raises(StoreMismatch, match="laid out with 16 partitions"):
        other.stop.raise_failure()


async def test_a_stop_is_heard_while_redis_is_away(make_base: Callable[..., Base]) -> None:
    """It could be ended by force alone."""
    base = make_base("unix:///nowhere/redis.sock")
    async with running(asyncio.create_task(base.redis.run())):
        waiting = asyncio.create_task(base.redis.opened_before_stop())
        base.stop.told.set()
        assert not await waiting
    base.stop.raise_failure()
    assert not (await base.redis.check()).ok


async def test_a_door_that_failed_serves_again_and_has_forgotten_no_callback(
    make_base: Callable[..., Base],
) -> None:
    """A counter that goes back shows a rate of callbacks that nobody sent."""
    base = make_base()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/callbacks/twilio"
    door = PublicSide(base, listener)
    async with (
        running(asyncio.create_task(base.redis.run()), door.start()),
        httpx.AsyncClient() as caller,
    ):
        assert (await caller.post(url, data={"Body": "forged"})).status_code == 403
        door._server.should_exit = True  # The server ends, and nobody has asked it to.
        await until(lambda: "the door" in base.tasks.failed)
        assert (await caller.post(url, data={"Body": "forged"})).status_code == 403
        assert door.counters()["callbacks_bad_signature"] == 2
        base.stop.told.set()
        await until(lambda: listener.fileno() == -1)


async def test_work_goes_on_when_it_is_begun_again(
    make_base: Callable[..., Base], redis_server: str
) -> None:
    """After a failure of the worker no text would be answered, and the process call itself well."""
    base = make_base()
    router = Router()
    handled: list[str] = []

    @router.default
    async def note(message: Message) -> None:
        handled.append(message.body)

    def handled_last(name: str) -> bool:
        return handled[-1:] == [name]

    def owned() -> float:
        return side.figures().gauges[PARTITIONS_OWNED.name][""]

    side = WorkSide(base, router, redis_server, "worker", None)
    inbox = Inbox(base.batch, partitions=16, window_s=60, limit=10)
    async with running(asyncio.create_task(base.redis.run())):
        assert owned() == 0
        for round_ in ("first", "second"):
            begun = asyncio.create_task(side.run())
            async with running(begun):
                await until(lambda: owned() == 16)
                await inbox.accept(text(f"SM{round_}", round_))
                await until(partial(handled_last, round_))
            assert owned() == 0
        worker = side.start()
        await until(lambda: owned() == 16)
        base.stop.told.set()
        await asyncio.wait_for(worker, 5)
        assert owned() == 0


async def test_what_is_not_asked_for_reads_nothing_back_and_has_no_figures(
    make_base: Callable[..., Base],
) -> None:
    """A process with BACKFILL_EVERY_S=0 would ask the connector for its log all the same."""
    base = make_base(BACKFILL_EVERY_S="0")
    gaps = Gaps(base, lambda: 0)
    base.redis.opened.set()
    base.instance.ready.set()
    await asyncio.wait_for(gaps.start(), 5)
    assert gaps.figures().counters == {}
    assert gaps.state == ""
