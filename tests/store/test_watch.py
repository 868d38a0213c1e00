"""What is known of Redis while the service runs: fail-overs, changed settings, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
import redis
from structlog.testing import capture_logs

from service.store.batch import Batch
from service.store.connection import connect
from service.store.durability import look
from service.store.inbox import Inbox
from service.store.watch import Watch
from tests.redis_servers import sentinel, single, valkey_binary, wait_until
from tests.store.pieces import PARTITIONS, message

pytestmark = pytest.mark.anyio


async def none_dead() -> int:
    """Count no dead letters."""
    return 0


async def until(what: Callable[[], object], within_s: float = 20) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(within_s):
        while not what():
            await asyncio.sleep(0.02)


async def test_a_successor_that_keeps_less_is_said_once() -> None:
    """After a fail-over texts would be answered 200 that a power cut takes, and nobody knew."""
    with sentinel() as servers:
        client = connect(servers.url)
        ask = partial(look, client, "fsync", replicas=0, replica_timeout_s=0.2)
        watch = Watch(ask, none_dead, lambda _: None, await ask())
        assert not any("appendfsync" in note for note in watch.verdict.notes)
        servers.replica.client.config_set("appendfsync", "no")
        watching = asyncio.create_task(watch.run(0.05))
        with capture_logs() as lines:
            servers.kill_master()
            await until(lambda: any("appendfsync is no" in note for note in watch.verdict.notes))
            await asyncio.sleep(0.3)
        said = [line for line in lines if "appendfsync is no" in line["event"]]
        assert [line["log_level"] for line in said] == ["warning"]
        watching.cancel()
        await client.aclose()


async def test_commits_are_confirmed_as_the_present_server_needs_it() -> None:
    """With `everysec` come to life later, a 200 would be said before the file is synced."""
    with single(valkey_binary()) as server:
        client = connect(server.url)
        batch = Batch(client)
        inbox = Inbox(batch, partitions=PARTITIONS, window_s=60, limit=100_000)
        ask = partial(look, client, "fsync", replicas=0, replica_timeout_s=0.2)
        watch = Watch(ask, none_dead, batch.confirm, await ask())
        watching = asyncio.create_task(watch.run(0.02))
        assert await inbox.accept(message("SM0"))
        assert server.client.info("commandstats").get("cmdstat_waitaof") is None
        server.client.config_set("appendfsync", "everysec")
        # Also while the way of confirming changes, every text is accepted once.
        number = 0
        while not watch.verdict.confirmations:
            number += 1
            assert await inbox.accept(message(f"SM{number}"))
        assert await inbox.accept(message("SMsynced"))
        assert server.client.info("commandstats")["cmdstat_waitaof"]["calls"] > 0
        server.client.config_set("appendfsync", "always")
        with capture_logs() as lines:
            await until(lambda: not watch.verdict.confirmations)
        assert "this holds no longer" in [line["event"] for line in lines]
        assert await inbox.accept(message("SMlast"))
        watching.cancel()
        await batch.aclose()
        await client.aclose()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


async def test_a_redis_that_is_away_changes_nothing_and_is_watched_again() -> None:
    """The watch would end with the first outage, the very time it is for."""
    with single() as server:
        client = connect(server.url)
        ask = partial(look, client, "fsync", replicas=0, replica_timeout_s=0.2)
        watch = Watch(ask, none_dead, lambda _: None, await ask())
        before = watch.verdict
        watching = asyncio.create_task(watch.run(0.05))
        server.kill()
        await asyncio.sleep(0.3)
        assert watch.verdict == before
        assert not watching.done()
        server.start_again()
        await asyncio.to_thread(wait_until, partial(_answers, server.client), "it is back")
        server.client.config_set("maxmemory-policy", "allkeys-lru")
        await until(lambda: any("allkeys-lru" in note for note in watch.verdict.notes))
        watching.cancel()
        await client.aclose()


async def test_a_pile_of_dead_letters_is_told_at_a_thousand_and_every_doubling() -> None:
    """They are never dropped by themselves: Redis would be full one day, without a word before."""
    with single() as server:
        client = connect(server.url)
        ask = partial(look, client, "fsync", replicas=0, replica_timeout_s=0.2)
        watch = Watch(ask, none_dead, lambda _: None, await ask())
        await client.aclose()
    told = []
    for count in (0, 999, 1_000, 1_999, 2_000, 9_000, 9_001, 15_999, 3, 1_200):
        with capture_logs() as lines:
            watch.take_count(count)
        told += [line["dead_letters"] for line in lines if line["log_level"] == "warning"]
        assert watch.dead_letters == count
    assert told == [1_000, 2_000, 9_000, 1_200]
