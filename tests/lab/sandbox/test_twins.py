"""The twins of /instances without an id, both connectors, what the documentation leaves open."""

from __future__ import annotations

from typing import Any

import pytest

from service.core.open_connectors.template_check import compare
from tests.lab.sandbox.pieces import (
    ACCOUNT,
    BASE,
    PLATFORM,
    THEIRS,
    TWILIO_V2,
    Door,
    Sandbox,
    instance,
)
from tests.present import present

pytestmark = pytest.mark.anyio

TWILIO_MODEL = {"To", "From", "Body", "MediaUrl", "StatusCallback", "MessagingServiceSid"}
HUB_MODEL = {"to", "from", "subject", "message"}


async def test_open_connectors_fact_04_without_an_id_the_instance_of_the_token_is_meant(
    sandbox: Sandbox,
) -> None:
    """A service that knows only its token could not look at its own instance."""
    created = await sandbox.provision()
    await sandbox.provision(tags=["other"])
    token = instance(created["token"])
    root = f"{BASE}/instances"

    got = await sandbox.ask("GET", root, token)
    tagged = await sandbox.ask("PATCH", root, token, {"tags": ["a"]})
    named = await sandbox.ask("PUT", root, token, {"name": "<b>new</b>"})
    entries = await sandbox.ask("GET", f"{root}/configuration", token)
    docs = await sandbox.ask("GET", f"{root}/docs", token)
    disabled = await sandbox.ask("DELETE", f"{root}/enabled", token)
    refused = await sandbox.send(created["token"])
    enabled = await sandbox.ask("PUT", f"{root}/enabled", token)
    deleted = await sandbox.ask("DELETE", root, token)
    after = await sandbox.ask("GET", root, token)

    assert got.json["id"] == created["id"]
    assert (tagged.json["tags"], named.json["name"]) == (["a"], "new")
    assert "key" in entries.json[0]
    assert docs.json["swagger"] == "2.0"
    assert disabled.json["disabled"] is True
    assert (refused.status, enabled.json["disabled"]) == (403, False)
    assert (deleted.status, after.status) == (200, 401)
    assert len((await sandbox.records())["instances"]) == 1


async def test_without_a_token_nothing_is_deleted(sandbox: Sandbox) -> None:
    """A DELETE that lost its id would take every instance with it."""
    await sandbox.provision()

    assert (await sandbox.ask("DELETE", f"{BASE}/instances", PLATFORM)).status == 401
    assert len((await sandbox.records())["instances"]) == 1


async def test_instances_are_made_and_listed_under_their_element(sandbox: Sandbox) -> None:
    """A documented way to provision would be missing."""
    first = await sandbox.provision()
    second = await sandbox.provision(**TWILIO_V2)

    async def ids(key: str) -> list[int]:
        return [e["id"] for e in (await sandbox.platform("GET", f"/elements/{key}/instances")).json]

    assert await ids("twilio") == [first["id"]]
    assert await ids("twiliov2") == [second["id"]]
    assert (await sandbox.platform("GET", "/elements/none/instances")).status == 404
    assert (await sandbox.platform("POST", "/elements/twilio/instances", TWILIO_V2)).status == 404


async def test_open_connectors_fact_12_a_twiliov2_instance_hides_its_password_and_its_signature_key(
    sandbox: Sandbox,
) -> None:
    """Secrets of the other connector would be read back, and written to a log."""
    created = await sandbox.provision(**TWILIO_V2)

    assert created["element"]["key"] == "twiliov2"
    assert created["configuration"]["password"] == "********"
    assert created["configuration"]["event.notification.signature.key"] == "********"
    assert created["configuration"]["username"] == ACCOUNT
    incomplete = TWILIO_V2 | {"configuration": {"username": ACCOUNT}, "name": "x"}
    refused = await sandbox.platform("POST", "/instances", incomplete)
    assert (refused.status, refused.json["message"].split()[-1]) == (400, "password")


