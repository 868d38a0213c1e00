"""Commits that take effect after their worker gave up on them: Redis was slow, not gone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest

from service.errors import LeaseLost
from service.handlers.router import Router
from service.model import Message
from service.store.partition import PartitionStore
from tests.store.pieces import outbound
from tests.workers.pieces import KEYS, ONLY, Desk, Phone, at_work, text, until, ways

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def surprised(desk: Desk, phone: Phone) -> AsyncIterator[PartitionStore]:
    """A worker that finds a message settled by a command that it gave up on.

    Yields the store as it was then, once the worker has started over and all is answered.
    """
    router, go = Router(), asyncio.Event()

    async def answer(message: Message) -> str:
        if message.sid == "SM1":
            await go.wait()
        return f"to {message.sid}"

    router.default(answer)
    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(lambda: desk.client.exists(KEYS.lease))
        first, second = text("SM1"), text("SM2")
        began, entry = await desk.take_in(first, second)
        await until(lambda: desk.client.hexists(KEYS.inbox_tries, began))
        await asyncio.sleep(0.1)
        token = (await desk.client.get(KEYS.lease)).decode()
        before = PartitionStore(desk.client, desk.batch, ONLY, token, sent_window_s=60)
        await before.settle(entry, [outbound(second, body="to SM2")], mark=False)
        go.set()
        await until(desk.empty)
        yield before


async def test_a_message_found_settled_has_its_reply_sent(desk: Desk, phone: Phone) -> None:
    """The reply would lie in the outbox, unseen, until the next restart."""
    async with surprised(desk, phone):
        assert phone.texts == ["to SM1", "to SM2"]


async def test_a_commit_from_before_a_partition_started_over_is_refused(
    desk: Desk, phone: Phone
) -> None:
    """It would change what has been read since: a reply nobody knows of, a mark taken away."""
    async with surprised(desk, phone) as before:
        (entry,) = await desk.take_in(text("SM3"))
        with pytest.raises(LeaseLost):
            await before.settle(entry, [outbound(text("SM3"))], mark=False)
        await until(desk.empty)
        assert phone.texts[2:] == ["to SM3"]


async def test_a_message_settled_while_its_handler_runs_has_that_reply_sent(
    desk: Desk, phone: Phone
) -> None:
    """A settle whose answer was lost is taken for done: its reply lies in the outbox for ever."""
    router, began, go = Router(), threading.Event(), threading.Event()

    @router.default
    def answer(message: Message) -> str:
        began.set()
        go.wait(5)
        return "not this one"

    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(lambda: desk.client.exists(KEYS.lease))
        first = text("SM1")
        (entry,) = await desk.take_in(first)
        await until(began.is_set)
        token = (await desk.client.get(KEYS.lease)).decode()
        same = PartitionStore(desk.client, desk.batch, ONLY, token, sent_window_s=60)
        await same.settle(entry, [outbound(first, body="the one")], mark=False)
        go.set()
        await until(desk.empty)
    assert phone.texts == ["the one"]
