"""The sandbox's own API: texts, threads, records, and the events a phone page listens to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from service.lab.sandbox.feed import EVENTS_KEPT, Feed
from service.lab.sandbox.records import Records
from tests.lab.sandbox.pieces import OURS, THEIRS, Door, Sandbox, running_sandbox

pytestmark = pytest.mark.anyio


class Events:
    """A reader of server-sent events, after the HTML Standard's rules."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.last_id = ""

    async def next(self, kind: str) -> Any:
        """Read on to the next event of a kind, and return its data."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(10):
            while raw := await self.answer.content.readline():
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                    continue
                self.last_id = fields.get("id", self.last_id)
                if fields.get("event") == kind:
                    return json.loads(fields["data"])
                fields = {}
        raise AssertionError("the events ended")


@contextlib.asynccontextmanager
async def listening(sandbox: Sandbox, last_id: str = "") -> AsyncIterator[Events]:
    """Listen to a sandbox's events."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with sandbox.http.get(f"{sandbox.url}/sandbox/events", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        await answer.content.readline()
        yield Events(answer)


# --- events -----------------------------------------------------------------------------------


async def test_a_page_sees_a_text_on_its_way_then_accepted_then_the_reply(
    sandbox: Sandbox, door: Door
) -> None:
    """The phone page would only show what happened after a reload."""
    created = await sandbox.provision(door.url)
    async with listening(sandbox) as events:
        sent = await sandbox.text("hello")
        await sandbox.send(created["token"], {"To": THEIRS, "Body": "hi there"})
        seen = [await events.next("message") for _ in range(3)]

    text, settled, reply = seen
    assert text["sid"] == settled["sid"] == sent["sid"]
    assert settled["state"] == "accepted"
    assert settled["detail"].startswith("callback answered 200 in ")
    assert (reply["direction"], reply["body"], reply["theirs"]) == ("reply", "hi there", THEIRS)
    assert reply["after_ms"] > 0


async def test_a_page_sees_every_request_that_crosses_the_wire(
    sandbox: Sandbox, door: Door
) -> None:
    """A developer could not see why nothing arrives."""
    async with listening(sandbox) as events:
        created = await sandbox.provision(f"{door.url}/callbacks/twilio?key=secret")
        await sandbox.text("hello")
        await sandbox.send(created["token"])
        await sandbox.send("wrong")
        seen = [await events.next("wire") for _ in range(4)]

    assert [(row["direction"], row["summary"], row["status"]) for row in seen] == [
        ("request", "POST /instances", 200),
        ("callback", "POST /callbacks/twilio", 200),
        ("request", "POST /messages", 200),
        ("request", "POST /messages", 401),
    ]
    assert seen[3]["note"].startswith("Invalid Organization or User secret")
    assert all(row["ms"] >= 0 and row["at"] for row in seen)


async def test_a_page_learns_our_number_when_it_changes(sandbox: Sandbox) -> None:
    """The phone page would wait for a service that is there, or text one that is gone."""
    async with listening(sandbox) as events:
        created = await sandbox.provision()
        come = await events.next("provisioned")
        await sandbox.platform("DELETE", f"/instances/{created['id']}")
        gone = await events.next("provisioned")

    assert (come["our_number"], come["gone_at"]) == (OURS, "")
    assert gone["our_number"] is None
    assert datetime.fromisoformat(gone["gone_at"]) <= datetime.now(UTC)


async def test_a_page_that_lost_its_connection_gets_what_it_missed(sandbox: Sandbox) -> None:
    """A reply that arrived in the gap would be missing from the phone."""
    created = await sandbox.provision()

    async def send(body: str) -> None:
        await sandbox.send(created["token"], {"To": THEIRS, "Body": body})

    async with listening(sandbox) as events:
        await send("seen")
        assert (await events.next("message"))["body"] == "seen"
    await send("missed")
    await send("missed too")
    async with listening(sandbox, events.last_id) as events:
        again = [(await events.next("message"))["body"] for _ in range(2)]

    assert again == ["missed", "missed too"]


@pytest.mark.parametrize("last_id", ["0", "1000000", "none", "deadbeef.1", "deadbeef.99", "."])
async def test_an_id_of_another_run_neither_hides_nor_repeats_events(
    sandbox: Sandbox, last_id: str
) -> None:
    """After a restart of the sandbox an open page would stay silent."""
    created = await sandbox.provision()
    await sandbox.send(created["token"], {"To": THEIRS, "Body": "before"})
    async with listening(sandbox, last_id) as events:
        await sandbox.send(created["token"], {"To": THEIRS, "Body": "after"})
        first = await events.next("message")

    assert first["body"] == "after"


async def test_a_quiet_connection_is_kept_alive() -> None:
    """A proxy or a browser would cut it."""
    feed = Feed()
    stream: Any = feed.follow("", heartbeat_s=0.01)

    assert [await anext(stream) for _ in range(3)][1:] == [b": still here\n\n"] * 2
    await stream.aclose()


