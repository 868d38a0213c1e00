from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from aiohttp import web

from service.connector.client import Connector
from service.connector.watching import InstanceWatch
from service.core.sealing import Sealer
from service.store.connection import connect
from service.store.instances import Instances, LastLook, last_look
from service.store.keys import INSTANCE, INSTANCE_LOOK
from tests.connector.pieces import (
    Platform,
    connected,
    ensured,
    failure,
    outbound,
    provisioner,
    running_platform,
)

pytestmark = pytest.mark.anyio


def watch(connector: Connector, store: Instances, **options: Any) -> InstanceWatch:
    """One process's watch; options: watch_s, repair."""
    return InstanceWatch(provisioner(connector, store), connector, **options)


async def stopped(task: asyncio.Task[None]) -> None:
    """Stop a watch, which goes on for ever; more than once, as a process does.

    A request that ends in the turn it is cancelled in ends as if it had not been.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.5)


async def until(what: Any) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


async def test_replies_can_be_sent_as_soon_as_it_is_ready(
    platform: Platform, store: Instances
) -> None:
    """Replies would wait for a restart."""
    async with connected(platform.url) as connector:
        service = watch(connector, store)
        assert not service.ready.is_set()
        running = asyncio.create_task(service.run())
        await asyncio.wait_for(service.ready.wait(), 10)
        await stopped(running)

        assert service.state == f"instance {next(iter(platform.instances))}"
        assert await connector.send(outbound(), lambda: None)


async def test_it_keeps_trying_while_the_connector_is_away(store: Instances) -> None:
    """A start during an outage of the connector would need another one after it."""
    async with running_platform() as first:
        url = first.url
    async with connected(url) as connector:
        service = watch(connector, store)
        running = asyncio.create_task(service.run())
        await until(lambda: "no connection" in service.state.lower())
        assert not service.ready.is_set()
        app = web.Application()
        platform = Platform()
        app.router.add_route("*", "/{path:.*}", platform.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(url.split(":")[2].split("/")[0])).start()
        try:
            await asyncio.wait_for(service.ready.wait(), 20)
        finally:
            await stopped(running)
            await runner.cleanup()

    assert len(platform.instances) == 1
    assert service.ready.is_set()


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(400, id="an entry it does not like"),
        pytest.param(401, id="wrong secrets"),
        pytest.param(404, id="a wrong base address"),
        pytest.param(409, id="a conflict"),
    ],
)
async def test_a_refusal_is_reported_and_not_repeated_at_once(
    platform: Platform, store: Instances, status: int
) -> None:
    """The connector would be hammered with a request somebody has to mend first."""
    platform.overrides = [failure(status, "no", "Twilio: 20003") for _ in range(9)]
    async with connected(platform.url) as connector:
        service = watch(connector, store)
        with structlog.testing.capture_logs() as logs:
            running = asyncio.create_task(service.run())
            await until(lambda: any("error" in line for line in logs))
            await asyncio.sleep(0.5)
            await stopped(running)

    [line] = [line for line in logs if line["event"] != "plan"]
    expected = f"{status}: no; providerMessage: Twilio: 20003; requestId: 56a1e4b2e4b0a7ce7a5e6f0d"
    assert line["error"] == expected
    assert line["again_in_ms"] >= 3_000
    assert expected in service.state


async def test_retry_after_is_waited_for(platform: Platform, store: Instances) -> None:
    """A throttled start would keep itself throttled."""
    platform.overrides = [failure(429, "slow down", Retry_After="1")]
    async with connected(platform.url) as connector:
        began = asyncio.get_running_loop().time()
        service = watch(connector, store)
        running = asyncio.create_task(service.run())
        await asyncio.wait_for(service.ready.wait(), 20)
        await stopped(running)

    assert asyncio.get_running_loop().time() - began >= 1


async def test_a_token_sealed_with_another_key_is_reported_and_left_alone(
    platform: Platform, store: Instances, redis_server: str
) -> None:
    """A mistyped SECRET_KEY would lose the instance."""
    first = await ensured(platform, store)
    client = connect(redis_server)
    async with connected(platform.url) as connector:
        service = watch(connector, Instances(client, Sealer(["another key " * 4])))
        running = asyncio.create_task(service.run())
        await until(lambda: "SECRET_KEY" in service.state)
        await stopped(running)
    await client.aclose()

    assert list(platform.instances) == [first.id]
    assert await store.load() == first


async def test_a_defect_is_heard_of_and_does_not_end_provisioning(
    platform: Platform, store: Instances, redis_server: str
) -> None:
    """Parley would wait for ever without a word, and hide that nobody is answered."""
    client: Any = connect(redis_server)
    await client.hset(INSTANCE, mapping={"id": "1"})
    async with connected(platform.url) as connector:
        service = watch(connector, store)
        with structlog.testing.capture_logs() as logs:
            running = asyncio.create_task(service.run())
            await until(lambda: logs)
            assert not running.done()
            await stopped(running)
    await client.aclose()

    assert logs[0]["log_level"] == "error"
    assert "KeyError in load (instances.py:" in logs[0]["error"]
    assert logs[0]["error"] in service.state


@pytest.mark.parametrize("what", ["deleted", "disabled", "token"])
async def test_an_instance_that_is_only_watched_is_reported_and_left(
    platform: Platform, store: Instances, what: str
) -> None:
    """/readyz would call it fit, or CONNECTOR_REPAIR=report would undo what somebody did."""
    first = await ensured(platform, store)
    async with connected(platform.url) as connector:
        service = watch(connector, store, watch_s=0.1, repair=False)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        record = dict(platform.instances[first.id])
        changed = {"disabled": True} if what == "disabled" else {"token": "rotated"}
        sent = len(platform.seen)
        with structlog.testing.capture_logs() as logs:
            if what == "deleted":
                del platform.instances[first.id]
            else:
                platform.instances[first.id] |= changed
            await until(lambda: not service.ready.is_set() and logs)
        assert service.state.startswith("the instance is not as it should be: ")
        assert "parley connector apply" in service.state
        assert {line["log_level"] for line in logs if "advice" in line} == {"error"}
        assert {each.method for each in platform.seen[sent:]} == {"GET"}

        platform.instances[first.id] = record
        await until(service.ready.is_set)
        assert service.state == f"instance {first.id}"
        await stopped(running)


async def test_a_changed_entry_that_is_only_reported_keeps_replies_going(
    platform: Platform, store: Instances
) -> None:
    """Replies would stop for a name, and /readyz would name what is mended long since."""
    first = await ensured(platform, store)
    async with connected(platform.url) as connector:
        service = watch(connector, store, watch_s=0.1, repair=False)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        platform.instances[first.id]["name"] = "theirs"
        await until(lambda: "name: 'theirs' -> 'parley'" in service.state)
        assert service.ready.is_set()
        platform.instances[first.id]["name"] = "parley"
        await until(lambda: service.state == f"instance {first.id}")
        await stopped(running)


async def test_when_it_was_looked_at_and_what_was_done_is_kept(
    platform: Platform, store: Instances, redis_server: str
) -> None:
    """An operator would have to search the log of every process for it."""
    client = connect(redis_server)
    assert await last_look(client) == LastLook()
    first = await ensured(platform, store)
    made = await last_look(client)
    assert made.did == "create an instance"
    assert made.at is not None
    assert made.at == made.did_at
    assert abs(made.at - datetime.now(UTC)) < timedelta(minutes=1)
    await ensured(platform, store)
    looked = await last_look(client)
    assert looked.at is not None
    assert looked.at > made.at
    assert (looked.did, looked.did_at) == (made.did, made.did_at)
    platform.instances[first.id]["name"] = "theirs"
    await ensured(platform, store)
    assert (await last_look(client)).did == f"update instance {first.id}: name"

    # What only reports looks as well.
    before = await last_look(client)
    async with connected(platform.url) as connector:
        service = watch(connector, store, watch_s=0.05, repair=False)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        started = await last_look(client)
        async with asyncio.timeout(5):
            while (await last_look(client)).at == started.at:
                await asyncio.sleep(0.02)
        await stopped(running)
    assert started.at != before.at
    await client.aclose()


async def test_a_replacement_that_nobody_asked_for_is_kept_as_well(
    platform: Platform, store: Instances, redis_server: str
) -> None:
    """Formulas would have stopped, and only the log of one process would say why."""
    client = connect(redis_server)
    first = await ensured(platform, store)
    async with connected(platform.url) as connector:
        await provisioner(connector, store).replace(first)
    did = (await last_look(client)).did
    assert did == f"replaced instance {first.id}, whose token was refused"
    await client.aclose()


async def test_a_look_that_can_not_be_kept_holds_nothing_up(
    platform: Platform, store: Instances, redis_server: str
) -> None:
    """Replies would wait for a remark, while Redis is full of them."""
    first = await ensured(platform, store)
    client = connect(redis_server)
    await client.delete(INSTANCE_LOOK)
    await client.set(INSTANCE_LOOK, "not what it should be")
    assert await ensured(platform, store) == first
    await client.aclose()


async def test_a_revoked_secret_is_an_alarm_and_makes_no_instance(
    platform: Platform, store: Instances
) -> None:
    """Nobody would hear of it, or instances would be made in a loop."""
    first = await ensured(platform, store)
    async with connected(platform.url) as connector:
        service = watch(connector, store)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        platform.overrides = [failure(401, "Invalid User secret") for _ in range(9)]
        with structlog.testing.capture_logs() as logs:
            service.suspect()
            await until(lambda: logs)
        await asyncio.sleep(0.5)
        assert not service.ready.is_set()
        await stopped(running)

    [alarm] = logs
    assert (alarm["log_level"], alarm["again_in_ms"] >= 3_000) == ("error", True)
    assert "OPEN_CONNECTORS_USER_SECRET" in alarm["advice"]
    assert alarm["error"] in service.state
    assert len(platform.overrides) == 8, "asked once, and not again at once"
    assert list(platform.instances) == [first.id]


@pytest.mark.parametrize(
    ("provider", "made"),
    [
        pytest.param("Twilio: 20003 Authenticate", 1, id="Twilio refuses the account"),
        pytest.param(None, 2, id="the connector refuses every token"),
    ],
)
async def test_a_refusal_that_no_new_instance_mends_makes_no_loop_of_them(
    platform: Platform, store: Instances, provider: str | None, made: int
) -> None:
    """Every refused reply would make another instance, and move the number's callback to it."""
    await ensured(platform, store)
    platform.refusal = (401, "Unauthorized", provider)
    async with connected(platform.url) as connector:
        service = watch(connector, store)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        # As long as replies go on being refused.
        while "401" not in service.state:
            service.suspect()
            await until(lambda: service.ready.is_set() or "401" in service.state)
        assert not service.ready.is_set()
        await stopped(running)

    assert len(platform.said("POST", "/instances")) == made
    assert len(platform.instances) == 1
