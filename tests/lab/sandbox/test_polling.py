"""Events that come from polling: what one of them carries, when it comes, and how it ends."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import b64encode
from typing import Any

import pytest
from aiohttp import web

from service.lab.sandbox import polling
from service.lab.sandbox.docs import ROW_FIELDS
from service.lab.sandbox.network import Network
from service.lab.sandbox.records import Records
from tests.lab.sandbox.pieces import (
    ACCOUNT,
    OURS,
    PREFIX,
    THEIRS,
    TWILIO_V2,
    Callback,
    Door,
    Sandbox,
    wanted,
)

pytestmark = pytest.mark.anyio

ENTRIES = TWILIO_V2["configuration"]
KEY = ENTRIES["event.notification.signature.key"]
URL = "event.notification.callback.url"
OTHER = "+15005550199"


async def polled_instance(sandbox: Sandbox, url: str, **entries: str) -> Any:
    """Make an instance whose texts are polled, and switch polling on."""
    configuration = ENTRIES | {URL: url} | entries
    created = await sandbox.provision(**TWILIO_V2 | {"configuration": configuration})
    assert (await sandbox.switch(relay="polled")).status == 200
    return created


async def poll(sandbox: Sandbox) -> Any:
    """Poll at once; returns what is told of the one instance."""
    answer = await sandbox.ask("POST", "/sandbox/poll", body={})
    (told,) = answer.json["polled"]
    return told


def rows_of(callback: Callback) -> list[dict[str, Any]]:
    """Return the rows an event carries."""
    rows: list[dict[str, Any]] = json.loads(callback.body)["message"]["raw"]["messages"]
    return rows


async def state(sandbox: Sandbox) -> str:
    """Tell how the instance's subscription stands."""
    (instance,) = (await sandbox.records())["instances"]
    return str(instance["events"])


async def until(sandbox: Sandbox, word: str) -> str:
    """Wait until the subscription's state has a word in it."""
    async with asyncio.timeout(10):
        while word not in (found := await state(sandbox)):
            await asyncio.sleep(0.01)
    return found


async def test_open_connectors_fact_18_one_event_has_the_rows_of_everything_since_the_last(
    sandbox: Sandbox, door: Door
) -> None:
    """The door would be tested with an event of one text to one number."""
    created = await polled_instance(sandbox, f"{door.url}/events#rc=2")
    first = await sandbox.text("hello", to=OURS)
    await sandbox.text("to another number", to=OTHER, media=["https://example.com/a.png"])
    await sandbox.send(created["token"], {"To": THEIRS, "From": OURS, "Body": "our own"})
    unannounced = len(door.callbacks)

    told = await poll(sandbox)
    again = await poll(sandbox)
    await sandbox.text("later")
    await poll(sandbox)

    assert unannounced == 0
    assert (first["status"], first["state"]) == (0, "accepted")
    assert told == {"instance": created["id"], "rows": 3, "status": 200, "events": ""}
    assert (again["rows"], len(door.callbacks)) == (0, 2)
    hello, other, own = rows_of(door.callbacks[0])
    assert (hello["sid"], hello["body"], hello["to"]) == (first["sid"], "hello", OURS)
    assert (other["to"], other["num_media"]) == (OTHER, "1")
    assert (own["direction"], own["to"], own["from"]) == ("outbound-api", THEIRS, OURS)
    assert hello.keys() == set(ROW_FIELDS)
    assert b"example.com" not in door.callbacks[0].body
    assert [each["body"] for each in rows_of(door.callbacks[1])] == ["later"]
    assert door.callbacks[0].target == "/events"
    message = json.loads(door.callbacks[0].body)["message"]
    assert (message["elementKey"], message["instanceId"]) == ("twiliov2", created["id"])
    assert [each["objectId"] for each in message["events"]] == [
        each["sid"] for each in (hello, other, own)
    ]


async def test_open_connectors_fact_18_an_event_is_signed_and_has_an_id(
    sandbox: Sandbox, door: Door
) -> None:
    """The door would refuse every event, or accept anybody's."""
    await polled_instance(sandbox, door.url)
    for body in ("one", "two"):
        await sandbox.text(body)
        await poll(sandbox)

    for callback in door.callbacks:
        digest = b64encode(hmac.digest(KEY.encode(), callback.body, "sha256")).decode()
        assert callback.headers["Elements-Webhook-Signature"] == f"sha256={digest}"
        assert callback.headers["Content-Type"] == "application/json"
    ids = {each.headers["Elements-Webhook-Id"] for each in door.callbacks}
    assert len(ids) == 2


