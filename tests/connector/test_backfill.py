"""Texts that no callback brought, read back from the log of a real sandbox into a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import structlog

from service.connector.backfill import Backfill
from service.core.open_connectors.wire import LoggedMessage
from service.errors import (
    ConnectorFailed,
    ConnectorRefused,
    ConnectorUnreadable,
    StoreFull,
    StoreUnavailable,
)
from service.model import Media, Message
from service.store.connection import connect
from service.store.watermark import Watermark
from tests.connector.pieces import OURS, THEIRS, Platform, connected

pytestmark = pytest.mark.anyio

ACCOUNT = "AC" + "1f" * 16
NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass
class Inbox:
    """Takes messages as the real one does, and remembers their order. full: refusals to come."""

    taken: list[Message] = field(default_factory=list)
    full: int = 0
    down: bool = False

    async def accept(self, message: Message) -> bool:
        if self.down:
            raise StoreUnavailable("Redis is away")
        if self.full:
            self.full -= 1
            raise StoreFull("full")
        if message.sid in {each.sid for each in self.taken}:
            return False
        self.taken.append(message)
        return True

    async def had(self, texts: Any) -> list[bool]:
        taken = {each.sid for each in self.taken}
        return [sid in taken for _, sid in texts]

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.taken]


@pytest.fixture
async def watermark(redis_server: str) -> AsyncIterator[Watermark]:
    """The real one, empty."""
    client = connect(redis_server)
    yield Watermark(client)
    await client.aclose()


def text(body: str, minutes_ago: float, **more: Any) -> dict[str, Any]:
    """Make a row of the log as Twilio's resource."""
    sent = NOW - timedelta(minutes=minutes_ago)
    row = {
        "sid": f"SM{body.replace(' ', '-')}",
        "from": THEIRS,
        "to": OURS,
        "body": body,
        "direction": "inbound",
    }
    return row | {"status": "received", "date_sent": format_datetime(sent), "num_media": "0"} | more


def filler(connector: Any, inbox: Inbox, watermark: Watermark, **changes: Any) -> Backfill:
    """Make a backfill that looks ten minutes before the watermark, and a day at most."""
    times = {"overlap": timedelta(minutes=10), "longest": timedelta(days=1)} | changes
    return Backfill(connector, inbox, watermark, account=ACCOUNT, sender=OURS, **times)


async def run(platform: Any, inbox: Inbox, watermark: Watermark, **options: Any) -> Any:
    """Run once against the platform's log."""
    platform.instances["1"] = {"token": "token", "disabled": False}
    async with connected(platform.url, token="token") as connector:
        return await filler(connector, inbox, watermark).run(**options)


async def test_a_deployments_first_run_answers_nothing_old(
    platform: Platform, watermark: Watermark
) -> None:
    """Somebody who switches Parley on would have a year of texts answered at once."""
    inbox = Inbox()
    platform.messages = [text("old", 1)]
    assert (await run(platform, inbox, watermark)).since is None
    covered = await watermark.load()
    assert covered is not None
    assert abs(covered - datetime.now(UTC)) < timedelta(seconds=30)
    assert inbox.taken == []


async def test_what_was_missed_is_accepted_oldest_first_and_marked(
    platform: Platform, watermark: Watermark
) -> None:
    """A day's texts would be answered backwards, or not at all."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW - timedelta(minutes=60))
    newest_first = [text(str(n), 60 - n) for n in range(59, 0, -1)]
    reply = text("reply", 30, direction="outbound-api", **{"from": OURS, "to": THEIRS})
    platform.messages = [*newest_first[:20], reply, *newest_first[20:], text("long ago", 71)]
    summary = await run(platform, inbox, watermark)
    assert (summary.read, summary.recovered, summary.known) == (59, 59, 0)
    assert inbox.bodies == [str(n) for n in range(1, 60)]
    first = inbox.taken[0]
    assert first.recovered
    assert (first.from_, first.to, first.account) == (THEIRS, OURS, ACCOUNT)
    assert first.raw["MessageSid"] == first.sid
    again = await run(platform, inbox, watermark)
    assert (again.recovered, len(inbox.taken)) == (0, 59)


async def test_texts_of_one_second_keep_the_order_of_the_log(
    platform: Platform, watermark: Watermark
) -> None:
    """Two texts sent in haste would be answered in the wrong order."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW)
    platform.messages = [text(str(n), 5) for n in range(9, 0, -1)]
    await run(platform, inbox, watermark)
    assert inbox.bodies == [str(n) for n in range(1, 10)]


