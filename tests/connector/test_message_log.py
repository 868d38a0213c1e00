"""How far back the message log is read, by how many requests, and by which days."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import unquote

import pytest

from service.connector.log_pages import LogPages
from service.core.open_connectors.wire import LoggedMessage
from service.model import Conversation
from tests.connector.pieces import OURS, THEIRS, Platform, connected, wanted

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
PER_DAY = 250
OURS_AND_THEIRS = Conversation(OURS, THEIRS)


def row(sid: str, sent: datetime | None) -> dict[str, Any]:
    """A row of the message log, as Twilio's Message resource; without a date while it is queued."""
    return {
        "sid": sid,
        "from": OURS,
        "to": THEIRS,
        "body": "hi",
        "direction": "outbound-api",
        "status": "sent" if sent else "queued",
        "date_sent": sent and format_datetime(sent),
    }


async def busy_week(platform: Platform) -> str:
    """Fill the log: so many messages a day, around noon, for a week; returns the token."""
    platform.messages = [
        row(f"SM{days}-{n}", NOON - timedelta(days=days, seconds=n))
        for days in range(7)
        for n in range(PER_DAY)
    ]
    async with connected(platform.url) as connector:
        return (await connector.create_instance(wanted().body)).token


async def test_a_doubt_of_days_ago_is_settled_by_the_log_of_that_day(platform: Platform) -> None:
    """After a long outage each doubt would read all that was sent since, or meet its bound."""
    token = await busy_week(platform)
    since = NOON - timedelta(days=4, seconds=PER_DAY)
    async with connected(platform.url, token=token) as connector:
        found = await connector.sent_to(OURS_AND_THEIRS, since)

    assert {f"SM4-{n}" for n in range(PER_DAY)} <= {each.sid for each in found}
    asked = [each.path for each in platform.said("GET", "/hubs")]
    assert not any("2026-05-02" in path or "2026-05-03" in path for path in asked)
    assert any("where=DateSent='2026-04-30'" in unquote(path) for path in asked)


@pytest.mark.parametrize("where", ["ignored", "matches nothing", "refused"])
async def test_open_connectors_fact_20_a_connector_without_days_is_found_out_and_read_whole(
    platform: Platform, where: Literal["ignored", "matches nothing", "refused"]
) -> None:
    """A log that looks empty says of a reply that arrived: never sent."""
    platform.where = where
    token = await busy_week(platform)
    since = NOON - timedelta(days=4, seconds=PER_DAY)
    async with connected(platform.url, token=token) as connector:
        for _ in range(2):
            found = await connector.sent_to(OURS_AND_THEIRS, since)
            assert f"SM4-{PER_DAY - 1}" in {each.sid for each in found}

    tried = [each for each in platform.said("GET", "/hubs") if "where" in each.path]
    assert len(tried) <= 2, "it is tried once"


async def test_a_fresh_doubt_sees_what_is_still_queued(platform: Platform) -> None:
    """A queued message has no DateSent: asked by day, it would look unsent and be sent again."""
    token = await busy_week(platform)
    now = datetime.now(UTC)
    recent = [row(f"SMnow-{n}", now) for n in range(300)]
    platform.messages = [*recent, row("SMqueued", None), *platform.messages]
    async with connected(platform.url, token=token) as connector:
        found = await connector.sent_to(OURS_AND_THEIRS, now - timedelta(hours=9))

    assert "SMqueued" in {each.sid for each in found}
    assert not [each for each in platform.said("GET", "/hubs") if "where" in each.path]


@pytest.mark.parametrize("status", [400, 413, 429])
async def test_open_connectors_fact_21_who_refuses_large_pages_is_asked_for_small_ones(
    platform: Platform, status: int
) -> None:
    """The log could not be read at all, and every doubt would end as a dead letter."""
    platform.refused_size, platform.size_status = 500, status
    token = await busy_week(platform)
    async with connected(platform.url, token=token) as connector:
        found = await connector.sent_to(OURS_AND_THEIRS, NOON - timedelta(hours=1))

    assert {f"SM0-{n}" for n in range(PER_DAY)} <= {each.sid for each in found}


async def test_two_minutes_of_a_thousand_replies_a_second_are_read() -> None:
    """Above a rate that a large sender reaches, a crash would turn replies into dead letters."""
    rate, window_s = 1_000, 120
    rows = [
        LoggedMessage(
            sid=f"SM{n}",
            from_=OURS,
            to=THEIRS,
            body="hi",
            direction="outbound-api",
            status="sent",
            date_sent=NOON - timedelta(seconds=n // rate),
            num_media=0,
        )
        for n in range(rate * (window_s + 10))
    ]

    async def read_page(page: int, size: int, day: date | None) -> Sequence[LoggedMessage]:
        return rows[(page - 1) * size : page * size]

    since = NOON - timedelta(seconds=window_s)
    async with aclosing(LogPages(read_page).between(since)) as pages:
        found = [each.sid async for page in pages for each in page]

    assert {f"SM{n}" for n in range(rate * window_s)} <= set(found)
    assert len(found) <= rate * (window_s + 3)
