"""The watch over the instance turns to another setup while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from service.connector.client import MESSAGE_NAMES, Connector
from service.connector.peer import Access
from service.connector.provisioning import Provisioner, Wanted
from service.connector.watching import InstanceWatch, Turn
from service.core.sealing import Sealer
from service.errors import SetupChanged
from service.store.instances import Instances
from tests.connector.pieces import (
    AUTH_TOKEN,
    KEY,
    ORGANIZATION,
    USER,
    Platform,
    connected,
    outbound,
    running_platform,
    template,
    wanted,
)
from tests.connector.test_watching import stopped, until, watch

pytestmark = pytest.mark.anyio

REPLY = template("message.json", MESSAGE_NAMES)
TOKEN_ENTRY = "messaging.sms.twilio.token"


@pytest.fixture
async def other() -> AsyncIterator[Platform]:
    """Another region's platform."""
    async with running_platform() as running:
        yield running


async def always() -> None:
    """Want the same for good."""


def turn(
    connector: Connector,
    store: Instances,
    platform: Platform,
    what: Wanted | None = None,
    *,
    user_secret: str = USER,
    still_wanted: Callable[[], Awaitable[None]] = always,
) -> Turn:
    """A setup: where to, and what is wanted there."""
    return Turn(
        Access(platform.url, user_secret, ORGANIZATION),
        REPLY,
        Provisioner(connector, store, Sealer([KEY]), what or wanted(), still_wanted),
    )


async def test_nothing_is_asked_of_the_connector_before_there_is_a_setup(
    platform: Platform, store: Instances
) -> None:
    """A service that is not set up would not start, or never notice that it is."""
    connector = Connector(None, message=REPLY, timeout_s=5, connections=2)
    service = InstanceWatch(None, connector)
    running = asyncio.create_task(service.run())
    await asyncio.sleep(0.1)
    assert (service.ready.is_set(), service.state) == (False, "waits for the setup")
    service.turn_to(turn(connector, store, platform))
    await asyncio.wait_for(service.ready.wait(), 10)
    await connector.send(outbound(), lambda: None)
    await stopped(running)
    await connector.aclose()


async def test_a_changed_entry_is_put_at_the_same_instance_while_replies_go_on(
    platform: Platform, store: Instances
) -> None:
    """The instance would keep an auth token that Twilio has retired, or be replaced for it."""
    async with connected(platform.url) as connector:
        service = watch(connector, store)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        [instance] = platform.instances.values()
        service.turn_to(
            turn(connector, store, platform, wanted(TWILIO_AUTH_TOKEN="next-auth-token"))
        )
        await until(lambda: instance["configuration"][TOKEN_ENTRY] != AUTH_TOKEN)
        assert service.ready.is_set()
        await connector.send(outbound(), lambda: None)
        await stopped(running)
    assert instance["configuration"][TOKEN_ENTRY] == "next-auth-token"
    assert len(platform.instances) == 1


async def test_replies_wait_until_there_is_an_instance_at_the_new_place(
    platform: Platform, other: Platform, store: Instances
) -> None:
    """They would be refused there, for a token of the former organization."""
    async with connected(platform.url) as connector:
        service = watch(connector, store)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        other.gate.clear()
        service.turn_to(turn(connector, store, other))
        await until(lambda: other.seen)
        assert not service.ready.is_set()
        other.gate.set()
        await asyncio.wait_for(service.ready.wait(), 10)
        await connector.send(outbound(), lambda: None)
        await stopped(running)
    assert len(other.said("POST", "/hubs")) == 1
    assert not platform.said("POST", "/hubs")


async def test_a_setup_that_mends_a_refusal_is_not_kept_waiting_by_it(
    platform: Platform, store: Instances
) -> None:
    """Whoever corrects a mistyped secret would look at its error for half a minute."""
    connector = Connector(None, message=REPLY, timeout_s=5, connections=2)
    service = InstanceWatch(None, connector)
    running = asyncio.create_task(service.run())
    service.turn_to(turn(connector, store, platform, user_secret="mistyped"))
    await until(lambda: "401" in service.state)
    service.turn_to(turn(connector, store, platform))
    await asyncio.wait_for(service.ready.wait(), 2)
    await stopped(running)
    await connector.aclose()


async def test_what_is_under_way_ends_where_it_began(
    platform: Platform, other: Platform, store: Instances
) -> None:
    """Half of an instance would be made at one organization and half at the other."""
    connector = Connector(None, message=REPLY, timeout_s=5, connections=2)
    service = InstanceWatch(None, connector)
    running = asyncio.create_task(service.run())
    platform.gate.clear()
    service.turn_to(turn(connector, store, platform))
    await until(lambda: platform.seen)
    service.turn_to(turn(connector, store, other))
    await asyncio.sleep(0.1)
    assert not other.seen
    platform.gate.set()
    await asyncio.wait_for(service.ready.wait(), 10)
    await connector.send(outbound(), lambda: None)
    await stopped(running)
    await connector.aclose()
    assert (len(platform.instances), len(other.instances)) == (1, 1)
    assert len(other.said("POST", "/hubs")) == 1


async def test_a_process_behind_the_others_changes_nothing_of_what_they_did(
    platform: Platform, store: Instances
) -> None:
    """It would put the former auth token back, which Twilio may have retired."""
    asked: list[str] = []

    async def no_longer() -> None:
        asked.append("behind")
        raise SetupChanged("a newer setup is in use")

    async with connected(platform.url) as connector:
        service = watch(connector, store)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        before = len(platform.seen)
        behind: Any = turn(
            connector, store, platform, wanted(INSTANCE_NAME="former"), still_wanted=no_longer
        )
        service.turn_to(behind)
        await until(lambda: "a newer setup is in use" in service.state)
        assert service.ready.is_set()
        assert len(platform.seen) == before
        service.turn_to(turn(connector, store, platform, wanted(INSTANCE_NAME="newer")))
        await until(lambda: [i["name"] for i in platform.instances.values()] == ["newer"])
        await stopped(running)
    assert asked == ["behind"]
