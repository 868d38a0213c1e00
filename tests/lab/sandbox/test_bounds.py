"""Whatever the sandbox keeps has a bound."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import web

from service.lab.sandbox import feed, formulas, mappings, network
from service.lab.sandbox.instances import CHARACTERS, INSTANCES_KEPT
from service.lab.sandbox.messages import ADDRESS_LIMIT, MEDIA_LIMIT, URL_LIMIT
from service.lab.sandbox.network import Network
from service.lab.sandbox.records import NOTE_CHARACTERS, Records
from service.lab.sandbox.wire import BODY_KEPT_BYTES, EXCHANGES_KEPT, Exchange
from tests.lab.sandbox.pieces import OURS, PREFIX, THEIRS, Door, Sandbox, wanted
from tests.present import present

pytestmark = pytest.mark.anyio

FIELDS = [{"path": "id", "vendorPath": "sid"}]
LONG = "x" * 20_000


async def test_open_connectors_fact_21_there_are_only_so_many_instances(sandbox: Sandbox) -> None:
    """A service that creates without end would fill the memory before anybody notices."""
    for _ in range(INSTANCES_KEPT):
        await sandbox.provision()

    over = await sandbox.platform("POST", "/instances", wanted("http://127.0.0.1:9"))

    assert (over.status, over.json.keys()) == (429, {"requestId", "message"})
    first = (await sandbox.platform("GET", "/instances")).json[0]["id"]
    await sandbox.platform("DELETE", f"/instances/{first}")
    assert (await sandbox.provision())["id"] > first


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x" * CHARACTERS},
        {"tags": ["x" * 1000] * 100},
        {"configuration": {"more": "x" * CHARACTERS}},
        {"configuration": {f"{n:05}": "" for n in range(CHARACTERS // 5)}},
    ],
    ids=["name", "tags", "one entry", "many entries"],
)
async def test_open_connectors_fact_21_an_instance_holds_only_so_much(
    sandbox: Sandbox, change: dict[str, Any]
) -> None:
    """One instance that is changed again and again would fill the memory."""
    created = await sandbox.provision()
    path = f"/instances/{created['id']}"
    body = wanted("http://127.0.0.1:9")
    body |= change | {"configuration": body["configuration"] | change.get("configuration", {})}

    answers = [
        await sandbox.platform("POST", "/instances", body),
        await sandbox.platform("PUT", path, change),
        await sandbox.platform("PATCH", path, change),
    ]

    assert [each.status for each in answers] == [429] * 3
    assert (await sandbox.platform("GET", path)).json == created


async def test_one_entry_changed_by_its_id_holds_only_so_much(sandbox: Sandbox) -> None:
    """The way by the entry's id would go around the bound."""
    created = await sandbox.provision()
    path = f"/instances/{created['id']}/configuration"
    entry = (await sandbox.platform("GET", path)).json[0]

    answer = await sandbox.platform(
        "PATCH", f"{path}/{entry['id']}", {"propertyValue": "x" * CHARACTERS}
    )

    assert answer.status == 429
    assert answer.headers["elements-element-instance-id"] == str(created["id"])


async def test_there_are_only_so_many_definitions_mappings_and_formulas(sandbox: Sandbox) -> None:
    """Common resources and formulas that nobody deletes would fill the memory."""
    created = await sandbox.provision()
    one = f"/instances/{created['id']}"

    async def statuses(path: str, body: dict[str, Any], count: int) -> list[int]:
        made = [await sandbox.platform("POST", path.format(n), body) for n in range(count + 1)]
        return [each.status for each in made]

    kept = mappings.KEPT
    full = [200] * kept + [429]
    assert await statuses(f"{one}/objects/o{{}}/definitions", {"fields": FIELDS}, kept) == full
    mapping = {"vendorName": "messages", "fields": FIELDS}
    assert await statuses(f"{one}/transformations/o{{}}", mapping, kept) == full
    changed = await sandbox.platform("PUT", f"{one}/transformations/o0", mapping)
    assert changed.status == 200
    kept = formulas.KEPT
    full = [200] * kept + [429]
    assert await statuses("/formulas", {"name": "x"}, kept) == full
    first = (await sandbox.platform("GET", "/formulas")).json[0]["id"]
    assert await statuses(f"/formulas/{first}/instances", {"name": "x"}, kept) == full


def test_texts_are_bounded_by_their_length_as_well_as_their_number() -> None:
    """A load test with long texts would take a hundred times the memory of one with short ones."""
    kept = Records(kept_characters=1_000)
    for number in range(50):
        kept.add_text(f"SM{number}", THEIRS, OURS, "x" * 90, ["y" * 10])

    assert [message.sid for message in kept.messages] == [f"SM{n}" for n in range(40, 50)]
    kept.add_text("SM50", THEIRS, OURS, "z" * 2_000, [])
    assert list(kept.messages) == []
    kept.add_text("SM51", THEIRS, OURS, "short", [])
    assert [message.sid for message in kept.messages] == ["SM51"]


def test_conversations_opt_outs_and_messages_are_bounded_by_their_number() -> None:
    """A load test from ever new phones would fill the memory."""
    kept = Records(kept=10)
    for number in range(30):
        kept.add_text(f"SM{number}", f"+1415555{number:04}", "+14155550100", "STOP", [])

    assert len(kept.messages) == 10
    out = [n for n in range(30) if kept.is_opted_out(f"+1415555{n:04}", "+14155550100")]
    assert out == list(range(20, 30))
    assert len(kept._last_text) == 10


