"""Nothing lost, nothing twice, nothing out of order: quiet days and bad ones."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.flow.cable import BACK, BOTH_WAYS, THERE, Cable
from tests.flow.conftest import until
from tests.flow.fleet import LEASE_S, Fleet
from tests.flow.redises import One, is_cluster
from tests.present import as_a

PHONES = 50

Mishap = Callable[[Fleet, random.Random], Awaitable[None]]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of a door and two workers, running."""
    made = Fleet(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def wired_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """The same, each process at the end of a cable of its own."""
    made = Fleet(tmp_path, wired=True)
    try:
        made.start()
        yield made
    finally:
        made.close()


async def nothing(fleet: Fleet) -> None:
    """Break nothing."""


def test_two_thousand_texts_of_fifty_phones_are_answered_once_in_order(fleet: Fleet) -> None:
    """The product's one promise."""
    fleet.run(nothing, phones=PHONES, texts=40, seed=1)


def test_workers_killed_under_load_lose_and_double_nothing(fleet: Fleet) -> None:
    """A machine that fails takes other people's texts with it."""

    async def faults(fleet: Fleet) -> None:
        for place in (0, 1, 0):
            await asyncio.sleep(1)
            fleet.kill_worker(place)

    fleet.run(faults, phones=PHONES, texts=40, seed=2, throughout=True)


def test_a_worker_frozen_longer_than_its_lease_commits_nothing(fleet: Fleet) -> None:
    """A stalled machine that wakes up answers what its successor has answered."""

    async def faults(fleet: Fleet) -> None:
        for place in (0, 1):
            await asyncio.sleep(0.5)
            fleet.workers[place].send_signal(signal.SIGSTOP)
            await asyncio.sleep(LEASE_S + 1)
            fleet.workers[place].send_signal(signal.SIGCONT)

    fleet.run(faults, phones=PHONES, texts=40, seed=3, throughout=True)


@pytest.mark.long
def test_workers_join_and_leave_within_two_seconds(tmp_path: Path) -> None:
    """Every deployment would hold up its conversations for a lease's time."""
    fleet = Fleet(tmp_path)
    fleet.settings["LEASE_TTL_S"] = "30"  # Whoever waited for a lease to run out would be seen to.
    took_s: list[float] = []

    async def replace_one(fleet: Fleet) -> None:
        fleet.add_worker()
        await asyncio.to_thread(until, lambda: len(fleet.owners()) == 3, 40)
        leaver = fleet.workers.pop(0)
        leaver.terminate()
        began = time.monotonic()
        await asyncio.to_thread(
            until, lambda: len(fleet.owners()) == 2 and sum(fleet.owners().values()) == 16, 40
        )
        took_s.append(time.monotonic() - began)
        assert await asyncio.to_thread(leaver.wait, 15) == 0

    async def faults(fleet: Fleet) -> None:
        await asyncio.sleep(0.5)
        # Two ticks and the grace are 2 s in all. A busy machine may add to that, not every time.
        while len(took_s) < 3 and min(took_s, default=99) > 3:
            await replace_one(fleet)

    try:
        fleet.start()
        fleet.run(faults, phones=PHONES, texts=40, seed=4, throughout=True)
        assert min(took_s) < 3, took_s
        assert sorted(fleet.owners().values()) == [8, 8]
    finally:
        fleet.close()


def test_redis_killed_and_restarted_on_its_file_loses_nothing(fleet: Fleet) -> None:
    """What was answered 200 was on disk."""

    async def faults(fleet: Fleet) -> None:
        for _ in range(2):
            await asyncio.sleep(1)
            await asyncio.to_thread(fleet.redis.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(fleet.redis.start)

    fleet.run(faults, phones=PHONES, texts=40, seed=5, throughout=True)


@pytest.mark.long
def test_redis_out_of_reach_for_ten_seconds_needs_no_restart(fleet: Fleet) -> None:
    """The door must say 503 meanwhile, and everything go on by itself afterwards."""

    async def faults(fleet: Fleet) -> None:
        await asyncio.sleep(0.5)
        fleet.redis.freeze()
        await asyncio.sleep(10)
        await asyncio.to_thread(fleet.redis.thaw)

    fleet.run(faults, phones=PHONES, texts=60, seed=6)
    assert all(worker.poll() is None for worker in fleet.workers)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"status": 429, "retry_after_s": 1}, id="429", marks=pytest.mark.long),
        pytest.param({"status": 500}, id="500", marks=pytest.mark.long),
        pytest.param({"hang": True}, id="hanging", marks=pytest.mark.long),
        pytest.param({"reset": True}, id="accepted, then reset"),
        pytest.param({"latency_ms": 300}, id="slow", marks=pytest.mark.long),
    ],
)
def test_an_ailing_connector_loses_and_doubles_nothing(
    fleet: Fleet, trouble: dict[str, Any]
) -> None:
    """Its outage must not become a lost text, nor a text sent twice."""

    async def faults(fleet: Fleet) -> None:
        for _ in range(2):
            await asyncio.sleep(0.7)
            # For a time and not for a count: a breaker that leaves it alone never uses a count up.
            fleet.trouble(**trouble, count=-1)
            await asyncio.sleep(1.5)
            fleet.trouble(count=0)

    fleet.run(faults, phones=PHONES, texts=60, seed=7)


