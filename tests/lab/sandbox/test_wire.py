"""What the wire log shows of a request and its answer, and what it keeps to itself."""

from __future__ import annotations

from typing import Any

import pytest

from service.lab.sandbox.elements import SIGNATURE_KEY
from service.lab.sandbox.wire import MASK, mask_fields
from tests.lab.sandbox.pieces import (
    AUTH_TOKEN,
    ORGANIZATION,
    PREFIX,
    THEIRS,
    TWILIO_V2,
    USER,
    Door,
    Sandbox,
)

pytestmark = pytest.mark.anyio


async def exchange_of(sandbox: Sandbox, summary: str) -> Any:
    """The newest exchange with that summary."""
    rows = (await sandbox.ask("GET", "/sandbox/wire")).json["rows"]
    row = next(each for each in reversed(rows) if each["summary"] == summary)
    return (await sandbox.ask("GET", f"/sandbox/wire/{row['id']}")).json


async def test_a_row_opens_to_its_request_and_answer(sandbox: Sandbox, door: Door) -> None:
    """Who wonders why a reply was refused would have to guess what was sent."""
    created = await sandbox.provision(door.url)
    await sandbox.text("hello there")
    await sandbox.send(created["token"], {"To": THEIRS, "Body": "hi"})

    callback = await exchange_of(sandbox, "POST /")
    assert "Body=hello+there" in callback["request"]["body"]
    assert dict(callback["request"]["headers"])["X-Twilio-Signature"]
    assert callback["answer"]["body"].endswith("<Response/>")
    assert dict(callback["answer"]["headers"])["content-type"].startswith("text/xml")
    sent = await exchange_of(sandbox, "POST /messages")
    assert sent["request"]["body"] == f'{{"To": "{THEIRS}", "Body": "hi"}}'
    assert '"status":"queued"' in sent["answer"]["body"]


async def test_nothing_that_is_shown_holds_a_secret(sandbox: Sandbox) -> None:
    """A screenshot of the phone page would give the account away."""
    key = "key-of-events"
    created = await sandbox.provision("http://user:pass-word@127.0.0.1:9/in?key=in-the-query")
    second = (await sandbox.platform("POST", "/instances", TWILIO_V2)).json
    path = f"/instances/{created['id']}"
    await sandbox.platform("PATCH", path, {"configuration": {SIGNATURE_KEY: key}})
    entries = (await sandbox.platform("GET", f"{path}/configuration")).json
    entry = next(each["id"] for each in entries if each["key"] == f"{PREFIX}token")
    await sandbox.platform("PATCH", f"{path}/configuration/{entry}", {"propertyValue": "token-2"})
    await sandbox.platform("GET", "/instances")
    await sandbox.send(created["token"])
    await sandbox.ask("POST", "/sandbox/rotate", body={})

    rows = (await sandbox.ask("GET", "/sandbox/wire")).json["rows"]
    assert "POST /instances" in [row["summary"] for row in rows]
    shown = [await sandbox.ask("GET", f"/sandbox/wire/{row['id']}") for row in rows]
    text = b"".join(each.body for each in shown).decode()
    secrets = {USER, ORGANIZATION, AUTH_TOKEN, key, "token-2", created["token"], second["token"]}
    secrets |= {"pass-word", "in-the-query", "key-of-ours"}
    assert {each for each in secrets if each in text} == set()
    assert text.count(MASK) > 20


async def test_a_forgotten_row_says_so(sandbox: Sandbox) -> None:
    """A page that was open for long would show an empty request."""
    answer = await sandbox.ask("GET", "/sandbox/wire/7")
    assert answer.status == 404
    assert "forgotten" in answer.json["message"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"token":"abc"}', f'{{"token":"{MASK}"}}'),
        ('{"token": "ab\\"c", "name": "x"}', f'{{"token": "{MASK}", "name": "x"}}'),
        ('{"token":"cut off in the mid', f'{{"token":"{MASK}'),
        ('{"tokens":"abc"}', '{"tokens":"abc"}'),
        ("no JSON at all", "no JSON at all"),
    ],
    ids=["short", "with a quote", "cut", "another name", "text"],
)
def test_values_are_masked_where_the_text_is_cut_as_well(text: str, shown: str) -> None:
    """A long answer's secret would show because its JSON does not end."""
    assert mask_fields(text, {"token"}) == shown


async def test_twilio_answers_stop_and_start_itself(sandbox: Sandbox, door: Door) -> None:
    """A phone that said STOP would seem to be ignored."""
    await sandbox.provision(door.url)
    for body in ("START", "stop", "hello", "Start", "START"):
        await sandbox.text(body)
    seen = [(each["network_answer"][:45], each["opted_out"]) for each in await sandbox.thread()]
    assert seen == [
        ("", False),
        ("You have successfully been unsubscribed. You ", False),
        ("", True),
        ("You have successfully been re-subscribed to m", True),
        ("", False),
    ]


async def test_a_refused_reply_is_told_with_its_text(sandbox: Sandbox, door: Door) -> None:
    """Who waits for an answer would wait for ever, though the sandbox knows why there is none."""
    created = await sandbox.provision(door.url)
    await sandbox.text("hello")
    await sandbox.send(created["token"], {"To": THEIRS, "Body": "x" * 1601})
    (text,) = await sandbox.thread()
    assert text["refused"].startswith("400, 21617: ")


async def test_phones_are_told_what_the_service_takes(sandbox: Sandbox) -> None:
    """The empty phone page would suggest texts that no route takes."""
    told = {"texts": ["BALANCE"], "also": ["anything else"], "looks_every_s": 15.0}
    assert (await sandbox.ask("POST", "/sandbox/service", body=told)).status == 200
    assert (await sandbox.ask("GET", "/sandbox/threads")).json["service"] == told
    assert (await sandbox.ask("POST", "/sandbox/service", body={"text": []})).status == 400