async def test_the_overlap_is_read_again(platform: Platform, watermark: Watermark) -> None:
    """A text that reached the log late would be passed over for ever."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW)
    platform.messages = [text("late", 9), text("too late", 11)]
    await run(platform, inbox, watermark)
    assert inbox.bodies == ["late"]


async def test_an_outage_longer_than_is_remembered_is_said_and_not_answered_twice(
    platform: Platform, watermark: Watermark
) -> None:
    """Beyond the de-duplication window everything would look missing."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW - timedelta(days=3))
    platform.messages = [text("today", 60), text("before", 60 * 25)]
    with structlog.testing.capture_logs() as logs:
        await run(platform, inbox, watermark)
    assert inbox.bodies == ["today"]
    assert "the outage was longer" in logs[0]["event"]


async def test_every_page_is_read_and_a_row_that_comes_twice_counts_once(
    platform: Platform, watermark: Watermark
) -> None:
    """All but the newest texts of a long outage would be lost, or an operator be told of more."""
    inbox = Inbox()
    platform.page_limit = 20
    platform.messages = [text(str(n), 130 - n) for n in range(130, 0, -1)]
    summary = await run(platform, inbox, watermark, since=NOW - timedelta(minutes=131))
    assert (summary.read, summary.recovered) == (130, 130)
    assert inbox.bodies == [str(n) for n in range(1, 131)]

    class Moving:
        """A log that a new text moved on by one row between two pages."""

        def moment(self, at: float) -> datetime:
            return NOW

        async def log_between(self, since: datetime) -> AsyncGenerator[Sequence[LoggedMessage]]:
            rows = [
                LoggedMessage(sid, THEIRS, OURS, sid, "inbound", "received", NOW, 0)
                for sid in ("c", "b", "a")
            ]
            yield rows[:2]
            yield rows[1:]

    moved = await filler(Moving(), inbox, watermark).run(since=NOW - timedelta(minutes=1))
    assert (moved.read, moved.recovered, moved.known) == (3, 3, 0)
    assert inbox.bodies[130:] == ["a", "b", "c"]


async def test_nothing_from_before_the_first_start_is_read_unasked(
    platform: Platform, watermark: Watermark
) -> None:
    """The overlap would answer what was sent before anybody asked us to."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(minutes=6))
    await watermark.save(NOW - timedelta(minutes=5))
    platform.messages = [text("after", 5.5), text("before", 6.5)]
    await run(platform, inbox, watermark)
    assert inbox.bodies == ["after"]


async def test_the_watermark_stays_behind_texts_left_to_their_callbacks(
    platform: Platform, watermark: Watermark
) -> None:
    """One whose callback never comes after all would be passed over for ever."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW - timedelta(minutes=60))
    young = datetime.now(UTC) - timedelta(seconds=2)
    platform.messages = [text("young", 0, date_sent=format_datetime(young))]
    assert (await run(platform, inbox, watermark)).young == 1
    covered = await watermark.load()
    assert covered is not None
    assert covered < young
    platform.instances["1"] = {"token": "token", "disabled": False}
    async with connected(platform.url, token="token") as connector:
        at_once = {"overlap": timedelta(0), "settling": timedelta(0)}
        await filler(connector, inbox, watermark, **at_once).run()
    assert inbox.bodies == ["young"]


async def test_a_run_by_hand_leaves_the_watermark(platform: Platform, watermark: Watermark) -> None:
    """What an operator did not ask for would be taken for covered, and never be read."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW - timedelta(minutes=60))
    platform.messages = [text("new", 5), text("old", 40)]
    await run(platform, inbox, watermark, since=NOW - timedelta(minutes=10))
    assert (inbox.bodies, await watermark.load()) == (["new"], NOW - timedelta(minutes=60))
    await run(platform, inbox, watermark)
    assert inbox.bodies == ["new", "old"]


async def test_pictures_that_cannot_be_had_now_end_the_run(
    platform: Platform, watermark: Watermark
) -> None:
    """A text would be handled without its pictures, for good, as the connector was ailing."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW - timedelta(minutes=60))
    before = await watermark.load()
    platform.messages = [text("1", 5, num_media="1")]

    class Ailing:
        def __init__(self, connector: Any) -> None:
            self.log_between = connector.log_between
            self.moment = connector.moment

        async def media_of(self, sid: str) -> Any:
            raise ConnectorFailed("try again later", status=503)

    platform.instances["1"] = {"token": "token", "disabled": False}
    async with connected(platform.url, token="token") as connector:
        with pytest.raises(ConnectorFailed):
            await filler(Ailing(connector), inbox, watermark).run()
    assert (inbox.taken, await watermark.load()) == ([], before)


