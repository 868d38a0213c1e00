"""Nothing lost, nothing twice, nothing out of order: quiet days and bad ones."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.conftest import until
from tests.flow.fleet import LEASE_S, Fleet

PHONES = 50


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of a door and two workers, running."""
    made = Fleet(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


async def nothing(fleet: Fleet) -> None:
    """Break nothing."""


def test_two_thousand_texts_of_fifty_phones_are_answered_once_in_order(fleet):
    """The product's one promise."""
    fleet.run(nothing, phones=PHONES, texts=40, seed=1)


def test_workers_killed_under_load_lose_and_double_nothing(fleet):
    """A machine that fails takes other people's texts with it."""

    async def faults(fleet: Fleet) -> None:
        for place in (0, 1, 0):
            await asyncio.sleep(1)
            fleet.kill_worker(place)

    fleet.run(faults, phones=PHONES, texts=120, seed=2)


def test_a_worker_frozen_longer_than_its_lease_commits_nothing(fleet):
    """A stalled machine that wakes up answers what its successor has answered."""

    async def faults(fleet: Fleet) -> None:
        for place in (0, 1):
            await asyncio.sleep(0.5)
            fleet.workers[place].send_signal(signal.SIGSTOP)
            await asyncio.sleep(LEASE_S + 1)
            fleet.workers[place].send_signal(signal.SIGCONT)

    fleet.run(faults, phones=PHONES, texts=200, seed=3)


def test_workers_join_and_leave_within_two_seconds(fleet):
    """Every deployment would hold up its conversations for a lease's time."""

    async def faults(fleet: Fleet) -> None:
        await asyncio.sleep(0.5)
        fleet.add_worker()
        await asyncio.to_thread(until, lambda: len(fleet.owners()) == 3, 10)
        leaver = fleet.workers.pop(0)
        leaver.terminate()
        began = time.monotonic()
        await asyncio.to_thread(
            until, lambda: len(fleet.owners()) == 2 and sum(fleet.owners().values()) == 16, 10
        )
        assert time.monotonic() - began < 3, "hand-over takes two ticks and the grace, 2 s in all"
        assert await asyncio.to_thread(leaver.wait, 15) == 0

    fleet.run(faults, phones=PHONES, texts=150, seed=4)
    owners = fleet.owners()
    assert sorted(owners.values()) == [8, 8]


def test_redis_killed_and_restarted_on_its_file_loses_nothing(fleet):
    """What was answered 200 was on disk."""

    async def faults(fleet: Fleet) -> None:
        for _ in range(2):
            await asyncio.sleep(1)
            fleet.kill_redis()
            await asyncio.sleep(0.5)
            fleet.start_redis()

    fleet.run(faults, phones=PHONES, texts=100, seed=5)


def test_redis_out_of_reach_for_ten_seconds_needs_no_restart(fleet):
    """The door must say 503 meanwhile, and everything go on by itself afterwards."""

    async def faults(fleet: Fleet) -> None:
        await asyncio.sleep(0.5)
        assert fleet.redis is not None
        fleet.redis.send_signal(signal.SIGSTOP)
        await asyncio.sleep(10)
        fleet.redis.send_signal(signal.SIGCONT)

    fleet.run(faults, phones=PHONES, texts=60, seed=6)
    assert all(worker.poll() is None for worker in fleet.workers)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"status": 429, "retry_after_s": 1}, id="429"),
        pytest.param({"status": 500}, id="500"),
        pytest.param({"hang": True}, id="hanging"),
        pytest.param({"reset": True}, id="accepted, then reset"),
        pytest.param({"latency_ms": 300}, id="slow"),
    ],
)
def test_an_ailing_connector_loses_and_doubles_nothing(fleet, trouble):
    """Its outage must not become a lost text, nor a text sent twice."""

    async def faults(fleet: Fleet) -> None:
        for _ in range(2):
            await asyncio.sleep(0.7)
            # For a time and not for a count: a breaker that leaves it alone never uses a count up.
            fleet.trouble(**trouble, count=-1)
            await asyncio.sleep(1.5)
            fleet.trouble(count=0)

    fleet.run(faults, phones=PHONES, texts=60, seed=7)


def test_workers_killed_between_post_and_record_send_once(fleet):
    """The reply is out, and nothing in Redis says so."""

    async def faults(fleet: Fleet) -> None:
        for place in (0, 1):
            fleet.trouble(latency_ms=400, count=-1)
            await asyncio.sleep(1)
            fleet.kill_worker(place)
            fleet.trouble(count=0)
            await asyncio.sleep(1)

    fleet.run(faults, phones=PHONES, texts=80, seed=8)
    assert '"a reply in doubt had been sent"' in fleet.log()


def chaos_seeds(config: pytest.Config) -> list[int]:
    """One seed for each round: `--chaos-seed` alone, or as many as `--chaos-rounds` says."""
    given = config.getoption("--chaos-seed")
    if given is not None:
        return [int(given)]
    return [
        random.SystemRandom().randrange(10**9) for _ in range(config.getoption("--chaos-rounds"))
    ]


@pytest.mark.timeout(600)
def test_a_random_mix_of_everything_loses_and_doubles_nothing(fleet, request):
    """What nobody thought of testing."""
    for seed in chaos_seeds(request.config):
        dice = random.Random(seed)

        async def faults(fleet: Fleet, dice: random.Random = dice) -> None:
            for _ in range(dice.randrange(2, 5)):
                await asyncio.sleep(dice.uniform(0.1, 0.6))
                await dice.choice(MISHAPS)(fleet, dice)

        fleet.run(faults, phones=30, texts=25, seed=seed)


async def kill_a_worker(fleet: Fleet, dice: random.Random) -> None:
    """Kill -9, and another one started."""
    fleet.kill_worker(dice.randrange(len(fleet.workers)))


async def freeze_a_worker(fleet: Fleet, dice: random.Random) -> None:
    """SIGSTOP, for less or more than a lease."""
    worker = dice.choice(fleet.workers)
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(dice.choice((0.3, LEASE_S + 0.5)))
    worker.send_signal(signal.SIGCONT)


async def replace_a_worker(fleet: Fleet, dice: random.Random) -> None:
    """A clean stop, as in a deployment."""
    fleet.add_worker()
    leaver = fleet.workers.pop(0)
    leaver.terminate()
    await asyncio.to_thread(leaver.wait, 20)


async def kill_redis(fleet: Fleet, dice: random.Random) -> None:
    """Kill -9 of Redis, and a start on its file."""
    fleet.kill_redis()
    await asyncio.sleep(dice.uniform(0, 0.5))
    fleet.start_redis()


async def freeze_redis(fleet: Fleet, dice: random.Random) -> None:
    """A Redis that does not answer for a while."""
    assert fleet.redis is not None
    fleet.redis.send_signal(signal.SIGSTOP)
    await asyncio.sleep(dice.uniform(0.2, 2))
    fleet.redis.send_signal(signal.SIGCONT)


async def trouble_the_connector(fleet: Fleet, dice: random.Random) -> None:
    """One of the ways a connector fails, for a while."""
    ways: tuple[dict[str, object], ...] = (
        {"status": 429, "retry_after_s": 0.5},
        {"status": 503},
        {"hang": True},
        {"reset": True},
        {"latency_ms": 250},
    )
    fleet.trouble(**dice.choice(ways), count=-1)
    await asyncio.sleep(dice.uniform(0.1, 1))
    fleet.trouble(count=0)


MISHAPS = (
    kill_a_worker,
    freeze_a_worker,
    replace_a_worker,
    kill_redis,
    freeze_redis,
    trouble_the_connector,
)