async def test_open_connectors_fact_18_seventy_rows_are_one_event_of_seventy_kilobytes(
    sandbox: Sandbox, door: Door
) -> None:
    """A limit of the door's that real events exceed would be met in production."""
    await polled_instance(sandbox, door.url)
    for number in range(70):
        await sandbox.text(f"text {number}", lost=True)

    await poll(sandbox)

    (callback,) = door.callbacks
    assert [each["body"] for each in rows_of(callback)] == [f"text {n}" for n in range(70)]
    assert 50_000 < len(callback.body) < 100_000


async def test_more_rows_than_an_event_holds_come_in_the_next_at_once(door: Door) -> None:
    """After a rush some texts would never be told of, or all in one event without end."""
    records = Records()
    network = Network(records)
    poller = polling.Poller(records, network, rows=3)
    records.create_instance("twilio", "parley", wanted(door.url)["configuration"], [])
    for number in range(7):
        records.add_text(f"SM{number}", THEIRS, OURS, str(number), [])

    (told,) = await poller.poll()
    await poller.aclose()
    await network.aclose()

    assert (told["rows"], told["status"]) == (7, 200)
    assert [[each["body"] for each in rows_of(one)] for one in door.callbacks] == [
        ["0", "1", "2"],
        ["3", "4", "5"],
        ["6"],
    ]


async def test_open_connectors_fact_18_events_come_by_themselves_in_the_instances_interval(
    sandbox: Sandbox, door: Door
) -> None:
    """Polling would be tested as if somebody pressed a button."""
    await sandbox.switch(minute_s=0.02)
    await polled_instance(sandbox, door.url, **{"event.poller.refresh_interval": "10"})
    began = time.monotonic()
    await sandbox.text("one")
    await door.wait_for(1)
    first_s = time.monotonic() - began
    await sandbox.text("two")
    await door.wait_for(2)

    assert first_s >= 0.1
    assert [each["body"] for one in door.callbacks for each in rows_of(one)] == ["one", "two"]
    await sandbox.switch(relay="off")
    assert (await sandbox.text("three"))["status"] == 200
    assert door.callbacks[2].headers["X-Twilio-Signature"]


async def test_what_was_there_before_the_instance_is_not_told(sandbox: Sandbox, door: Door) -> None:
    """A new instance would be told of texts that were another's."""
    other = await sandbox.provision("http://127.0.0.1:9/")
    await sandbox.text("before", lost=True)
    await sandbox.platform("DELETE", f"/instances/{other['id']}")
    await polled_instance(sandbox, door.url)
    await sandbox.text("after", lost=True)

    await poll(sandbox)

    assert [each["body"] for each in rows_of(door.callbacks[0])] == ["after"]


@pytest.mark.parametrize(
    "entries",
    [{"event.notification.enabled": "false"}, {URL: ""}],
    ids=["not enabled", "no address"],
)
async def test_an_instance_that_wants_no_events_is_not_polled(
    sandbox: Sandbox, door: Door, entries: dict[str, str]
) -> None:
    """An instance without the switch would look as if it had it."""
    await polled_instance(sandbox, door.url, **entries)
    await sandbox.text("hello")

    assert await poll(sandbox) | {"instance": 0} == {
        "instance": 0,
        "rows": 0,
        "status": 0,
        "events": "",
    }


async def test_the_older_connector_is_polled_for_its_callback_url(
    sandbox: Sandbox, door: Door
) -> None:
    """What the platform makes of the older connector's address could not be tried in this way."""
    await sandbox.provision(door.url)
    await sandbox.switch(relay="polled")
    await sandbox.text("hello")

    assert (await poll(sandbox))["rows"] == 1
    (callback,) = door.callbacks
    assert [each["account_sid"] for each in rows_of(callback)] == [ACCOUNT]


async def test_open_connectors_fact_18_an_event_that_is_not_taken_is_repeated_as_it_is(
    sandbox: Sandbox, door: Door
) -> None:
    """The door's de-duplication would never meet an event that comes again."""
    await sandbox.switch(minute_s=0.0005)
    await polled_instance(sandbox, door.url)
    door.answers = [web.Response(status=503), None, web.Response(status=404)]
    await sandbox.text("one")

    told = await poll(sandbox)
    await door.wait_for(4)
    async with asyncio.timeout(10):
        while await state(sandbox):
            await asyncio.sleep(0.01)

    assert (told["status"], told["events"]) == (503, "not taken: answered 503")
    assert len({each.body for each in door.callbacks}) == 1
    assert len({each.headers["Elements-Webhook-Id"] for each in door.callbacks}) == 1
    await sandbox.text("two")
    await poll(sandbox)
    assert [each["body"] for each in rows_of(door.callbacks[-1])] == ["two"]