@pytest.mark.long
def test_workers_killed_between_post_and_record_send_once(fleet: Fleet) -> None:
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


@pytest.mark.long
def test_a_post_that_outlives_its_worker_is_not_taken_for_unsent(fleet: Fleet) -> None:
    """The log is asked too early: the text is still on its way into it, and is sent twice."""

    async def faults(fleet: Fleet) -> None:
        fleet.trouble(delay_ms=1_500, count=-1)
        await asyncio.sleep(0.5)
        fleet.add_worker()  # Takes partitions over, and what is under way gets 1 s to end.
        await asyncio.sleep(2.5)
        # Cuts POSTs short, but not what they asked for.
        await asyncio.to_thread(fleet.redis.kill)
        await asyncio.to_thread(fleet.redis.start)
        await asyncio.sleep(1)
        fleet.kill_worker(0)
        await asyncio.sleep(1)
        fleet.trouble(count=0)

    fleet.run(faults, phones=PHONES, texts=10, seed=9)


@pytest.mark.long
def test_the_door_killed_under_load_loses_and_doubles_nothing(fleet: Fleet) -> None:
    """What was answered is safe, and what was not is sent again by Twilio."""

    async def faults(fleet: Fleet) -> None:
        for _ in range(3):
            await asyncio.sleep(0.7)
            fleet.kill_door()

    fleet.run(faults, phones=PHONES, texts=60, seed=10)


@pytest.mark.long
def test_slow_conversations_hold_up_no_other(fleet: Fleet) -> None:
    """One handler that waits for somebody would make everybody wait."""
    slow = [f"+1500666{phone:04d}" for phone in range(20)]

    async def faults(fleet: Fleet) -> None:
        for theirs in slow:
            for _ in range(2):
                assert fleet.text("HOLD", theirs)["status"] == 200

    fleet.run(faults, phones=PHONES, texts=20, seed=11)
    assert not any(theirs in body for theirs in slow for body in fleet.bodies())
    (fleet.folder / "let-go").touch()
    until(lambda: all(f"re {theirs} 0" in fleet.bodies() for theirs in slow), within_s=30)


@pytest.mark.long
def test_a_deadly_message_takes_nothing_along(tmp_path: Path) -> None:
    """What happened to run beside it would become a dead letter as well."""
    fleet = Fleet(tmp_path)
    # A worker that loses its lease on a busy machine uses up an attempt as well.
    fleet.settings |= {"HANDLER_ATTEMPTS": "2", "LEASE_TTL_S": "5"}
    slow = [f"+1500666{phone:04d}" for phone in range(8)]

    async def faults(fleet: Fleet) -> None:
        for theirs in slow:
            fleet.text("SLOW 1", theirs)
        fleet.text("DIE", "+15006669999")
        deadline = time.monotonic() + 30
        while not fleet.dead_letters() and time.monotonic() < deadline:
            fleet.replace_the_dead()
            await asyncio.sleep(0.1)

    try:
        fleet.start()
        fleet.run(faults, phones=PHONES, texts=40, seed=12, dead=1)
        assert b"begun and never ended" in fleet.dead_letters()[0][b"error"]
        until(lambda: all(f"re {theirs} 0" in fleet.bodies() for theirs in slow), within_s=30)
    finally:
        fleet.close()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(is_cluster(), reason="a Cluster's nodes send clients past the cable")
