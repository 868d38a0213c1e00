"""Failed sign-ins: waits that grow, for whoever fails, and not for others."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from service.core.proofs import digest_of
from service.store import tries
from service.store.keys import TRIES, tries_of
from service.store.tries import IN_ALL, OF_NETWORK, network_of
from tests.store.pieces import Store

pytestmark = pytest.mark.anyio

ATTACKER, OPERATOR = "192.0.2.66", "192.0.2.1"


async def later(client: Any, by_ms: int) -> None:
    """Leave in Redis what it would hold after this time."""
    # As a set: a scan may meet one twice.
    for key in {key async for key in client.scan_iter("parley:{console}:tries*")}:
        value, left = await client.get(key), await client.pttl(key)
        if value is None:  # Forgotten meanwhile, as its time was over anyhow.
            continue
        until, next_ = map(int, value.split())
        if left <= by_ms:
            await client.delete(key)
        else:
            await client.set(key, f"{until - by_ms} {next_ - by_ms}", px=left - by_ms)


async def fail(client: Any, address: str, times: int) -> list[int]:
    """Fail so often, each time as soon as it is looked at; return the waits, s, before each."""
    waits = []
    for _ in range(times):
        looked = await tries.ask(client, address)
        wait_ms = 0
        if not looked.now:
            wait_ms = looked.wait_ms
            await later(client, wait_ms)
            looked = await tries.ask(client, address)
        assert looked.now
        waits.append(round(wait_ms / 1000))
    return waits


async def test_waits_begin_after_five_failures_double_and_end_at_a_quarter_of_an_hour(
    store: Store,
) -> None:
    """Five slips would lock people out, or a machine try a thousand words an hour."""
    waits = await fail(store.client, ATTACKER, 17)
    assert waits[:15] == [0] * 6 + [2, 4, 8, 16, 32, 64, 128, 256, 512]
    # From here on one is forgotten for each that is added.
    assert set(waits[15:]) == {512, 900}


async def test_a_try_that_was_right_is_taken_back_and_the_failures_before_it_stay(
    store: Store,
) -> None:
    """Who types the right password often would be locked out, or could try another one for ever."""
    for _ in range(20):
        assert (await tries.ask(store.client, OPERATOR)).now
        await tries.take_back(store.client, OPERATOR)
    assert not [key async for key in store.client.scan_iter("parley:{console}:tries*")]
    await fail(store.client, OPERATOR, 5)
    for _ in range(3):
        assert (await tries.ask(store.client, OPERATOR)).now
        await tries.take_back(store.client, OPERATOR)
    assert (await fail(store.client, OPERATOR, 2)) == [0, 2]


async def test_the_wait_that_follows_a_failure_is_told_with_it(store: Store) -> None:
    """People would press the button again and again."""
    told = [(await tries.ask(store.client, ATTACKER)).wait_ms for _ in range(6)]
    assert told[:6] == [0, 0, 0, 0, 0, 2_000]
    looked = await tries.ask(store.client, ATTACKER)
    assert not looked.now
    assert 0 < looked.wait_ms <= 2_000


async def test_of_many_at_the_same_time_no_more_are_looked_at(store: Store) -> None:
    """A machine sends a thousand at once instead of one after the other."""
    began = time.monotonic()
    found = await asyncio.gather(*(tries.ask(store.client, ATTACKER) for _ in range(100)))
    # One more for each wait that is over before the last of them, on a machine that is busy.
    waits = int((time.monotonic() - began) * 1000 / OF_NETWORK.first_ms)
    looked_at = sum(looked.now for looked in found)
    assert OF_NETWORK.free + 1 <= looked_at <= OF_NETWORK.free + 1 + waits


async def test_one_that_fails_for_a_whole_day_makes_nobody_else_wait(store: Store) -> None:
    """Whoever has one address could keep the operator out."""
    looked_at, passed_ms = 0, 0
    while passed_ms < 86_400_000:
        looked = await tries.ask(store.client, ATTACKER)
        if looked.now:
            looked_at += 1
            continue
        assert (await tries.ask(store.client, f"198.51.100.{looked_at}")).now
        await later(store.client, looked.wait_ms)
        passed_ms += looked.wait_ms
    assert 90 < looked_at < 150


async def test_many_networks_together_wait_too_and_no_longer_than_half_a_minute(
    store: Store,
) -> None:
    """A botnet has an address for each try."""
    found = [await tries.ask(store.client, f"192.0.2.{i}") for i in range(60)]
    assert [looked.now for looked in found] == [True] * 51 + [False] * 9
    for i in range(100):
        looked = await tries.ask(store.client, f"198.51.100.{i}")
        assert looked.wait_ms <= IN_ALL.longest_ms
        await later(store.client, looked.wait_ms)
    # Soon after it has ended all is as before; it is not held against anybody for a day.
    await later(store.client, 60_000 * (IN_ALL.most - IN_ALL.free + 1))
    assert (await tries.ask(store.client, OPERATOR)).now
    assert (await tries.ask(store.client, "203.0.113.1")).now


async def test_nothing_is_left_when_all_is_forgotten(store: Store) -> None:
    """Every address that ever failed would stay in Redis."""
    await fail(store.client, ATTACKER, 20)
    for key in (TRIES, tries_of(digest_of(ATTACKER))):
        left = await store.client.pttl(key)
        assert 0 < left <= OF_NETWORK.most * OF_NETWORK.forgotten_ms


async def test_a_clock_that_was_put_back_locks_nobody_out(store: Store) -> None:
    """Nobody could sign in for as long as the jump."""
    await fail(store.client, ATTACKER, 7)
    await later(store.client, -86_400_000)
    assert (await tries.ask(store.client, ATTACKER)).now


@pytest.mark.parametrize("value", ["", "x", "1", "1 2 3", "-1 -1"])
async def test_a_damaged_count_locks_nobody_out(store: Store, value: str) -> None:
    """Nobody could sign in until somebody has looked into Redis."""
    await store.client.set(TRIES, value)
    assert (await tries.ask(store.client, OPERATOR)).now


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_a_network_is_what_one_site_has(address: str, network: str) -> None:
    """A host has 2^64 addresses of IPv6, each with five tries."""
    assert network_of(address) == network
