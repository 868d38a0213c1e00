"""What the platform's own acceptance tests expect of /instances, their answers and the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.lab.sandbox.docs import ROW_FIELDS
from tests.lab.sandbox.pieces import (
    ACCOUNT,
    BASE,
    OURS,
    PLATFORM,
    PREFIX,
    THEIRS,
    TWILIO_V2,
    Door,
    Sandbox,
    instance,
    wanted,
)

pytestmark = pytest.mark.anyio

REQUEST, COUNT = "elements-request-id", "elements-returned-count"
INSTANCE = "elements-element-instance-id"
DEFAULTS = {
    "filter.response.nulls": "true",
    "event.notification.enabled": "false",
    "event.vendor.type": "polling",
    "event.poller.refresh_interval": "15",
}


async def test_open_connectors_fact_13_a_search_is_by_part_of_the_name_and_by_every_tag(
    sandbox: Sandbox,
) -> None:
    """Who looks for his instance would find another, or none."""
    blue = await sandbox.provision(name="Parley blue", tags=["a", "b"])
    red = await sandbox.provision(name="parley red", tags=["a"])

    async def found(query: str) -> list[int]:
        answer = await sandbox.platform("GET", f"/instances?{query}")
        assert answer.status == 200
        assert answer.headers[COUNT] == str(len(answer.json))
        return [each["id"] for each in answer.json]

    assert await found("searchText=parley") == [blue["id"], red["id"]]
    assert await found("searchText=BLUE") == [blue["id"]]
    assert await found("tags[]=a") == [blue["id"], red["id"]]
    assert await found("tags[]=a&tags[]=b") == [blue["id"]]
    assert await found("searchText=red&tags[]=a") == [red["id"]]


@pytest.mark.parametrize(
    "query",
    ["tags[]=none", "tags[]=parley&tags[]=none", "searchText=none", "searchText=x&tags[]=y"],
)
@pytest.mark.parametrize("path", ["/instances", "/elements/twilio/instances"])
async def test_open_connectors_fact_13_a_search_without_a_match_is_404_and_a_list_is_empty(
    sandbox: Sandbox, path: str, query: str
) -> None:
    """A service that can't read 404 as none would pass here, and never provision for real."""
    empty = await sandbox.platform("GET", path)
    await sandbox.provision()

    answer = await sandbox.platform("GET", f"{path}?{query}")

    assert (empty.status, empty.json, empty.headers[COUNT]) == (200, [], "0")
    assert answer.status == 404
    assert answer.json.keys() == {"requestId", "message"}


async def test_open_connectors_fact_13_the_filter_can_be_ignored_by_a_switch(
    sandbox: Sandbox,
) -> None:
    """Adopting without reading the tag would be tested by nobody."""
    other = await sandbox.provision(tags=["of another team"])
    await sandbox.switch(search_ignored=True)

    listed = await sandbox.platform("GET", "/instances?tags[]=parley")

    assert [each["id"] for each in listed.json] == [other["id"]]


@pytest.mark.parametrize(("key", "number"), [("twilio", 7), ("twiliov2", 6042)])
async def test_open_connectors_fact_14_an_element_is_named_by_its_key_or_its_number(
    sandbox: Sandbox, key: str, number: int
) -> None:
    """Whoever has the number alone would be told that there is no such connector."""
    described = (await sandbox.platform("GET", f"/elements/{key}")).json
    assert (described["id"], described["key"]) == (number, key)
    body = wanted("http://127.0.0.1:9") if key == "twilio" else TWILIO_V2
    for name in (key, str(number)):
        path = f"/elements/{name}/instances"
        created = await sandbox.platform("POST", path, {**body, "element": {"key": key}})
        one = f"{path}/{created.json['id']}"
        assert (created.status, created.json["element"]["key"]) == (200, key)
        assert len((await sandbox.platform("GET", path)).json) == 1
        assert (await sandbox.platform("GET", one)).json == created.json
        renamed = await sandbox.platform("PUT", one, {"name": "updated"})
        assert renamed.json["name"] == "updated"
        assert (await sandbox.platform("DELETE", one)).status == 200
        assert (await sandbox.platform("GET", one)).status == 404


