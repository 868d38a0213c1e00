"""The pace of our numbers, shared by every process."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from service.store.batch import Batch
from service.store.connection import connect
from service.store.keys import pace as key_of
from service.store.pace import HORIZON_S, Pace
from tests.store.pieces import Store

pytestmark = pytest.mark.anyio


async def test_two_processes_together_keep_one_numbers_pace(
    store: Store, redis_server: str
) -> None:
    """Twilio would queue or drop what is sent faster than the number may."""
    other_client = connect(redis_server)
    other = Batch(other_client)
    paces = [Pace(store.batch, 50), Pace(other, 50)]
    turns: list[float] = []

    async def send(pace: Pace) -> None:
        while (wait_s := await pace.turn("+15005550100", 1)) is None:
            await asyncio.sleep(0.05)
        turns.append(time.monotonic() + wait_s)

    began = time.monotonic()
    await asyncio.gather(*(send(paces[i % 2]) for i in range(100)))
    turns.sort()
    assert turns[-1] - began >= 1.9, "100 segments at 50 a second take 2 s, less the first"
    gaps = [later - earlier for earlier, later in itertools.pairwise(turns)]
    assert min(sum(gaps[i : i + 10]) for i in range(80)) >= 0.15, "10 turns in about 0.2 s"
    await other.aclose()
    await other_client.aclose()


async def test_numbers_have_their_own_pace(store: Store) -> None:
    """A busy number would hold up a quiet one."""
    pace = Pace(store.batch, 1)
    assert [await pace.turn(f"+1{i}", 1) for i in range(5)] == [0] * 5


async def test_a_long_text_takes_as_many_turns_as_it_has_parts(store: Store) -> None:
    """Five parts counted as one would go out at five times the pace."""
    pace = Pace(store.batch, 10)
    assert await pace.turn("+1", 5) == 0
    wait_s = await pace.turn("+1", 1)
    assert wait_s == pytest.approx(0.5, abs=0.05)


async def test_turns_are_given_out_for_the_next_second_only(store: Store) -> None:
    """A process that dies would take the turns of minutes with it."""
    pace = Pace(store.batch, 10)
    given = [await pace.turn("+1", 1) for _ in range(30)]
    taken = [wait_s for wait_s in given if wait_s is not None]
    assert 10 <= len(taken) <= 12
    assert max(taken) <= HORIZON_S


async def test_the_pace_key_does_not_stay_for_ever(store: Store) -> None:
    """Every number that was ever used would keep a key."""
    await Pace(store.batch, 10).turn("+1", 1)
    (key,) = [key async for key in store.client.scan_iter("*pace")]
    assert 0 < await store.client.pttl(key) <= 1_200


async def test_a_number_does_not_wait_for_as_long_as_redis_clock_was_put_back(store: Store) -> None:
    """Every reply from it would wait for an hour."""
    now_s, _ = await store.client.time()
    await store.client.set(key_of("+15005550100"), (now_s + 3_600) * 1_000_000, px=3_600_000)
    assert await Pace(store.batch, 10).turn("+15005550100", 1) == 0
    assert 0 < await store.client.pttl(key_of("+15005550100")) < 2_000
