from __future__ import annotations

import json
import random
from typing import Any

import pytest
from aiohttp import web

from service.lab.sandbox.answers import INSTANCE_HEADER
from tests.lab.sandbox.pieces import (
    BASE,
    OURS,
    PLATFORM,
    PREFIX,
    THEIRS,
    Door,
    Sandbox,
    instance,
    wanted,
)

pytestmark = pytest.mark.anyio

ODD: list[Any] = [None, True, 0, -1.5, 1e300, "", " ", "x", "é👋", "a\0b", [], [None], [[]], {}]
ODD += [{"key": []}, {"": ""}, ["a", 1, {}], {"key": {"key": None}}, "<b>", "x" * 5000, 2**63]

MAPPING = {
    "vendorName": "messages",
    "fields": [{"path": "a.b", "vendorPath": "sid", "type": "string"}],
    "configuration": [{"type": "passThrough", "properties": {"fromVendor": True}}],
}
FORMULA = {
    "name": "x",
    "steps": [],
    "configuration": [{"key": "trigger", "name": "x", "type": "elementInstance"}],
}


def spoiled(dice: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    """Put something odd in the place of one or two values, at any depth; {} for all of it."""
    copy: dict[str, Any] = json.loads(json.dumps(body))
    for _ in range(dice.randint(1, 2)):
        place = copy
        name = dice.choice(sorted(place))
        if isinstance(place[name], list) and place[name] and dice.random() < 0.7:
            # Into a list of objects, by way of its first.
            place = place[name][0] if isinstance(place[name][0], dict) else place
            name = dice.choice(sorted(place))
        while isinstance(place[name], dict) and place[name] and dice.random() < 0.7:
            place = place[name]
            name = dice.choice(sorted(place))
        place[name] = dice.choice(ODD)
    return copy


@pytest.mark.parametrize("seed", range(3))
async def test_no_json_body_makes_the_platform_fail(sandbox: Sandbox, seed: int) -> None:
    """A mistake in a request would look like an outage, and be tried again for ever."""
    dice = random.Random(seed)
    created = await sandbox.provision()
    path = f"{BASE}/instances/{created['id']}"
    message = {"To": THEIRS, "From": OURS, "Body": "hi", "MediaUrl": ["https://example.com/a.png"]}
    mapped = f"/instances/{created['id']}/transformations/messages"
    await sandbox.platform("POST", mapped, MAPPING)
    template = (await sandbox.platform("POST", "/formulas", FORMULA)).json["id"]
    formulas = f"/formulas/{template}/instances"
    used = {"name": "x", "configuration": {"trigger": created["id"]}}
    for _ in range(60):
        change = spoiled(dice, wanted("http://127.0.0.1:9"))
        answers = [
            await sandbox.ask("POST", f"{BASE}/instances", PLATFORM, change),
            await sandbox.ask("PUT", path, PLATFORM, change),
            await sandbox.ask("PATCH", path, PLATFORM, change),
            await sandbox.send(created["token"], spoiled(dice, message)),
            await sandbox.platform("PUT", mapped, spoiled(dice, MAPPING)),
            await sandbox.platform("POST", "/formulas", spoiled(dice, FORMULA)),
            await sandbox.platform("POST", formulas, spoiled(dice, used)),
            await sandbox.platform("GET", "/formulas/instances"),
            await sandbox.platform("GET", f"/instances/{created['id']}/docs"),
            await sandbox.platform("GET", "/instances"),
            await sandbox.ask("GET", f"{BASE}/messages", instance(created["token"])),
        ]
        assert [each for each in answers if each.status >= 500] == []
        assert all("message" in each.json for each in answers if each.status >= 400)


@pytest.mark.parametrize("seed", range(3))
async def test_no_json_body_makes_the_phone_fail(sandbox: Sandbox, seed: int) -> None:
    """A text that went wrong would say nothing about why."""
    dice = random.Random(seed)
    text = {"from": THEIRS, "to": OURS, "body": "hi", "media": ["https://example.com/a.png"]}
    text |= {"sid": "SM1"}
    switches = {"count": 0, "status": 0, "latency_ms": 0, "retry_after_s": 1}
    for _ in range(60):
        answers = [
            await sandbox.ask("POST", "/sandbox/texts", body=spoiled(dice, text)),
            await sandbox.ask("POST", "/sandbox/trouble", body=spoiled(dice, switches)),
            await sandbox.ask("GET", "/sandbox/threads"),
            await sandbox.ask("GET", "/sandbox/records"),
        ]
        assert [each for each in answers if each.status >= 500] == []


@pytest.mark.parametrize("path", ["/instances", "/hubs/messaging/messages"])
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"To": "\xff"}', id="not UTF-8"),
        pytest.param(b'{"To": "\\ud800"}', id="half a character"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param(b'"text"', id="no object"),
    ],
)
async def test_bytes_that_are_no_object_are_400(sandbox: Sandbox, path: str, raw: bytes) -> None:
    """A broken template would look like an outage, and be tried again for ever."""
    created = await sandbox.provision()
    headers = {"Content-Type": "application/json"}

    answer = await sandbox.ask(
        "POST", BASE + path, instance(created["token"]), data=raw, headers=headers
    )

    assert answer.status == 400
    assert answer.json["requestId"]