async def test_a_slow_page_costs_a_bounded_memory() -> None:
    """A page left open during a load test would fill the sandbox's memory."""
    feed = Feed()
    stream: Any = feed.follow("", heartbeat_s=5)
    await anext(stream)
    for number in range(EVENTS_KEPT * 3):
        feed.publish("message", {"n": number})

    text = (await anext(stream)).decode()
    await stream.aclose()

    rows = [json.loads(line[6:])["n"] for line in text.splitlines() if line.startswith("data: ")]
    assert rows == list(range(EVENTS_KEPT * 2, EVENTS_KEPT * 3))


# --- texts, threads, records ------------------------------------------------------------------


async def test_threads_are_kept_by_phone_and_in_order(sandbox: Sandbox, door: Door) -> None:
    """The phones' conversations would run into one another."""
    created = await sandbox.provision(door.url)
    await sandbox.text("a1", **{"from": "+15550100001"})
    await sandbox.text("b1", **{"from": "+15550100002"})
    await sandbox.send(created["token"], {"To": "+15550100001", "Body": "a2"})

    shown = (await sandbox.ask("GET", "/sandbox/threads")).json

    assert shown["our_number"] == OURS
    threads = {
        each["theirs"]: [one["body"] for one in each["messages"]] for each in shown["threads"]
    }
    assert threads == {"+15550100001": ["a1", "a2"], "+15550100002": ["b1"]}
    assert shown["threads"][0]["theirs"] == "+15550100001"


def test_threads_are_bounded_to_what_was_active_last() -> None:
    """The phone page would not open any more after a load test."""
    records = Records()
    for number in range(30):
        records.add_text(f"SM{number}", f"+1{number % 3}", OURS, str(number), [])

    threads = records.threads(phones=2, newest=4)

    bodies = [[message.body for message in each["messages"]] for each in threads]
    assert bodies == [["20", "23", "26", "29"], ["19", "22", "25", "28"]]


async def test_a_text_may_carry_a_sid_of_the_callers(sandbox: Sandbox, door: Door) -> None:
    """A duplicate callback could not be produced."""
    await sandbox.provision(door.url)
    sid = "SM" + "7" * 32

    answers = [await sandbox.text(sid=sid) for _ in range(2)]

    assert [each["sid"] for each in answers] == [sid, sid]
    assert len(door.callbacks) == 2


@pytest.mark.parametrize(
    "body",
    [{"text": "x"}, {"body": 1}, {"from": ""}, [], {"media": "x"}, {"at": "yesterday"}],
    ids=str,
)
async def test_a_text_that_makes_no_sense_is_refused(
    sandbox: Sandbox, body: dict[str, Any] | list[Any]
) -> None:
    """A test with a typing error would send another text than it means to."""
    answer = await sandbox.ask("POST", "/sandbox/texts", body=body)

    assert answer.status == 400
    assert answer.json["message"]


@pytest.mark.parametrize("path", ["/sandbox/texts", "/sandbox/trouble"])
async def test_another_sites_page_can_not_send_texts(sandbox: Sandbox, path: str) -> None:
    """Any site open in a developer's browser could text through his service."""
    async with sandbox.http.post(sandbox.url + path, data=b"{}") as answer:
        octets = answer.status
    headers = {"Content-Type": "text/plain"}
    async with sandbox.http.post(sandbox.url + path, data=b"{}", headers=headers) as answer:
        simple = answer.status

    assert (octets, simple) == (415, 415)


async def test_a_sandbox_stops_although_a_page_listens() -> None:
    """`parley demo` would hang at Ctrl+C while the phone page is open."""
    async with asyncio.timeout(10):
        async with running_sandbox() as sandbox:
            address = urlsplit(sandbox.url)
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(b"GET /sandbox/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in await reader.readline()
        await reader.read()
        writer.close()
        await writer.wait_closed()


# --- the page's files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "type_"),
    [("/", "text/html"), ("/page/page.css", "text/css"), ("/page/page.js", "text/javascript")],
)
async def test_the_pages_files_run_no_code_but_their_own(
    sandbox: Sandbox, path: str, type_: str
) -> None:
    """A text could bring a script along."""
    answer = await sandbox.ask("GET", path)

    policy = answer.headers["Content-Security-Policy"]
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(type_)
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/page/none.js", "/page/..%2fapp.py", "/page/../app.py"])
async def test_nothing_but_the_pages_files_is_served(sandbox: Sandbox, path: str) -> None:
    """The source or worse could be read from the sandbox."""
    assert (await sandbox.ask("GET", path)).status == 404


async def test_replies_are_read_a_page_at_a_time_in_order_of_arrival(sandbox: Sandbox) -> None:
    """A load test counts tens of thousands of them; one answer with all would not fit."""
    token = (await sandbox.provision())["token"]
    for number in range(5):
        await sandbox.send(token, {"To": THEIRS, "Body": f"reply {number}"})

    page = (await sandbox.ask("GET", "/sandbox/replies?after=1&count=2")).json
    assert page["received"] == 5
    assert [(row["arrival"], row["body"]) for row in page["replies"]] == [
        (2, "reply 1"),
        (3, "reply 2"),
    ]
    assert page["replies"][0]["moment_s"] < page["replies"][1]["moment_s"]
    assert (await sandbox.ask("GET", "/sandbox/replies")).json == {"received": 5, "replies": []}
    assert (await sandbox.ask("GET", "/sandbox/replies?after=x")).status == 400