async def test_a_run_that_fails_is_no_run(platform: Platform, watermark: Watermark) -> None:
    """The gap would be taken for filled."""
    inbox = Inbox(down=True)
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW - timedelta(minutes=60))
    before = await watermark.load()
    platform.messages = [text("1", 5)]
    with pytest.raises(StoreUnavailable):
        await run(platform, inbox, watermark)
    assert await watermark.load() == before
    inbox.down = False
    await run(platform, inbox, watermark)
    assert inbox.bodies == ["1"]


async def test_open_connectors_fact_15_a_mapped_log_is_unreadable_and_not_empty(
    platform: Platform, watermark: Watermark
) -> None:
    """The texts of an outage would be taken for recovered, and never be looked for again."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW - timedelta(minutes=60))
    before = await watermark.load()
    platform.messages = [{"id": "SM1"}, {"id": "SM2"}]
    with pytest.raises(ConnectorUnreadable, match='"from"'):
        await run(platform, inbox, watermark)
    assert (inbox.taken, await watermark.load()) == ([], before)


async def test_a_full_inbox_is_waited_for(platform: Platform, watermark: Watermark) -> None:
    """A text would lose its place to those behind it."""
    inbox = Inbox(full=1)
    platform.messages = [text("2", 4), text("1", 5)]
    await run(platform, inbox, watermark, since=NOW - timedelta(minutes=60))
    assert inbox.bodies == ["1", "2"]


async def test_a_dry_run_accepts_nothing(platform: Platform, watermark: Watermark) -> None:
    """An operator who only looks would set things in motion."""
    inbox = Inbox()
    platform.messages = [text("1", 5)]
    summary = await run(platform, inbox, watermark, since=NOW - timedelta(hours=1), dry=True)
    assert (summary.read, inbox.taken, await watermark.load()) == (1, [], None)


async def test_a_connector_that_cannot_list_is_said_once(watermark: Watermark) -> None:
    """Every five minutes the same line, or none at all."""

    class NoLog:
        async def log_between(self, since: datetime) -> AsyncGenerator[Sequence[LoggedMessage]]:
            raise ConnectorRefused("Method GET is not supported here", status=405)
            yield []  # type: ignore[unreachable]  # makes it a generator

        async def media_of(self, sid: str) -> tuple[Media, ...]:
            return ()

        def moment(self, at: float) -> datetime:
            return NOW

    backfill = Backfill(
        NoLog(),
        Inbox(),
        watermark,
        account=ACCOUNT,
        sender=OURS,
        overlap=timedelta(0),
        longest=timedelta(days=1),
    )
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW)
    ready = asyncio.Event()
    ready.set()
    with structlog.testing.capture_logs() as logs:
        filling = asyncio.create_task(backfill.keep_filling(ready, 0.05, lambda: 0))
        async with asyncio.timeout(5):
            while not logs:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        filling.cancel()
    assert len(logs) == 1
    assert "405" in backfill.state


async def test_a_number_is_known_as_ours_once_a_text_to_it_was_accepted(
    platform: Platform, watermark: Watermark
) -> None:
    """A second number of ours would never be read back, or everybody's would."""
    inbox, other = Inbox(), "+15005550199"
    since = NOW - timedelta(hours=1)
    platform.messages = [text("1", 30, to=other)]
    first = await run(platform, inbox, watermark, since=since)
    assert (first.foreign, inbox.taken) == (1, [])
    await run(platform, inbox, watermark, since=since, numbers=(other,))
    platform.messages.insert(0, text("2", 20, to=other))
    await run(platform, inbox, watermark, since=since)
    assert inbox.bodies == ["1", "2"]

    # It stays known when what is read no longer reaches back to such a text.
    platform.messages.insert(0, text("3", 10, to=other))
    await run(platform, inbox, watermark, since=NOW - timedelta(minutes=15))
    assert inbox.bodies == ["1", "2", "3"]