def test_a_worker_cut_off_from_redis_commits_nothing_late(fleet: Fleet) -> None:
    """What it asked for before it gave up reaches Redis when others have taken over."""
    with Cable(as_a(One, fleet.redis).port) as cable:
        fleet.workers.pop().terminate()
        fleet.add_worker(REDIS_URL=f"redis://127.0.0.1:{cable.port}/0")
        until(lambda: sorted(fleet.owners().values()) == [8, 8])

        async def faults(fleet: Fleet) -> None:
            # Shorter than a lease, longer than one, longer than the worker waits for an answer.
            for cut_s in (1, LEASE_S + 1, 6):
                await asyncio.sleep(0.7)
                cable.cut()
                await asyncio.sleep(cut_s)
                cable.mend()

        # Some three thousand texts, which wait for half of the time: a busy machine needs long.
        fleet.run(faults, phones=PHONES, texts=40, seed=13, throughout=True, within_s=180)
        fleet.workers.pop().kill()


@pytest.mark.long
@pytest.mark.parametrize("frozen_s", [1, 5])
def test_a_connector_that_freezes_loses_and_doubles_nothing(fleet: Fleet, frozen_s: int) -> None:
    """What was asked of it meanwhile it does when it wakes up, whoever still waits for it."""

    async def faults(fleet: Fleet) -> None:
        assert fleet.connector is not None
        for _ in range(2):
            await asyncio.sleep(0.7)
            fleet.connector.send_signal(signal.SIGSTOP)
            await asyncio.sleep(frozen_s)
            fleet.connector.send_signal(signal.SIGCONT)

    fleet.run(faults, phones=PHONES, texts=60, seed=14)


def chaos_seeds(config: pytest.Config) -> list[int]:
    """One seed for each round: `--chaos-seed` alone, or as many as `--chaos-rounds` says."""
    given = config.getoption("--chaos-seed")
    if given is not None:
        return [int(given)]
    return [
        random.SystemRandom().randrange(10**9) for _ in range(config.getoption("--chaos-rounds"))
    ]


@pytest.mark.long
@pytest.mark.skipif(is_cluster(), reason="a Cluster's nodes send clients past the cables")
def test_connections_reset_under_load_lose_and_double_nothing(wired_fleet: Fleet) -> None:
    """A proxy that resets connections would stop the workers, with a word or without one."""
    fleet = wired_fleet

    async def faults(fleet: Fleet) -> None:
        for _ in range(60):
            await asyncio.sleep(0.05)
            for cable in fleet.cables:
                await asyncio.to_thread(cable.reset)

    fleet.run(faults, phones=PHONES, texts=40, seed=15, throughout=True)
    assert len(fleet.cables) == 3, "a process has ended"
    assert "RuntimeError" not in fleet.log()


@pytest.mark.timeout(600)
def test_a_random_mix_of_everything_loses_and_doubles_nothing(
    wired_fleet: Fleet, request: pytest.FixtureRequest
) -> None:
    """What nobody thought of testing. Prints what befell each round, and how long it took."""
    fleet = wired_fleet
    for seed in chaos_seeds(request.config):
        dice = random.Random(seed)
        mishaps = MISHAPS + (ON_CABLES if fleet.cables else ())
        # Each kind once before any comes again, so that a round has as many as it can.
        chosen = dice.sample(mishaps, dice.randrange(3, 5))

        async def faults(
            fleet: Fleet, dice: random.Random = dice, chosen: Sequence[Mishap] = chosen
        ) -> None:
            for mishap in chosen:
                await asyncio.sleep(dice.uniform(0.1, 0.6))
                await mishap(fleet, dice)
            fleet.trouble(count=0)

        kinds = ", ".join(each.__name__ for each in chosen)
        print(f"--chaos-seed {seed}: {kinds}")  # noqa: T201  (shown by -s, and with a failure)
        began, known = time.monotonic(), len(fleet.bodies())
        fleet.run(faults, phones=30, texts=25, seed=seed, throughout=True)
        answered, took_s = len(fleet.bodies()) - known, time.monotonic() - began
        print(f"{answered} texts answered, {took_s:.1f} s")  # noqa: T201  (the same)


async def kill_a_worker(fleet: Fleet, dice: random.Random) -> None:
    """Kill -9, and another one started."""
    fleet.kill_worker(dice.randrange(len(fleet.workers)))