async def test_open_connectors_fact_18_after_five_repetitions_the_subscription_is_deactivated(
    sandbox: Sandbox, door: Door
) -> None:
    """Nobody would learn that events end for good when the door refuses them."""
    await sandbox.switch(minute_s=0.0005)
    created = await polled_instance(sandbox, door.url)
    door.answers = [web.Response(status=413) for _ in range(6)]
    await sandbox.text("one")
    await poll(sandbox)
    said = await until(sandbox, "deactivated")

    assert said == "deactivated after 6 attempts: answered 413"
    assert len(door.callbacks) == 6
    path = f"/instances/{created['id']}"
    now = (await sandbox.platform("GET", path)).json
    assert now["configuration"]["event.notification.enabled"] == "false"
    await sandbox.text("while it is off")
    assert (await poll(sandbox))["rows"] == 0
    await sandbox.platform("PATCH", path, {"configuration": {"event.notification.enabled": "true"}})
    await sandbox.text("on again")
    assert await poll(sandbox) == {
        "instance": created["id"],
        "rows": 1,
        "status": 200,
        "events": "",
    }
    assert [each["body"] for each in rows_of(door.callbacks[-1])] == ["on again"]


def test_open_connectors_fact_18_the_waits_grow_over_nine_and_a_half_hours() -> None:
    """An outage of an evening would be tested as one of a minute."""
    assert len(polling.WAITS_MIN) == 5
    assert list(polling.WAITS_MIN) == sorted(set(polling.WAITS_MIN))
    assert sum(polling.WAITS_MIN) == 9.5 * 60


async def test_a_new_address_ends_the_repetitions_to_the_old_one(
    sandbox: Sandbox, door: Door
) -> None:
    """A repaired instance would be deactivated for what the old address did."""
    await sandbox.switch(minute_s=0.01)
    created = await polled_instance(sandbox, "http://127.0.0.1:9/")
    await sandbox.text("lost")
    assert (await poll(sandbox))["events"].startswith("not taken: no connection")

    body = {"configuration": {URL: door.url}}
    await sandbox.platform("PUT", f"/instances/{created['id']}", body)
    await sandbox.text("told")

    assert (await poll(sandbox))["events"] == ""
    assert [each["body"] for each in rows_of(door.callbacks[0])] == ["told"]


async def test_the_same_address_again_forgets_nothing(sandbox: Sandbox, door: Door) -> None:
    """Each start of the service would cost the texts since the last poll."""
    created = await polled_instance(sandbox, door.url)
    await sandbox.text("kept")
    same = {"configuration": {URL: door.url, "event.notification.enabled": "true"}}
    await sandbox.platform("PUT", f"/instances/{created['id']}", same)

    assert (await poll(sandbox))["rows"] == 1


@pytest.mark.parametrize("minute_s", [0, -1, 61, "long", None])
async def test_a_minute_that_makes_no_sense_is_refused(
    sandbox: Sandbox, minute_s: int | str | None
) -> None:
    """A test with a typing error would wait for hours, or spin."""
    assert (await sandbox.switch(minute_s=minute_s)).status == 400  # type: ignore[arg-type]  # what is wrong  # type: ignore[arg-type]  # what is wrong


@pytest.mark.parametrize(
    "interval", ["", "soon", "0", "-1", "nan", "inf", "1e999"], ids=lambda text: text or "none"
)
async def test_an_interval_that_makes_no_sense_is_the_usual_one(
    sandbox: Sandbox, door: Door, interval: str
) -> None:
    """A mistyped entry would make the platform poll without pause, or fail."""
    await polled_instance(sandbox, door.url, **{"event.poller.refresh_interval": interval})
    await sandbox.text("hello")
    await asyncio.sleep(0.2)

    assert door.callbacks == []
    assert (await poll(sandbox))["rows"] == 1


@pytest.mark.parametrize("relay", ["instead", "both"])
async def test_an_event_of_one_text_is_signed_and_has_an_id_too(
    sandbox: Sandbox, door: Door, relay: str
) -> None:
    """The two ways of relaying would differ where the platform's do not."""
    body = wanted(door.url)
    body["configuration"] |= {"event.notification.signature.key": KEY, f"{PREFIX}sender": OURS}
    await sandbox.provision(door.url, configuration=body["configuration"])
    await sandbox.switch(relay=relay)

    await sandbox.text("hello")

    event = door.callbacks[0]
    digest = b64encode(hmac.digest(KEY.encode(), event.body, "sha256")).decode()
    assert event.headers["Elements-Webhook-Signature"] == f"sha256={digest}"
    assert event.headers["Elements-Webhook-Id"]
    assert len(door.callbacks) == (1 if relay == "instead" else 2)