@pytest.mark.parametrize(
    "change",
    [
        {"body": "x" * 10_001},
        {"from": "1" * (ADDRESS_LIMIT + 1)},
        {"to": "1" * (ADDRESS_LIMIT + 1)},
        {"sid": "1" * (ADDRESS_LIMIT + 1)},
        {"media": ["x"] * (MEDIA_LIMIT + 1)},
        {"media": ["x" * (URL_LIMIT + 1)]},
        {"at": "2026-01-31" + " " * ADDRESS_LIMIT},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_text_that_is_too_long_is_refused(sandbox: Sandbox, change: dict[str, Any]) -> None:
    """A text without bound would take the memory of a thousand."""
    answer = await sandbox.ask("POST", "/sandbox/texts", body={"body": "hi"} | change)

    assert answer.status == 400
    assert (await sandbox.ask("GET", "/sandbox/threads")).json["threads"] == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"To": "1" * (ADDRESS_LIMIT + 1)}, "21211"),
        ({"From": "1" * (ADDRESS_LIMIT + 1)}, "21211"),
        ({"MediaUrl": ["x" * (URL_LIMIT + 1)]}, "21620"),
        ({"StatusCallback": "x" * (URL_LIMIT + 1)}, "21620"),
    ],
    ids=["To", "From", "MediaUrl", "StatusCallback"],
)
async def test_a_reply_with_a_field_that_is_too_long_is_refused(
    sandbox: Sandbox, change: dict[str, Any], code: str
) -> None:
    """A reply without bound would take the memory of a thousand."""
    created = await sandbox.provision()

    answer = await sandbox.send(created["token"], {"To": THEIRS, "Body": "hi"} | change)

    assert answer.status == 400
    assert answer.json["providerMessage"].startswith(code)
    assert (await sandbox.records())["replies"] == []


def test_what_the_wire_log_quotes_is_cut() -> None:
    """A path or an answer of a megabyte would be kept two thousand times."""
    kept = Records()
    body = LONG.encode()
    for _ in range(EXCHANGES_KEPT + 1):
        kept.wire("request", LONG, 404, 1.0, Exchange({}, body, {}, body), note=LONG)

    rows = kept.wire_log.rows()
    assert {len(row[name]) for row in rows for name in ("summary", "note")} == {NOTE_CHARACTERS}
    shown = present(kept.wire_log.show(EXCHANGES_KEPT + 1))
    assert kept.wire_log.show(1) is None
    for part in (shown["request"], shown["answer"]):
        assert (len(part["body"]), part["length"]) == (BODY_KEPT_BYTES, len(body))


async def test_what_a_text_and_a_callback_tell_is_cut(sandbox: Sandbox, door: Door) -> None:
    """An answer of the service's would be kept whole with every text."""
    await sandbox.provision(f"{door.url}/")
    door.answers = [
        web.Response(status=503, text=LONG),
        web.Response(body=f"<{LONG}/>".encode(), content_type="text/xml"),
    ]

    told = [await sandbox.text() for _ in range(2)]

    callbacks = (await sandbox.records())["callbacks"]
    lengths = [len(each[name]) for each in told for name in ("detail", "warning")]
    lengths += [len(each[name]) for each in callbacks for name in ("answer", "warning")]
    assert max(lengths) == NOTE_CHARACTERS


async def test_connections_to_former_services_are_let_go() -> None:
    """A sandbox whose service moves from port to port would run out of open files."""
    kept = Records()
    net = Network(kept)
    created = kept.create_instance(
        "twilio", "x", wanted("http://127.0.0.1:9/")["configuration"], []
    )
    for port in range(1, 2 * network.ORIGINS):
        kept.configure(created, {f"{PREFIX}callback.url": f"http://127.0.0.1:{port}/#rc=0"})
        await net.deliver(created, kept.add_text("SM1", THEIRS, OURS, "hi", []))
    origins = list(net._clients)
    await net.aclose()

    assert len(origins) == network.ORIGINS
    assert origins[-1] == f"http://127.0.0.1:{2 * network.ORIGINS - 1}"


async def test_only_so_many_pages_listen_at_once(sandbox: Sandbox) -> None:
    """Pages left open would take a connection and a queue each, without end."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(feed.PAGES):
            answer = await stack.enter_async_context(
                sandbox.http.get(f"{sandbox.url}/sandbox/events")
            )
            assert answer.status == 200
            await answer.content.readline()
        over = await sandbox.ask("GET", "/sandbox/events")

    assert (over.status, over.headers["Retry-After"]) == (503, "10")
    async with asyncio.timeout(10):
        while (await sandbox.http.head(f"{sandbox.url}/sandbox/events")).status == 503:
            await asyncio.sleep(0.05)


def test_a_rotated_or_deleted_token_is_forgotten() -> None:
    """Every rotation would leave a token behind that nobody can use."""
    kept = Records()
    created = kept.create_instance("twilio", "x", {}, [])
    for _ in range(5):
        kept.rotate(created)
    assert list(kept.by_token) == [created.token]
    kept.delete_instance(created)
    assert (kept.by_token, kept.instances) == ({}, {})
