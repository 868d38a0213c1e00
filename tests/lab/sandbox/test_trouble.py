"""Trouble on the platform's calls other than sends, and sends that are accepted late."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.lab.sandbox.pieces import BASE, Sandbox, instance

pytestmark = pytest.mark.anyio

LOG = f"{BASE}/hubs/messaging/messages"


async def statuses(sandbox: Sandbox, token: str) -> dict[str, int]:
    """Call once each of what trouble tells apart, and a ping."""
    return {
        "instances": (await sandbox.platform("GET", "/instances")).status,
        "log": (await sandbox.ask("GET", LOG, instance(token))).status,
        "ping": (await sandbox.ask("GET", f"{BASE}/ping", instance(token))).status,
        "send": (await sandbox.send(token)).status,
    }


@pytest.mark.parametrize(
    ("where", "struck"),
    [
        ({}, {"send"}),
        ({"where": "instances"}, {"instances"}),
        ({"where": "log"}, {"log"}),
        ({"where": "all"}, {"instances", "log", "ping", "send"}),
    ],
    ids=["unsaid", "instances", "log", "all"],
)
async def test_trouble_strikes_the_calls_it_is_about_and_no_others(
    sandbox: Sandbox, where: dict[str, str], struck: set[str]
) -> None:
    """An outage of the log would be tested by one of everything, or of nothing."""
    token = (await sandbox.provision())["token"]
    await sandbox.trouble(status=503, count=-1, **where)

    answered = await statuses(sandbox, token)

    assert {name for name, status in answered.items() if status == 503} == struck
    assert {status for name, status in answered.items() if name not in struck} <= {200}


async def test_calls_that_pass_do_not_use_trouble_up(sandbox: Sandbox) -> None:
    """The instance's own checks would end the trouble that was meant for the log."""
    token = (await sandbox.provision())["token"]
    await sandbox.trouble(status=429, retry_after_s=3, where="log")

    await sandbox.platform("GET", "/instances")
    await sandbox.send(token)
    struck = await sandbox.ask("GET", LOG, instance(token))

    assert (struck.status, struck.headers["Retry-After"]) == (429, "3")
    assert (await sandbox.ask("GET", LOG, instance(token))).status == 200


async def test_provisioning_can_be_left_unanswered_and_undone(sandbox: Sandbox) -> None:
    """A time-out while an instance is made could not be produced."""
    await sandbox.trouble(hang=True, where="instances")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sandbox.provision(), 0.3)

    assert (await sandbox.records())["instances_created"] == 0
    await sandbox.provision()


async def test_provisioning_can_be_done_and_its_answer_lost(sandbox: Sandbox) -> None:
    """An instance that nobody knows of could not be produced."""
    await sandbox.trouble(reset=True, where="instances")

    with pytest.raises(aiohttp.ClientError):
        await sandbox.provision()

    assert (await sandbox.records())["instances_created"] == 1


async def test_the_log_can_be_slow(sandbox: Sandbox) -> None:
    """A search for a reply in doubt would always be instant."""
    token = (await sandbox.provision())["token"]
    await sandbox.trouble(latency_ms=300, where="log")
    loop = asyncio.get_running_loop()
    began = loop.time()

    answer = await sandbox.ask("GET", LOG, instance(token))

    assert answer.status == 200
    assert loop.time() - began >= 0.3


async def test_a_send_can_be_accepted_after_its_sender_has_gone(sandbox: Sandbox) -> None:
    """A reply that the log shows only later than its time-out could not be produced."""
    token = (await sandbox.provision())["token"]
    await sandbox.trouble(delay_ms=1500)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sandbox.send(token), 0.3)
    at_once = (await sandbox.records())["replies"]
    async with asyncio.timeout(20):
        while not (await sandbox.records())["replies"]:
            await asyncio.sleep(0.05)

    assert at_once == []


@pytest.mark.parametrize("where", ["send", "instances"])
async def test_a_call_can_be_served_and_answered_with_nothing(sandbox: Sandbox, where: str) -> None:
    """A reply that went out and has no sid could not be produced."""
    token = (await sandbox.provision())["token"]
    await sandbox.trouble(empty=True, where=where)

    if where == "send":
        answer = await sandbox.send(token)
    else:
        answer = await sandbox.platform("GET", "/instances")

    assert (answer.status, answer.body) == (200, b"")
    assert "json" in answer.headers["Content-Type"]
    assert len((await sandbox.records())["replies"]) == (where == "send")
    assert (await sandbox.send(token)).json["sid"]


async def test_where_has_to_be_a_place_there_is(sandbox: Sandbox) -> None:
    """A fault test with a typing error would pass without a fault."""
    answer = await sandbox.ask("POST", "/sandbox/trouble", body={"status": 500, "where": "logs"})

    assert answer.status == 400