@pytest.mark.parametrize(
    ("body", "fields"),
    [({}, TWILIO_MODEL | HUB_MODEL), (TWILIO_V2, TWILIO_MODEL)],
    ids=["twilio", "twiliov2"],
)
async def test_an_instance_describes_every_body_it_takes(
    sandbox: Sandbox, body: dict[str, Any], fields: set[str]
) -> None:
    """A template could not be compared with what the connector takes."""
    created = await sandbox.provision(**body)

    docs = (await sandbox.platform("GET", f"/instances/{created['id']}/docs")).json

    found = present(compare({}, docs))
    assert set(found.described) == fields
    assert [each.kind for each in found.findings] == ["missing"] * (2 if body else 0)


async def test_open_connectors_fact_06_tags_read_back_as_objects_by_a_switch(
    sandbox: Sandbox,
) -> None:
    """The other documented shape of tags would be met in production only."""
    await sandbox.provision()
    assert (await sandbox.switch(tag_objects=True)).json["tag_objects"] is True

    listed = await sandbox.platform("GET", "/instances?tags[]=parley")

    assert listed.json[0]["tags"] == [{"id": 1, "name": "parley"}]
    assert (await sandbox.switch(tag_object=True)).status == 400


async def test_revoked_secrets_and_a_missing_log_are_switches(sandbox: Sandbox) -> None:
    """An alarm and a connector that cannot list messages could not be tried out."""
    created = await sandbox.provision()
    token = instance(created["token"])
    await sandbox.switch(no_message_log=True)
    unlisted = await sandbox.ask("GET", f"{BASE}/messages", token)
    await sandbox.switch(no_message_log=False, secrets_revoked=True)
    revoked = [await sandbox.platform("GET", "/instances"), await sandbox.send(created["token"])]
    await sandbox.switch(secrets_revoked=False)

    assert (unlisted.status, unlisted.json.keys()) == (405, {"requestId", "message"})
    assert [each.status for each in revoked] == [401, 401]
    assert (await sandbox.ask("GET", f"{BASE}/messages", token)).status == 200


@pytest.mark.parametrize("path", ["/instances", "/messages"])
async def test_open_connectors_fact_08_who_takes_no_json_is_told_so(
    sandbox: Sandbox, path: str
) -> None:
    """A wrong Accept header would go unnoticed until production."""
    created = await sandbox.provision()
    for method in ("GET", "POST"):
        answer = await sandbox.ask(
            method, BASE + path, instance(created["token"]), headers={"Accept": "text/html"}
        )
        assert (answer.status, answer.json.keys()) == (406, {"requestId", "message"})


async def test_open_connectors_fact_10_the_pictures_of_a_message_are_listed(
    sandbox: Sandbox, door: Door
) -> None:
    """A missed picture could not be read back."""
    created = await sandbox.provision(door.url)
    url = "https://example.com/a.png"
    sid = (await sandbox.text("look", media=[url]))["sid"]
    path = f"{BASE}/hubs/any/messages"

    rows = await sandbox.ask("GET", f"{path}/{sid}/media", instance(created["token"]))
    none = await sandbox.ask("GET", f"{path}/SM0/media", instance(created["token"]))

    assert [(row["uri"], row["content_type"], row["parent_sid"]) for row in rows.json] == [
        (url, "image/png", sid)
    ]
    assert none.status == 404


async def test_a_text_that_no_door_took_is_in_the_log_all_the_same(sandbox: Sandbox) -> None:
    """Backfill would have nothing to read after an outage of ours."""
    created = await sandbox.provision("http://127.0.0.1:9/")
    sent = await sandbox.text("lost")

    rows = (await sandbox.ask("GET", f"{BASE}/messages", instance(created["token"]))).json

    assert sent["state"] == "failed"
    assert [(r["sid"], r["direction"], r["from"]) for r in rows] == [
        (sent["sid"], "inbound", THEIRS)
    ]