async def kill_the_door(fleet: Fleet, dice: random.Random) -> None:
    """Kill -9 of the process callbacks come to."""
    fleet.kill_door()


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
    """Kill -9 of Redis, or of a Cluster's master, and a start on its file."""
    await asyncio.to_thread(fleet.redis.kill)
    await asyncio.sleep(dice.uniform(0, 0.5))
    await asyncio.to_thread(fleet.redis.start)


async def freeze_redis(fleet: Fleet, dice: random.Random) -> None:
    """A Redis that does not answer for a while."""
    fleet.redis.freeze()
    await asyncio.sleep(dice.uniform(0.2, 2))
    await asyncio.to_thread(fleet.redis.thaw)


async def freeze_the_connector(fleet: Fleet, dice: random.Random) -> None:
    """A connector that does nothing for a while, and then everything."""
    assert fleet.connector is not None
    fleet.connector.send_signal(signal.SIGSTOP)
    await asyncio.sleep(dice.choice((0.5, 2.5)))
    fleet.connector.send_signal(signal.SIGCONT)


async def drop_connections(fleet: Fleet, dice: random.Random) -> None:
    """Redis did what was asked, and the answers are lost; its scripts are forgotten as well."""
    for _ in range(dice.randrange(1, 5)):
        fleet.redis.tell(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), ("SCRIPT", "FLUSH"))
        await asyncio.sleep(dice.uniform(0.05, 0.3))


async def refuse_writes(fleet: Fleet, dice: random.Random) -> None:
    """A Redis that is full, or without its replicas, or demoted."""
    begin, end = dice.choice(fleet.redis.refusals)
    fleet.redis.tell(begin)
    await asyncio.sleep(dice.choice((0.3, LEASE_S + 0.5)))
    fleet.redis.tell(end)


async def trouble_the_connector(fleet: Fleet, dice: random.Random) -> None:
    """One of the ways a connector fails."""
    count = dice.randrange(1, 30)
    fleet.trouble(
        **dice.choice(
            (
                {"status": 429, "retry_after_s": 0.5, "count": count},
                {"status": 503, "count": count},
                {"hang": True, "count": min(count, 5)},
                {"reset": True, "count": count},
                {"latency_ms": 250, "count": count},
                {"delay_ms": 400, "count": count},
            )
        )
    )


async def reset_connections(fleet: Fleet, dice: random.Random) -> None:
    """RST at both ends, of all connections of a process or of all processes, again and again."""
    cables = some_cables(fleet, dice)
    for _ in range(dice.randrange(1, 12)):
        for cable in cables:
            await asyncio.to_thread(cable.reset)
        await asyncio.sleep(dice.uniform(0, 0.2))


async def forget_connections(fleet: Fleet, dice: random.Random) -> None:
    """A firewall drops what is sent, one way or both, for less or more than a lease.

    Connections that it had forgotten stay silent.
    """
    ways = dice.choice(((THERE,), (BACK,), BOTH_WAYS))
    await trouble_cables(fleet, dice, lambda cable: cable.silence(*ways))


async def slow_connections_down(fleet: Fleet, dice: random.Random) -> None:
    """All that is sent arrives late."""
    delay_s = dice.choice((0.02, 0.1, 0.4))
    await trouble_cables(fleet, dice, lambda cable: cable.slow_down(delay_s))


async def cut_off_from_redis(fleet: Fleet, dice: random.Random) -> None:
    """All that is sent waits, and arrives when others may have taken over."""
    await trouble_cables(fleet, dice, Cable.cut)


async def trouble_cables(
    fleet: Fleet, dice: random.Random, trouble: Callable[[Cable], None]
) -> None:
    """Trouble some cables for less or more than a lease."""
    cables = some_cables(fleet, dice)
    for cable in cables:
        trouble(cable)
    await asyncio.sleep(dice.choice((0.3, LEASE_S + 0.5)))
    for cable in cables:
        cable.mend()


def some_cables(fleet: Fleet, dice: random.Random) -> list[Cable]:
    """One process's cable, or all of them."""
    return fleet.cables if dice.random() < 0.5 else [dice.choice(fleet.cables)]


MISHAPS = (
    kill_a_worker,
    kill_the_door,
    freeze_a_worker,
    replace_a_worker,
    kill_redis,
    freeze_redis,
    drop_connections,
    refuse_writes,
    freeze_the_connector,
    trouble_the_connector,
)

ON_CABLES = (reset_connections, forget_connections, slow_connections_down, cut_off_from_redis)
"""What befalls the connections, where there are cables."""
