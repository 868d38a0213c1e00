"""Locks: one holder at a time, for as long as it works, and none that goes on without."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from service.core.sealing import Sealer
from service.errors import LockLost, StoreUnavailable
from service.store.client import Redis
from service.store.connection import connect
from service.store.instances import Instances
from service.store.keys import BACKFILL_LOCK, INSTANCE_LOCK
from service.store.locks import locked
from service.store.watermark import Watermark
from tests.redis_servers import single
from tests.store.pieces import Store

pytestmark = pytest.mark.anyio

KEY = "parley:{test}:lock"
TTL_S = 1.0


async def test_a_slow_holder_keeps_its_lock_and_another_waits_for_its_end(store: Store) -> None:
    """A slow connector would let two processes make an instance each, side by side."""
    order = []

    async def hold(name: str, seconds: float) -> None:
        async with locked(store.client, KEY, ttl_s=TTL_S):
            order.append(f"{name} begins")
            await asyncio.sleep(seconds)
            order.append(f"{name} ends")

    slow = asyncio.create_task(hold("slow", 2 * TTL_S))
    while not order:
        await asyncio.sleep(0.01)
    await hold("next", 0)
    await slow
    assert order == ["slow begins", "slow ends", "next begins", "next ends"]
    assert not await store.client.exists(KEY)


async def test_a_killed_holder_blocks_the_others_for_the_locks_time_only(store: Store) -> None:
    """Nothing would be provisioned or read back any more after a crash at the wrong moment."""
    await store.client.set(KEY, "of a killed one", px=int(TTL_S * 1000))
    begun = time.monotonic()
    async with locked(store.client, KEY, ttl_s=TTL_S):
        assert TTL_S - 0.05 < time.monotonic() - begun < TTL_S + 1


async def test_a_killed_holders_lock_does_not_last_as_long_as_redis_clock_was_put_back(
    store: Store,
) -> None:
    """Redis keeps the moment at which it runs out: nothing would be provisioned for an hour."""
    await store.client.set(KEY, "of a killed one", px=3_600_000)
    async with asyncio.timeout(1):
        async with locked(store.client, KEY, ttl_s=TTL_S):
            assert await store.client.pttl(KEY) <= TTL_S * 1000


async def test_a_lock_is_held_though_redis_clock_was_put_right_by_a_little(store: Store) -> None:
    """Two processes would make an instance each whenever a machine sets its clock."""
    await store.client.set(KEY, "of one that lives", px=int(TTL_S * 1000) + 30_000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3), locked(store.client, KEY, ttl_s=TTL_S):
            pass
    assert await store.client.get(KEY) == b"of one that lives"


async def test_a_holder_whose_lock_has_gone_to_another_is_stopped(store: Store) -> None:
    """Two processes would go on side by side, each sure to be the only one."""
    steps = []

    async def hold() -> None:
        async with locked(store.client, KEY, ttl_s=TTL_S):
            steps.append("first")
            await store.client.set(KEY, "another's", px=60_000)
            await asyncio.sleep(TTL_S)
            steps.append("second")

    with pytest.raises(LockLost, match=r"parley:\{test\}:lock was lost"):
        await hold()
    assert steps == ["first"]
    assert await store.client.get(KEY) == b"another's"


async def test_a_holder_cut_off_from_redis_is_stopped_when_its_lock_may_have_run_out() -> None:
    """Nobody can tell it that another process has the lock: its own clock has to."""
    steps = []

    async def hold(client: Redis, pid: int) -> None:
        async with locked(client, KEY, ttl_s=TTL_S):
            await asyncio.sleep(0.1)
            os.kill(pid, signal.SIGSTOP)
            steps.append(time.monotonic())
            await asyncio.sleep(3 * TTL_S)
            steps.append(time.monotonic())

    with single() as server:
        client = connect(server.url)
        try:
            with pytest.raises(LockLost, match="broken off"):
                await hold(client, server.process.pid)
            ended = time.monotonic()
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        await client.aclose()
    (cut_off,) = steps
    assert ended - cut_off < TTL_S + 0.5


async def test_renewals_that_fail_for_a_moment_are_made_up_for() -> None:
    """Every pause of Redis would break off what is being done, though nobody else has the lock."""
    with single() as server:
        client = connect(server.url, answer_timeout_s=0.1)
        async with locked(client, KEY, ttl_s=TTL_S):
            await asyncio.sleep(0.1)
            os.kill(server.process.pid, signal.SIGSTOP)
            await asyncio.sleep(0.6 * TTL_S)
            os.kill(server.process.pid, signal.SIGCONT)
            await asyncio.sleep(TTL_S)
            assert server.client.pttl(KEY) > 0
        await client.aclose()


async def test_a_lock_lost_unnoticed_is_told_at_the_end(store: Store) -> None:
    """What two processes did at once would count as done by one."""

    async def hold() -> None:
        async with locked(store.client, KEY):
            await asyncio.sleep(0.1)
            await store.client.set(KEY, "another's", px=60_000)

    with pytest.raises(LockLost, match="may have been done twice"):
        await hold()
    assert await store.client.get(KEY) == b"another's"


@pytest.mark.parametrize("error", [TimeoutError, ValueError, asyncio.CancelledError])
async def test_what_the_holder_raises_is_raised_and_the_lock_is_free(
    store: Store, error: type[BaseException]
) -> None:
    """A connector's time-out would be taken for a lost lock, or others would wait for nobody."""
    with pytest.raises(error, match="its own"):
        async with locked(store.client, KEY):
            raise error("its own")
    assert not await store.client.exists(KEY)


async def test_scripts_that_redis_forgot_are_taught_again_under_the_lock(store: Store) -> None:
    """A fail-over or SCRIPT FLUSH would end whatever is done under a lock."""
    async with locked(store.client, KEY, ttl_s=TTL_S):
        await store.client.script_flush()
        await asyncio.sleep(1.5 * TTL_S)
    assert not await store.client.exists(KEY)


async def test_a_lock_of_a_redis_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """Whoever waits for the lock would end by an error that nobody knows."""
    client = connect(f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(StoreUnavailable):
        async with locked(client, KEY):
            pass
    await client.aclose()


async def test_provisioning_and_backfill_have_locks_of_their_own(store: Store) -> None:
    """A long backfill would hold up the instance that replies wait for."""
    async with (
        Instances(store.client, Sealer(["a secret key of thirty-two characters"])).lock(),
        Watermark(store.client).lock(),
    ):
        assert await store.client.exists(INSTANCE_LOCK, BACKFILL_LOCK) == 2