async def test_an_instance_is_not_found_under_another_element(sandbox: Sandbox) -> None:
    """An instance would seem to belong to both connectors."""
    created = await sandbox.provision()

    assert (
        await sandbox.platform("GET", f"/elements/6042/instances/{created['id']}")
    ).status == 404
    by_path = await sandbox.platform(
        "POST", "/elements/7/instances", wanted("http://x") | {"element": {}}
    )
    assert (by_path.status, by_path.json["element"]["key"]) == (200, "twilio")
    unlike = await sandbox.platform("POST", "/elements/7/instances", TWILIO_V2)
    assert unlike.status == 404


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"name": "new"}, {"name": "new"}),
        ({"name": "<b>new</b>"}, {"name": "new"}),
        ({"tags": ["x"]}, {"tags": ["x"]}),
        ({"tags": []}, {"tags": []}),
        ({"configuration": {f"{PREFIX}sender": "+15005550199"}}, {}),
        ({"name": "", "tags": None, "configuration": None}, {}),
        ({}, {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_open_connectors_fact_14_a_change_leaves_what_it_does_not_name(
    sandbox: Sandbox, method: str, change: dict[str, Any], differs: dict[str, Any]
) -> None:
    """A new name would cost the instance its tags, and Parley its instance."""
    created = await sandbox.provision()
    configuration = created["configuration"] | (change.get("configuration") or {})

    answer = await sandbox.platform(method, f"/instances/{created['id']}", change)

    assert answer.status == 200
    assert answer.json == created | differs | {"configuration": configuration}
    assert (await sandbox.platform("GET", f"/instances/{created['id']}")).json == answer.json


async def test_a_change_that_can_not_be_read_changes_nothing(sandbox: Sandbox) -> None:
    """Half of a repair would be done, and reported as none."""
    created = await sandbox.provision()
    path = f"/instances/{created['id']}"

    for change in ({"name": "new", "tags": "x"}, {"tags": ["x"], "configuration": []}):
        answer = await sandbox.platform("PATCH", path, change)
        assert answer.status == 400
        assert answer.headers[INSTANCE] == str(created["id"])

    assert (await sandbox.platform("GET", path)).json == created


@pytest.mark.parametrize("body", [{}, TWILIO_V2], ids=["twilio", "twiliov2"])
async def test_open_connectors_fact_14_an_instance_has_defaults_a_user_and_a_date(
    sandbox: Sandbox, body: dict[str, Any]
) -> None:
    """Entries we never set would look like somebody's changes, in production alone."""
    created = await sandbox.provision(**body)
    rows = await sandbox.platform("GET", f"/instances/{created['id']}/configuration")
    entries = {each["key"]: each["propertyValue"] for each in rows.json}

    given = body.get("configuration", {})
    expected = {key: given.get(key, value) for key, value in DEFAULTS.items()}
    assert {key: created["configuration"][key] for key in DEFAULTS} == expected
    assert {key: entries[key] for key in DEFAULTS} == expected
    assert created["externalAuthentication"] == "none"
    assert created["user"].keys() == {"id", "emailAddress", "firstName", "lastName"}
    age = datetime.now(UTC) - datetime.fromisoformat(created["createdDate"])
    assert timedelta(seconds=-1) < age < timedelta(minutes=1)


async def test_open_connectors_fact_14_a_lists_rows_may_have_no_configuration(
    sandbox: Sandbox,
) -> None:
    """An instance would be taken for another's because the list tells nothing of it."""
    created = await sandbox.provision()
    await sandbox.switch(bare_lists=True)

    (row,) = (await sandbox.platform("GET", "/instances?tags[]=parley")).json

    assert row == created | {"configuration": {}}
    assert (await sandbox.platform("GET", f"/instances/{created['id']}")).json == created


async def test_open_connectors_fact_14_every_answer_has_an_id_and_every_list_its_length(
    sandbox: Sandbox,
) -> None:
    """Nobody could quote a request to the platform's support, or tell a cut list."""
    created = await sandbox.provision()
    token = instance(created["token"])
    one = f"/instances/{created['id']}"
    sent = await sandbox.send(created["token"])
    lists = [
        await sandbox.platform("GET", "/instances"),
        await sandbox.platform("GET", f"{one}/configuration"),
        await sandbox.ask("GET", f"{BASE}/messages", token),
        await sandbox.ask("GET", f"{BASE}/messages/{sent.json['sid']}/media", token),
        await sandbox.platform("GET", "/formulas"),
    ]
    others = [
        sent,
        await sandbox.platform("GET", one),
        await sandbox.ask("GET", f"{BASE}/ping", token),
        await sandbox.platform("GET", "/nothing"),
        await sandbox.platform("POST", "/ping"),
        await sandbox.ask("GET", f"{BASE}/instances", "User x, Organization y"),
        await sandbox.ask("GET", f"{BASE}{one}", PLATFORM, headers={"Accept": "text/html"}),
    ]

    assert [int(each.headers[COUNT]) for each in lists] == [len(each.json) for each in lists]
    assert not [each for each in others if COUNT in each.headers]
    ids = [each.headers[REQUEST] for each in (*lists, *others)]
    assert len(set(ids)) == len(ids)
    refused = [each for each in others if each.status >= 400]
    assert [each.json["requestId"] for each in refused] == [
        each.headers[REQUEST] for each in refused
    ]
    assert [each.status for each in refused] == [404, 405, 401, 406]


async def test_open_connectors_fact_14_nulls_are_left_out_until_the_entry_says_otherwise(
    sandbox: Sandbox,
) -> None:
    """A field that is absent and one that is null would never be met both."""
    created = await sandbox.provision()
    token = instance(created["token"])
    path = f"/instances/{created['id']}/configuration"
    await sandbox.send(created["token"], {"To": THEIRS, "Body": "hi"})
    (filtered,) = (await sandbox.ask("GET", f"{BASE}/messages", token)).json
    entry = next(
        each
        for each in (await sandbox.platform("GET", path)).json
        if each["key"] == "filter.response.nulls"
    )

    changed = await sandbox.platform(
        "PATCH", f"{path}/{entry['id']}", entry | {"propertyValue": "false"}
    )

    (whole,) = (await sandbox.ask("GET", f"{BASE}/messages", token)).json
    one = (await sandbox.ask("GET", f"{BASE}/messages/{whole['sid']}", token)).json
    sent = await sandbox.send(created["token"], {"To": THEIRS, "Body": "hi"})
    assert changed.json["propertyValue"] == "false"
    assert (await sandbox.platform("GET", f"{path}/{entry['id']}")).json == changed.json
    nulls = {name for name, value in whole.items() if value is None}
    assert nulls == {"messaging_service_sid", "price", "error_code", "error_message"}
    assert filtered == {name: value for name, value in whole.items() if name not in nulls}
    assert one == whole
    assert (sent.json["date_sent"], sent.json["status"]) == (None, "queued")


async def test_open_connectors_fact_10_a_row_of_the_log_is_twilios_message_resource(
    sandbox: Sandbox, door: Door
) -> None:
    """A field that Twilio's rows have would be read here for the first time in production."""
    created = await sandbox.provision(door.url)
    await sandbox.platform("PATCH", f"/instances/{created['id']}", NO_FILTER)
    text = await sandbox.text("look", media=["https://example.com/a.png"])

    (row,) = (await sandbox.ask("GET", f"{BASE}/messages", instance(created["token"]))).json

    uri = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{text['sid']}"
    assert row.keys() == set(ROW_FIELDS)
    assert (row["uri"], row["subresource_uris"]) == (f"{uri}.json", {"media": f"{uri}/Media.json"})
    assert (row["num_media"], row["num_segments"]) == ("1", "1")
    assert row["date_created"] == row["date_sent"] == row["date_updated"]


NO_FILTER = {"configuration": {"filter.response.nulls": "false"}}


@pytest.mark.parametrize("body", [{}, TWILIO_V2], ids=["twilio", "twiliov2"])
async def test_open_connectors_fact_17_docs_are_swagger_with_paths_definitions_and_where_to_ask(
    sandbox: Sandbox, body: dict[str, Any]
) -> None:
    """A description that a client can't be made from would pass for one."""
    created = await sandbox.provision(**body)

    answer = await sandbox.platform("GET", f"/instances/{created['id']}/docs")

    docs = answer.json
    assert answer.headers[INSTANCE] == str(created["id"])
    assert docs["swagger"] == "2.0"
    assert f"{docs['schemes'][0]}://{docs['host']}" == sandbox.url
    address = sandbox.url + docs["basePath"] + "/messages"
    async with sandbox.http.get(
        address, headers={"Authorization": instance(created["token"])}
    ) as listed:
        assert (listed.status, await listed.json()) == (200, [])
    assert docs["paths"].keys() >= {"/messages", "/messages/{id}", "/messages/{id}/media", "/ping"}
    references = [each.removeprefix("#/definitions/") for each in _references(docs)]
    assert references
    assert set(references) <= docs["definitions"].keys()
    for path in docs["paths"].values():
        for operation in path.values():
            assert operation["operationId"]
            assert operation["summary"]
            assert {"200", "400", "401", "404"} <= operation["responses"].keys()
            for parameter in operation["parameters"]:
                assert {"name", "in", "description", "required"} <= parameter.keys()


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if "$ref" in part else []
        return own + [each for value in part.values() for each in _references(value)]
    return [each for value in part for each in _references(value)] if isinstance(part, list) else []


@pytest.mark.parametrize("path", ["/ping", "/hubs/messaging/ping"])
async def test_open_connectors_fact_10_ping_tells_the_time_and_the_connector(
    sandbox: Sandbox, path: str
) -> None:
    """A check of the instance would be written against another answer than the platform's."""
    created = await sandbox.provision()

    answer = await sandbox.ask("GET", BASE + path, instance(created["token"]))

    assert (answer.status, answer.json["endpoint"]) == (200, "twilio")
    assert datetime.fromisoformat(answer.json["dateTime"]).tzinfo
    assert answer.headers[INSTANCE] == str(created["id"])


async def test_open_connectors_fact_19_the_older_model_is_answered_with_a_number_of_its_own(
    sandbox: Sandbox,
) -> None:
    """A number would be taken for Twilio's sid, and the reply looked for in vain."""
    created = await sandbox.provision()
    body = {"to": THEIRS, "from": OURS, "subject": "s", "message": "hi"}
    sent = (await sandbox.send(created["token"], body)).json
    path = f"{BASE}/hubs/messaging/messages"

    (row,) = (await sandbox.ask("GET", path, instance(created["token"]))).json
    one = await sandbox.ask("GET", f"{path}/{sent['id']}", instance(created["token"]))

    assert isinstance(sent["id"], int)
    assert "sid" not in sent
    assert (sent["message"], sent["subject"], sent["direction"]) == ("hi", "s", "outbound-api")
    assert row["sid"].startswith("SM")
    assert one.json == row


async def test_open_connectors_fact_19_a_status_callback_of_the_messages_own_is_called(
    sandbox: Sandbox, door: Door
) -> None:
    """A reply's reports could not be tried with the connector that takes an address for them."""
    created = await sandbox.provision()
    body = {"To": THEIRS, "Body": "hi", "StatusCallback": f"{door.url}/status?key=1"}

    sent = (await sandbox.send(created["token"], body)).json
    await door.wait_for(2)

    assert [each.target for each in door.callbacks] == ["/status?key=1"] * 2
    assert b"MessageStatus=delivered" in door.callbacks[1].body
    assert sent["sid"].encode() in door.callbacks[1].body


@pytest.mark.parametrize(
    ("path", "body", "missing"),
    [
        ("/instances", {}, "element.key"),
        ("/instances", {"element": {"key": "twilio"}}, "name"),
        ("/formulas", {}, "name"),
        ("/organizations/objects/texts/definitions", {}, "fields"),
        ("/organizations/elements/7/transformations/texts", {}, "vendorName, fields"),
        ("/organizations/elements/7/transformations/texts", {"vendorName": "x"}, "fields"),
    ],
)
async def test_a_missing_field_is_an_error_that_names_it(
    sandbox: Sandbox, path: str, body: dict[str, Any], missing: str
) -> None:
    """What is to be mended would have to be guessed."""
    answer = await sandbox.platform("POST", path, body)

    assert answer.status == 400
    assert answer.json["message"].partition(": ")[2] == missing