async def test_a_dry_run_tells_what_is_missing_from_what_is_known(
    platform: Platform, watermark: Watermark
) -> None:
    """An operator would take a day's traffic for a day's losses."""
    inbox, since = Inbox(), NOW - timedelta(hours=1)
    platform.messages = [text("1", 30)]
    await run(platform, inbox, watermark, since=since)
    platform.messages.insert(0, text("2", 20))
    told = await run(platform, inbox, watermark, since=since, dry=True)
    assert (told.read, told.known, told.recovered) == (2, 1, 1)


async def test_what_was_too_young_is_looked_at_again_soon(
    platform: Platform, watermark: Watermark
) -> None:
    """A text of the last seconds of an outage would wait for the timer, or for the next outage."""
    inbox = Inbox()
    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW - timedelta(minutes=5))
    platform.instances["1"] = {"token": "token", "disabled": False}
    platform.messages = [text("1", 0, date_sent=format_datetime(datetime.now(UTC)))]
    ready = asyncio.Event()
    ready.set()
    async with connected(platform.url, token="token") as connector:
        backfill = filler(connector, inbox, watermark, settling=timedelta(seconds=4))
        filling = asyncio.create_task(backfill.keep_filling(ready, 3600, lambda: 0))
        async with asyncio.timeout(30):
            while not inbox.taken:
                await asyncio.sleep(0.05)
        filling.cancel()
    assert inbox.bodies == ["1"]
    assert len(platform.said("GET", "/hubs")) >= 2, "it was not too young at first"


async def test_what_is_covered_is_kept_by_the_logs_own_clock(watermark: Watermark) -> None:
    """With a clock of ours that is ahead, the texts of the next outage would be passed over."""

    class Behind:
        async def log_between(self, since: datetime) -> AsyncGenerator[Sequence[LoggedMessage]]:
            assert since == NOW - timedelta(hours=2, minutes=10)
            yield []

        def moment(self, at: float) -> datetime:
            return NOW - timedelta(hours=1)

    await watermark.first(NOW - timedelta(days=9))
    await watermark.save(NOW - timedelta(hours=2))
    await filler(Behind(), Inbox(), watermark).run()
    assert await watermark.load() == NOW - timedelta(hours=1, seconds=20)


async def test_from_the_next_run_on_it_fills_the_gap_of_the_number_it_was_turned_to(
    platform: Platform, watermark: Watermark
) -> None:
    """Texts to a number that the setup names anew would be left alone until a restart."""
    inbox = Inbox()
    account, sender = "AC" + "2e" * 16, "+15005550199"
    await watermark.first(NOW - timedelta(days=1))
    await watermark.save(NOW - timedelta(minutes=60))
    platform.messages = [text("to the new one", 0.05, to=sender)]
    platform.instances["1"] = {"token": "token", "disabled": False}
    async with connected(platform.url, token="token") as connector:
        backfill = filler(connector, inbox, watermark, settling=timedelta(0), now=lambda: NOW)
        assert (await backfill.run()).foreign == 1
        await watermark.save(NOW - timedelta(minutes=60))
        platform.gate.clear()
        under_way = asyncio.create_task(backfill.run())
        await asyncio.sleep(0.1)
        backfill.turn_to(account, sender)
        platform.gate.set()
        assert (await under_way).foreign == 1
        await watermark.save(NOW - timedelta(minutes=60))
        assert (await backfill.run()).recovered == 1
    [message] = inbox.taken
    assert (message.to, message.account, message.raw["AccountSid"]) == (sender, account, account)


async def test_what_came_to_a_number_before_it_was_ours_is_left_to_who_answered_it_then(
    platform: Platform, watermark: Watermark
) -> None:
    """Everybody who texted it in the days before would be answered a second time."""
    inbox, new = Inbox(), "+15005550177"
    await watermark.save(NOW - timedelta(minutes=30))
    await watermark.first(NOW - timedelta(days=2))
    platform.messages = [
        text("theirs", 5, to=new),
        text("ours", 6),
        text("since", -0.05, to=new),
    ]
    platform.instances["1"] = {"token": "token", "disabled": False}
    async with connected(platform.url, token="token") as connector:
        backfill = filler(connector, inbox, watermark, settling=timedelta(0), now=lambda: NOW)
        backfill.turn_to(ACCOUNT, new)
        await backfill.run(numbers=[OURS])
    assert sorted(inbox.bodies) == ["ours", "since"]
