"""Leases: one owner at a time, each with a greater epoch."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import LeaseLost
from service.model import Partition
from service.store.keys import WORKERS, PartitionKeys
from service.store.partition import PartitionStore
from tests.present import present
from tests.store.pieces import LEASE_MS, Store

pytestmark = pytest.mark.anyio
P = Partition(1)


async def test_a_partition_has_one_owner_at_a_time(store: Store) -> None:
    """Two owners would handle one conversation side by side."""
    tokens = present(await asyncio.gather(*(store.leases(f"w{i}").acquire(P) for i in range(10))))
    assert len([token for token in tokens if token]) == 1


async def test_every_owner_has_a_greater_epoch_than_the_one_before(store: Store) -> None:
    """A token that came again would let a stalled owner commit."""
    epochs = []
    for _ in range(3):
        token = present(await store.leases("same").acquire(P))
        epochs.append(int(token.rpartition(":")[2]))
        assert await store.leases("same").release(P, token)
    assert epochs == [1, 2, 3]


async def test_a_lease_that_is_not_renewed_runs_out(store: Store) -> None:
    """A killed worker would keep its conversations waiting for ever."""
    token = present(await store.leases("dead", ttl_ms=50).acquire(P))
    await asyncio.sleep(0.1)
    assert not await store.leases("dead").renew(P, token)
    assert await store.leases("next").acquire(P)


async def test_renewing_holds_a_lease_beyond_its_time(store: Store) -> None:
    """A busy worker would lose its partitions while it works."""
    leases = store.leases("w", ttl_ms=200)
    token = present(await leases.acquire(P))
    for _ in range(4):
        await asyncio.sleep(0.1)
        assert await leases.renew(P, token)
    assert await store.leases("other").acquire(P) is None


async def test_a_token_is_not_taken_for_a_later_one_that_begins_like_it(store: Store) -> None:
    """A worker would renew, restart or give up what it lost long ago and another stint holds."""
    leases = store.leases("w")
    first = present(await leases.acquire(P))
    token = first
    while token.rpartition(":")[2] != "10":
        await leases.release(P, token)
        token = present(await leases.acquire(P))
    assert token.startswith(first)
    former = PartitionStore(store.client, store.batch, P, first, sent_window_s=60)
    with pytest.raises(LeaseLost):
        await former.restart(1)
    assert not await leases.renew(P, first)
    assert not await leases.release(P, first)
    assert await leases.renew(P, token)


async def test_the_register_lists_the_living_and_forgets_the_silent(store: Store) -> None:
    """Shares counted with dead workers would leave partitions without an owner."""
    first, second = store.leases("a", ttl_ms=300), store.leases("b")
    assert await first.announce() == ["a"]
    assert await second.announce() == ["a", "b"]
    await asyncio.sleep(0.35)
    assert await second.announce() == ["b"]
    await second.leave()
    assert await first.announce() == ["a"]


async def test_a_dead_workers_leases_are_given_up_and_nobody_elses(store: Store) -> None:
    """Its conversations would wait for a lease's time, or a living worker would lose its own."""
    dead, alike = store.leases("w1"), store.leases("w11")
    held = [await dead.acquire(Partition(p)) for p in (0, 1)]
    kept = present(await alike.acquire(Partition(2)))
    await dead.announce()
    await alike.announce()
    assert await store.leases("w1").disown(4) == 2
    assert not await dead.renew(Partition(0), present(held[0]))
    assert await alike.renew(Partition(2), kept)
    assert await alike.announce() == ["w11"]
    assert await store.leases("heir").acquire(Partition(1))
    assert await store.leases("w1").disown(4) == 0


HOUR_MS = 3_600_000


async def test_a_dead_workers_lease_does_not_last_as_long_as_redis_clock_was_put_back(
    store: Store,
) -> None:
    """Redis keeps the moment at which it runs out: a partition would have no owner for an hour."""
    keys = PartitionKeys(P)
    former = present(await store.leases("dead").acquire(P))
    await store.client.pexpire(keys.lease, HOUR_MS)
    token = present(await store.leases("next").acquire(P))
    assert token == "next:2"
    assert not await store.leases("dead").renew(P, former)
    assert await store.client.pttl(keys.lease) <= LEASE_MS


async def test_the_longest_lease_that_can_be_set_is_held(store: Store) -> None:
    """A worker that lives would lose its partitions to whoever asks first."""
    assert await store.leases("w", ttl_ms=300_000).acquire(P)
    assert await store.leases("other").acquire(P) is None


async def test_the_register_forgets_the_dead_though_redis_clock_was_put_back(store: Store) -> None:
    """The living would leave a dead worker its share of the partitions for an hour."""
    now_s, _ = await store.client.time()
    await store.client.zadd(WORKERS, {"dead": now_s * 1000 + HOUR_MS})
    longest = store.leases("a", ttl_ms=300_000)
    assert await longest.announce() == ["a"]
    assert await store.leases("b").announce() == ["a", "b"]
