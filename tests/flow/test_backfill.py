"""The gap an outage leaves is filled from the connector's log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from service.store.keys import COVERED
from tests.flow.conftest import OUR_NUMBER, until
from tests.flow.fleet import Fleet
from tests.flow.load import Published, Publisher, judge
from tests.flow.test_dead_letters import parley

PHONES, TEXTS = 25, 20


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with a Redis and a sandbox of its own."""
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def sid_of(theirs: str, number: int) -> str:
    """The sid `Publisher` gives a text, so that its callback and its row are the same text."""
    return f"SM{theirs[1:]}{number:0{32 - len(theirs) + 1}d}"


def test_five_hundred_texts_of_two_hours_without_us_are_answered_once_in_order(
    fleet: Fleet,
) -> None:
    """Twilio repeats a callback for seconds: whatever came in an outage would be lost."""
    fleet.start_sandbox()
    service = fleet.serve()
    assert fleet.text("+1 0 0")["status"] == 200
    until(lambda: fleet.bodies() == ["re +1 0 0"])
    with redis.Redis.from_url(fleet.settings["REDIS_URL"]) as client:
        until(lambda: client.get(COVERED))
        service.terminate()
        assert service.wait(15) == 0
    two_hours_ago = datetime.now(UTC) - timedelta(hours=2)
    begin_earlier(fleet, timedelta(hours=2))

    phones = [f"+1500{555_0000 + phone}" for phone in range(PHONES)]
    published = Published()
    with ThreadPoolExecutor(8) as pool:
        for number in range(TEXTS):
            at = two_hours_ago + timedelta(minutes=1 + number * 118 / TEXTS)
            told = [
                pool.submit(
                    fleet.text,
                    f"{theirs} {number}",
                    theirs,
                    sid=sid_of(theirs, number),
                    at=at.isoformat(timespec="milliseconds"),
                    lost=True,
                )
                for theirs in phones
            ]
            assert all(each.result()["state"] == "failed" for each in told)
            for theirs in phones:
                published.texts[theirs].append(number)

    fleet.serve()

    async def repeat() -> None:
        """The network's own retries of the oldest texts, while they are read back."""
        publisher = Publisher(fleet, 1, pause_s=0.01)
        await publisher.publish(PHONES, 1)

    asyncio.run(repeat())
    until(lambda: not judge(published, fleet.bodies()[1:]).lost, within_s=40)
    verdict = judge(published, fleet.bodies()[1:])
    assert verdict.good, str(verdict)
    assert len(fleet.bodies()) == 1 + PHONES * TEXTS
    assert "texts that no callback brought were recovered" in fleet.log()


@pytest.mark.long
def test_what_redis_refused_is_recovered_once_it_is_back(fleet: Fleet) -> None:
    """The texts of ten minutes without Redis would wait for somebody to notice."""
    fleet.settings |= {"BACKFILL_EVERY_S": "3600"}
    fleet.start_sandbox()
    fleet.serve()
    assert fleet.text("+1 0 0")["status"] == 200
    with redis.Redis.from_url(fleet.settings["REDIS_URL"]) as client:
        until(lambda: client.get(COVERED))
    begin_earlier(fleet, timedelta(minutes=5))
    fleet.redis.freeze()
    try:
        assert fleet.text("+1 0 1")["status"] != 200
        # Redis may take that one when it thaws, though it was refused; this is in the log alone.
        fleet.text("+2 0 0", "+15005550177", lost=True, at=minutes_ago(1))
    finally:
        fleet.redis.thaw()
    expected = ["re +1 0 0", "re +1 0 1", "re +2 0 0"]
    until(lambda: sorted(fleet.bodies()) == expected, within_s=60)