async def test_open_connectors_fact_08_every_answer_of_an_instance_names_it_its_errors_included(
    sandbox: Sandbox,
) -> None:
    """Which instance refused a reply could not be told."""
    created = await sandbox.provision()
    token = instance(created["token"])
    one = f"{BASE}/instances/{created['id']}"
    answers = [
        await sandbox.send(created["token"]),
        await sandbox.send(created["token"], {"To": "", "Body": "hi"}),
        await sandbox.ask("GET", f"{BASE}/hubs/messaging/messages", token),
        await sandbox.ask("GET", f"{BASE}/hubs/messaging/messages/SM0", token),
        await sandbox.ask("GET", f"{BASE}/ping", token),
        await sandbox.ask("GET", one, PLATFORM),
    ]
    await sandbox.trouble(status=503)
    answers.append(await sandbox.send(created["token"]))
    answers.append(await sandbox.ask("DELETE", f"{one}/enabled", PLATFORM))
    answers.append(await sandbox.send(created["token"]))

    assert [each.status for each in answers] == [200, 400, 200, 404, 200, 200, 503, 200, 403]
    assert {each.headers.get(INSTANCE_HEADER) for each in answers} == {str(created["id"])}


@pytest.mark.parametrize("seconds", [0, 3, 1_000_000])
async def test_retry_after_is_a_number_of_seconds_as_http_has_it(
    sandbox: Sandbox, seconds: int
) -> None:
    """A long wait would be unreadable, and the reply tried again at once."""
    created = await sandbox.provision()
    await sandbox.trouble(status=429, retry_after_s=seconds)

    assert (await sandbox.send(created["token"])).headers["Retry-After"] == str(seconds)


@pytest.mark.parametrize("encoding", ["shift_jis", "unknown", "utf-16"])
async def test_an_answer_in_an_unreadable_encoding_is_complained_about(
    sandbox: Sandbox, door: Door, encoding: str
) -> None:
    """The text would hang on its way for ever, and its reason be a traceback."""
    await sandbox.provision(door.url)
    twiml = f'<?xml version="1.0" encoding="{encoding}"?><Response/>'.encode()
    door.answers.append(web.Response(body=twiml, content_type="text/xml"))

    answer = await sandbox.text()

    assert answer["warning"].startswith("Twilio error 12100")
    assert answer["state"] == "accepted"


async def test_a_callback_url_can_not_smuggle_in_a_header(sandbox: Sandbox, door: Door) -> None:
    """A stray line break from copied documentation would send a forged request."""
    await sandbox.provision(f"{door.url}/callbacks\r\nX-Forged: 1")

    answer = await sandbox.text()

    assert (answer["status"], answer["state"]) == (0, "failed")
    assert door.callbacks == []


async def test_an_auth_token_with_odd_characters_still_signs(sandbox: Sandbox, door: Door) -> None:
    """Texts would fail without a reason the operator could act on."""
    configuration = wanted(door.url)["configuration"] | {f"{PREFIX}token": "tökén 👋"}
    await sandbox.provision(configuration=configuration)

    assert (await sandbox.text())["status"] == 200
