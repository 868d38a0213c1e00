"""The client of the connector turns to another access while it is in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from service.connector.client import MESSAGE_NAMES, Connector
from service.connector.peer import Access
from service.errors import ConnectorRefused, ConnectorUnreachable
from service.model import Conversation
from tests.connector.pieces import (
    ORGANIZATION,
    OURS,
    THEIRS,
    USER,
    Platform,
    connected,
    failure,
    outbound,
    running_platform,
    template,
    wanted,
)
from tests.connector.test_watching import until

pytestmark = pytest.mark.anyio

REPLY = template("message.json", MESSAGE_NAMES)


@pytest.fixture
async def other() -> AsyncIterator[Platform]:
    """Another region's platform."""
    async with running_platform() as running:
        yield running


async def speak_as_instance(connector: Connector) -> None:
    """Make an instance where the client is, and speak as it."""
    connector.use_token((await connector.create_instance(wanted().body)).token)


def access_to(platform: Platform) -> Access:
    """The access that every platform of these tests knows."""
    return Access(platform.url, USER, ORGANIZATION)


async def test_a_reply_under_way_ends_where_it_was_sent_and_the_next_goes_to_the_new_place(
    platform: Platform, other: Platform
) -> None:
    """A reply would be in doubt, or sent twice, for a change of the setup."""
    async with connected(platform.url) as connector:
        await speak_as_instance(connector)
        platform.gate.clear()
        sending = asyncio.create_task(connector.send(outbound("first"), lambda: None))
        await until(lambda: platform.said("POST", "/hubs"))
        await connector.turn_to(access_to(other), REPLY)
        await speak_as_instance(connector)
        await connector.send(outbound("second"), lambda: None)
        assert not sending.done()
        platform.gate.set()
        assert (await sending).startswith("SM")
        await until(lambda: all(each.is_closing() for each in platform.connections))

    assert [each.body["Body"] for each in platform.said("POST", "/hubs")] == ["first"]
    assert [each.body["Body"] for each in other.said("POST", "/hubs")] == ["second"]


async def test_without_a_token_of_the_new_place_nothing_is_sent(
    platform: Platform, other: Platform
) -> None:
    """The former organization's token would be told to another one."""
    async with connected(platform.url) as connector:
        await speak_as_instance(connector)
        await connector.turn_to(access_to(other), REPLY)
        with pytest.raises(ConnectorUnreachable, match="not provisioned"):
            await connector.send(outbound(), lambda: None)
    assert not other.seen


async def test_the_same_access_keeps_its_connections_and_its_token(platform: Platform) -> None:
    """Each change of a name would stop replies until the instance was looked at."""
    async with connected(platform.url) as connector:
        await speak_as_instance(connector)
        await connector.turn_to(access_to(platform), REPLY)
        await connector.send(outbound(), lambda: None)
    assert len(platform.connections) == 1


async def test_a_log_half_read_is_not_ended_with_another_ones_pages(
    platform: Platform, other: Platform
) -> None:
    """A reply that had been sent would be missing in what was read, and be sent again."""
    now = datetime.now(UTC)
    rows = [
        {
            "sid": f"SM{n}",
            "from": OURS,
            "to": THEIRS,
            "direction": "outbound-api",
            "body": "hi",
            "date_sent": format_datetime(now - timedelta(seconds=n)),
        }
        for n in range(300)
    ]
    platform.messages, other.messages = rows, []
    async with connected(platform.url) as connector:
        await speak_as_instance(connector)
        platform.gate.clear()
        reading = asyncio.create_task(
            connector.sent_to(Conversation(OURS, THEIRS), now - timedelta(minutes=5))
        )
        await until(lambda: platform.said("GET", "/hubs"))
        await connector.turn_to(access_to(other), REPLY)
        await speak_as_instance(connector)
        platform.gate.set()
        with pytest.raises(ConnectorUnreachable, match="setup of the connector has changed"):
            await reading
    assert not other.said("GET", "/hubs")


async def test_a_client_without_an_access_says_so_and_works_once_it_has_one(
    platform: Platform,
) -> None:
    """A service that is not set up would not start, or never send."""
    connector = Connector(None, message=REPLY, timeout_s=5, connections=2)
    with pytest.raises(ConnectorUnreachable, match="not set up"):
        await connector.ping()
    with pytest.raises(ConnectorUnreachable, match="not set up"):
        await connector.send(outbound(), lambda: None)
    await connector.turn_to(access_to(platform), REPLY)
    await speak_as_instance(connector)
    await connector.ping()
    await connector.aclose()


async def test_former_secrets_stay_out_of_errors(platform: Platform, other: Platform) -> None:
    """A connector that quotes the secret somebody has just replaced would put it into the log."""
    async with connected(platform.url, user_secret="former-user-secret") as connector:
        await connector.turn_to(access_to(other), REPLY)
        other.overrides = [failure(400, "User former-user-secret is unknown")]
        with pytest.raises(ConnectorRefused) as caught:
            await connector.call_platform("GET", "/instances")
    assert "former-user-secret" not in str(caught.value)