@pytest.mark.long
def test_the_command_reads_back_and_refuses_what_is_forgotten(fleet: Fleet) -> None:
    """An operator would recover nothing, or have people answered twice."""
    fleet.start_sandbox()
    fleet.settings |= {"BACKFILL_EVERY_S": "0", "DEDUPE_WINDOW_S": "259200"}
    fleet.serve()
    fleet.text("+1 0 1", lost=True)
    assert "1 missing; nothing" in parley(fleet, "backfill", "--since", "1h", "--dry-run")
    facts = json.loads(parley(fleet, "backfill", "--since", "1h", "--json"))
    assert (facts["read"], facts["recovered"]) == (1, 1)
    until(lambda: fleet.bodies() == ["re +1 0 1"])
    assert "0 recovered, 1 accepted before" in parley(fleet, "backfill", "--since", "1h")
    assert "DEDUPE_WINDOW_S" in parley(fleet, "backfill", "--since", "4d", status=2)
    assert "write 30m" in parley(fleet, "backfill", "--since", "yesterday", status=2)
    mistyped = ("backfill", "--since", "2h", "--to", "(212) 5550123")
    assert "--to (212) 5550123: " in parley(fleet, *mistyped, status=2)
    assert "hundred years" in parley(fleet, "backfill", "--since", "99999999d", status=2)


def covered(fleet: Fleet) -> int:
    """Up to when the service says that nothing is missing, ms."""
    with redis.Redis.from_url(fleet.settings["REDIS_URL"]) as client:
        return int(client.get(COVERED) or 0)


def wait_for_runs(fleet: Fleet, runs: int) -> None:
    """Wait until so many more readings have ended."""
    for _ in range(runs):
        before = covered(fleet)
        until(lambda before=before: covered(fleet) != before)


def minutes_ago(minutes: float) -> str:
    """When a text was sent, as the sandbox wants it."""
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    return moment.isoformat(timespec="milliseconds")


def test_a_first_start_answers_nothing_of_the_minutes_before_it(fleet: Fleet) -> None:
    """The overlap of the second reading would reach back to before anybody asked us to answer."""
    fleet.settings |= {"BACKFILL_EVERY_S": "1"}
    fleet.start_sandbox()
    fleet.text("not for us yet", to=OUR_NUMBER, at=minutes_ago(3), lost=True)
    fleet.serve()
    wait_for_runs(fleet, 3)
    assert fleet.text("hello")["status"] == 200
    until(fleet.bodies)
    assert fleet.bodies() == ["re hello"]


def test_texts_to_the_accounts_other_numbers_are_left_to_whoever_answers_them(fleet: Fleet) -> None:
    """The log is the whole account's: customers of another application would hear from us."""
    fleet.settings |= {"BACKFILL_EVERY_S": "1"}
    fleet.start_sandbox()
    fleet.serve()
    until(lambda: covered(fleet))
    begin_earlier(fleet, timedelta(hours=1))
    fleet.text("for somebody else", to="+15005550199", at=minutes_ago(30), lost=True)
    fleet.text("for us", to=OUR_NUMBER, at=minutes_ago(20), lost=True)
    until(lambda: "re for us" in fleet.bodies())
    wait_for_runs(fleet, 2)
    assert fleet.bodies() == ["re for us"]


def test_a_text_whose_callback_is_under_way_is_left_to_it(fleet: Fleet) -> None:
    """It would lose what only the callback has: its place, its messaging service, its opt-out."""
    fleet.settings |= {"BACKFILL_EVERY_S": "1"}
    fleet.start_sandbox()
    fleet.serve()
    until(lambda: covered(fleet))
    begin_earlier(fleet, timedelta(hours=1))
    fleet.text("on its way", to=OUR_NUMBER, lost=True)
    wait_for_runs(fleet, 2)
    assert fleet.bodies() == []


def begin_earlier(fleet: Fleet, by: timedelta) -> None:
    """Put the moments that backfill goes by back, as if the service had been there for longer."""
    with redis.Redis.from_url(fleet.settings["REDIS_URL"]) as client:
        moment = datetime.now(UTC) - by
        for key in ("parley:{backfill}:first", COVERED):
            client.set(key, int(moment.timestamp() * 1000))
