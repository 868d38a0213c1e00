"""Machines whose clocks are hours apart: nothing is sent twice, lost, or left without an owner."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow.conftest import ROOT, fetch, until
from tests.flow.fleet import LEASE_S, Fleet

HOUR_S = 3_600
WRONG_CLOCK = Path(__file__).parent / "wrong_clock"


def ahead(seconds: float, *, dates: bool = False) -> dict[str, Any]:
    """Settings of a process whose wall clock is ahead; dates: those of `datetime` as well.

    A process that stores datetimes can't do with it: msgspec knows the true class alone.
    """
    found = {"PYTHONPATH": f"{WRONG_CLOCK}:{ROOT}", "CLOCK_AHEAD_S": str(seconds)}
    return found | ({"CLOCK_OF_DATETIME": "1"} if dates else {})


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of which nothing runs yet."""
    made = Fleet(tmp_path)
    try:
        yield made
    finally:
        made.close()


def at_work(fleet: Fleet, worker_ahead_s: float, connector_ahead_s: float = 0) -> None:
    """Start a connector and a worker with clocks of their own, and a door with the true time."""
    fleet.connector = fleet.start_sandbox(**ahead(connector_ahead_s, dates=True))
    fleet.door = fleet.serve("--role", "web")
    fleet.add_worker(**ahead(worker_ahead_s))
    until(lambda: sum(fleet.owners().values()) == 16)


@pytest.mark.parametrize(
    "worker_s",
    [
        pytest.param(HOUR_S, id="worker ahead"),
        pytest.param(-HOUR_S, id="worker behind", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize(
    "connector_s",
    [
        pytest.param(0, id=""),
        pytest.param(HOUR_S, id="connector ahead", marks=pytest.mark.long),
        pytest.param(-HOUR_S, id="connector behind", marks=pytest.mark.long),
    ],
)
def test_a_reply_in_doubt_is_sent_once_whatever_the_clocks_show(
    fleet: Fleet, worker_s: int, connector_s: int
) -> None:
    """Its row in the log would be too old to be looked at, and the text would go out twice."""
    at_work(fleet, worker_s, connector_s)
    fleet.trouble(reset=True, count=3)
    phones = [f"+1500555020{n}" for n in range(4)]
    for phone in phones:
        fleet.text("hello", phone)
    until(lambda: len({reply["theirs"] for reply in fleet.replies()}) == 4 and not waiting(fleet))
    assert sorted(reply["theirs"] for reply in fleet.replies()) == phones
    assert fleet.log().count("a reply in doubt had been sent") == 3
    assert fleet.dead_letters() == []


@pytest.mark.long
def test_a_reply_that_is_still_on_its_way_is_waited_for_by_redis_clock(fleet: Fleet) -> None:
    """By the clock of the killed worker, an hour behind, it should have arrived long ago."""
    fleet.settings["SEND_TIMEOUT_S"] = "7"
    at_work(fleet, -HOUR_S)
    fleet.trouble(delay_ms=5_000, count=1)
    fleet.text("hello")
    until(lambda: waiting(fleet) == 1)
    time.sleep(0.3)  # The POST has left.
    fleet.workers.pop().kill()
    fleet.add_worker()
    until(lambda: not waiting(fleet), within_s=25)
    time.sleep(1)
    assert len(fleet.replies()) == 1


@pytest.mark.long
def test_a_retry_is_due_by_redis_clock_whoever_takes_it_over(fleet: Fleet) -> None:
    """A reply put off by a worker an hour ahead would wait for an hour, once that has died."""
    at_work(fleet, HOUR_S)
    fleet.trouble(status=503, count=-1)
    fleet.text("hello")
    until(lambda: "a reply waits" in fleet.log())
    fleet.workers.pop().kill()
    fleet.trouble(count=0)
    fleet.add_worker()
    until(lambda: len(fleet.replies()) == 1)


@pytest.mark.long
def test_a_killed_worker_with_a_fast_clock_is_forgotten_within_the_time_of_a_lease(
    fleet: Fleet,
) -> None:
    """Its share would be nobody's for as long as its clock was ahead."""
    at_work(fleet, HOUR_S)
    fleet.add_worker()
    until(lambda: len(fleet.owners()) == 2 and sum(fleet.owners().values()) == 16)
    fleet.workers.pop(0).kill()
    until(lambda: list(fleet.owners().values()) == [16], within_s=4 * LEASE_S)


def test_a_clock_that_is_off_is_told_and_nothing_else(fleet: Fleet) -> None:
    """Nobody would learn why the times in two logs do not go together."""
    fleet.connector = fleet.start_sandbox(**ahead(-600, dates=True))
    fleet.door = fleet.serve(**ahead(30))
    until(lambda: "this machine's clock is off" in fleet.log())
    status, found = fetch(f"{fleet.internal}/readyz")
    assert status == 200, found
    told = found["checks"]["clock"]["detail"]
    assert re.search(r" (29|30|31) s ahead of Redis and 6[23]\d s ahead of the connector", told)
    assert "NTP" in told
    assert fleet.log().count("this machine's clock is off") <= 2, "once for each that it is off"
    fleet.text("hello")
    until(lambda: len(fleet.replies()) == 1)


def waiting(fleet: Fleet) -> int:
    """Count the replies that are not sent yet."""
    with fleet.look() as client:
        return sum(client.xlen(key) for key in client.scan_iter("parley:{p*}:outbox"))
