"""A Redis without memory left: the door is shut, and the workers must go on emptying it."""

from __future__ import annotations

import pytest

from service.errors import StoreUnavailable
from service.handlers.router import Router
from tests.workers.pieces import KEYS, at_work, text, until, ways

pytestmark = pytest.mark.anyio


@pytest.fixture
async def full(desk):
    """Makes the Redis full; it has room again at the end."""

    async def fill() -> None:
        await desk.client.config_set("maxmemory", 1)

    yield fill
    await desk.client.config_set("maxmemory", 0)


async def test_workers_empty_a_full_redis(desk, phone, full):
    """What fills it is what waits: nobody would ever be let in again."""
    router, failed = Router(), set()

    @router.default
    async def echo(message):
        if message.sid == "SM1" and not failed:
            failed.add(message.sid)
            raise ValueError("once")
        if message.sid == "SM2":
            raise ValueError("always")
        return message.body

    phone.plan = [(503, {})]
    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(lambda: desk.client.exists(KEYS.lease))
        await desk.take_in(*(text(f"SM{n}", str(n), theirs=f"+1500555020{n}") for n in range(4)))
        await full()
        await until(desk.empty)
        with pytest.raises(StoreUnavailable, match="OOM"):
            await desk.inbox.accept(text("SM9"))
    assert sorted(phone.texts) == ["0", "1", "3"]
    assert [letter.value.body for letter in await desk.dead()] == ["2"]


async def test_who_opts_out_is_noted_in_a_full_redis(desk, phone, full):
    """A STOP would become a dead letter, and texts go on to somebody who does not want them."""
    router = Router()

    @router.default
    async def echo(message):
        return message.body

    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(lambda: desk.client.exists(KEYS.lease))
        stop = text("SM1", "STOP", theirs="+15005550201")
        await desk.take_in(stop)
        await full()
        await until(desk.empty)
    assert await desk.dead() == []
    assert await desk.client.hlen(KEYS.optouts) == 1
