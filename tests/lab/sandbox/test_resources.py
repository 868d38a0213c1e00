"""Common resources: definitions, mappings, and what becomes of the message log by them."""

from __future__ import annotations

from typing import Any

import pytest

from service.lab.sandbox.mappings import map_row
from service.lab.sandbox.resources import FIELDS_LIMIT
from tests.lab.sandbox.pieces import BASE, OURS, THEIRS, Answer, Sandbox, instance

pytestmark = pytest.mark.anyio

DEFINITION = {"fields": [{"path": "id", "type": "string"}, {"path": "text", "type": "string"}]}
MAPPING = {
    "vendorName": "messages",
    "fields": [{"path": "id", "vendorPath": "sid"}, {"path": "text", "vendorPath": "body"}],
}
ONLY_ID = {"vendorName": "messages", "fields": [{"path": "id", "vendorPath": "sid"}]}


async def rows(sandbox: Sandbox, token: str, name: str) -> Answer:
    """List a resource of an instance."""
    return await sandbox.ask("GET", f"{BASE}/hubs/messaging/{name}", instance(token))


def levels(created: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Name the paths of definitions and of mappings at every level."""
    one = f"/instances/{created['id']}"
    return {
        "organization, by key": ("/organizations", "/organizations/elements/twilio"),
        "organization, by number": ("/organizations", "/organizations/elements/7"),
        "instance": (one, one),
    }


@pytest.mark.parametrize("level", ["organization, by key", "organization, by number", "instance"])
async def test_open_connectors_fact_15_a_resource_is_defined_mapped_listed_and_removed(
    sandbox: Sandbox, level: str
) -> None:
    """Whoever maps Twilio's messages to names of his own could not try it."""
    created = await sandbox.provision()
    defined, mapped = levels(created)[level]
    defined, mapped = f"{defined}/objects/texts/definitions", f"{mapped}/transformations/texts"
    sent = (await sandbox.send(created["token"])).json
    before = await rows(sandbox, created["token"], "texts")

    made = await sandbox.platform("POST", defined, DEFINITION)
    mapping = await sandbox.platform("POST", mapped, MAPPING)
    listed = await rows(sandbox, created["token"], "texts")

    assert before.status == 404
    assert [(each["path"], each["type"]) for each in made.json["fields"]] == [
        ("id", "string"),
        ("text", "string"),
    ]
    assert (await sandbox.platform("GET", defined)).json == made.json
    assert (mapping.json["vendorName"], mapping.json["objectName"]) == ("messages", "texts")
    assert {each["level"] for each in mapping.json["fields"]} == {level.partition(",")[0]}
    assert {each["type"] for each in mapping.json["fields"]} == {"string"}
    assert (await sandbox.platform("GET", mapped)).json == mapping.json
    assert listed.json == [{"id": sent["sid"], "text": "hi"}]
    assert listed.headers["elements-returned-count"] == "1"
    changed = await sandbox.platform("PUT", mapped, ONLY_ID)
    assert changed.status == 200
    assert (await rows(sandbox, created["token"], "texts")).json == [{"id": sent["sid"]}]
    assert (await sandbox.platform("POST", mapped, MAPPING)).status == 409
    for path in (mapped, defined):
        assert (await sandbox.platform("DELETE", path)).status == 200
        assert (await sandbox.platform("GET", path)).status == 404
        assert (await sandbox.platform("DELETE", path)).status == 404
    assert (await rows(sandbox, created["token"], "texts")).status == 404


@pytest.mark.parametrize("path", ["/hubs/messaging/messages", "/messages"])
async def test_open_connectors_fact_15_the_vendors_own_name_mapped_changes_the_log(
    sandbox: Sandbox, path: str
) -> None:
    """A log without from, to and direction would be met first when a reply is in doubt."""
    created = await sandbox.provision()
    sent = (await sandbox.send(created["token"])).json
    mapped = f"/instances/{created['id']}/transformations/messages"
    token = instance(created["token"])
    assert (await sandbox.platform("POST", mapped, ONLY_ID)).status == 200

    log = await sandbox.ask("GET", BASE + path, token)
    one = await sandbox.ask("GET", f"{BASE}{path}/{sent['sid']}", token)

    assert log.json == [{"id": sent["sid"]}]
    assert one.json == {"id": sent["sid"]}
    where = await sandbox.ask("GET", f"{BASE}{path}?where=to='%2B1'", token)
    assert where.json == []
    # Sending goes on: only what is read is mapped.
    assert (await sandbox.send(created["token"])).json["sid"]
    await sandbox.platform("DELETE", mapped)
    assert "direction" in (await sandbox.ask("GET", BASE + path, token)).json[0]


async def test_open_connectors_fact_15_an_instances_mapping_goes_before_its_connectors(
    sandbox: Sandbox,
) -> None:
    """Which of two mappings holds would be found out in production."""
    created = await sandbox.provision()
    other = await sandbox.provision(tags=["other"])
    await sandbox.send(created["token"])
    own = f"/instances/{created['id']}/transformations/messages"
    await sandbox.platform(
        "POST", "/organizations/elements/twilio/transformations/messages", MAPPING
    )
    await sandbox.platform("POST", own, ONLY_ID)

    (mine,) = (await rows(sandbox, created["token"], "messages")).json
    (theirs,) = (await rows(sandbox, other["token"], "messages")).json

    assert (mine.keys(), theirs.keys()) == ({"id"}, {"id", "text"})
    v2 = await sandbox.platform("GET", "/organizations/elements/6042/transformations/messages")
    assert v2.status == 404


async def test_a_mapping_ends_with_its_instance(sandbox: Sandbox) -> None:
    """Mappings of instances that are gone would pile up."""
    created = await sandbox.provision()
    path = f"/instances/{created['id']}"
    await sandbox.platform("POST", f"{path}/transformations/messages", ONLY_ID)
    await sandbox.platform("POST", f"{path}/objects/texts/definitions", DEFINITION)
    await sandbox.platform("DELETE", path)

    for of in ("transformations/messages", "objects/texts/definitions"):
        answer = await sandbox.platform("GET", f"{path}/{of}")
        assert answer.status == 404


async def test_definitions_of_the_organization_are_listed(sandbox: Sandbox) -> None:
    """What somebody mapped could not be found out without its name."""
    created = await sandbox.provision()
    await sandbox.platform("POST", "/organizations/objects/texts/definitions", DEFINITION)
    await sandbox.platform("POST", f"/instances/{created['id']}/objects/x/definitions", DEFINITION)

    (listed,) = (await sandbox.platform("GET", "/common-resources")).json

    assert listed["name"] == "texts"
    assert [each["associatedLevel"] for each in listed["fields"]] == ["organization"] * 2


async def test_what_is_defined_and_mapped_is_listed_by_name_and_404_without_any(
    sandbox: Sandbox,
) -> None:
    """Whoever made a mapping in the platform's console could not see it from here."""
    created = await sandbox.provision()
    one = f"/instances/{created['id']}"
    lists = {
        "/organizations/objects/definitions": ("/organizations/objects/texts/definitions", None),
        f"{one}/objects/definitions": (f"{one}/objects/own/definitions", None),
        f"{one}/transformations": (f"{one}/transformations/texts", MAPPING),
        "/organizations/elements/7/transformations": (
            "/organizations/elements/twilio/transformations/rows",
            MAPPING,
        ),
    }
    for path, (made, body) in lists.items():
        assert (await sandbox.platform("GET", path)).status == 404
        kept = (await sandbox.platform("POST", made, body or DEFINITION)).json
        listed = (await sandbox.platform("GET", path)).json
        level = listed.pop("level")
        assert list(listed.values()) == [kept]
        assert level == ("instance" if path.startswith(one) else "organization")
        assert (await sandbox.ask("GET", BASE + path, "User x, Organization y")).status == 401


async def test_open_connectors_fact_17_docs_describe_what_is_mapped(sandbox: Sandbox) -> None:
    """An instance's description would lack resources that it has."""
    created = await sandbox.provision()
    path = f"/instances/{created['id']}"
    await sandbox.platform("POST", f"{path}/transformations/texts", MAPPING)

    docs = (await sandbox.platform("GET", f"{path}/docs")).json

    assert docs["definitions"]["texts"]["properties"].keys() == {"id", "text"}
    found = docs["paths"]["/texts"]["get"]["responses"]["200"]["schema"]
    assert found["items"]["$ref"] == "#/definitions/texts"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"vendorName": "messages", "fields": "x"}, 400),
        ({"vendorName": "messages", "fields": ["x"]}, 400),
        ({"vendorName": "messages", "fields": [{"vendorPath": "sid"}]}, 400),
        ({"vendorName": "messages", "fields": [{"path": ["id"]}]}, 400),
        ({"vendorName": "messages", "fields": [{"path": "x" * 201}]}, 400),
        ({"vendorName": 7, "fields": [{"path": "id"}]}, 400),
        ({"vendorName": "messages", "fields": [{"path": "id"}] * (FIELDS_LIMIT + 1)}, 429),
    ],
    ids=["no list", "no objects", "no path", "path no text", "long path", "vendor", "many"],
)
async def test_a_mapping_that_makes_no_sense_is_refused(
    sandbox: Sandbox, body: dict[str, Any], status: int
) -> None:
    """A mistake in a mapping would make a log of empty rows."""
    answer = await sandbox.platform("POST", "/organizations/elements/7/transformations/x", body)

    assert answer.status == status
    assert answer.json["message"]


async def test_a_mapping_is_for_whoever_has_the_secrets(sandbox: Sandbox) -> None:
    """Anybody could blind the service by mapping its log."""
    created = await sandbox.provision()
    path = f"{BASE}/instances/{created['id']}/transformations/messages"

    assert (await sandbox.ask("POST", path, "User x, Organization y", ONLY_ID)).status == 401
    assert (await sandbox.platform("POST", "/instances/1/transformations/x", ONLY_ID)).status == 404
    unknown = await sandbox.platform("POST", "/organizations/elements/9/transformations/x", ONLY_ID)
    assert unknown.status == 404


async def test_a_mapping_of_another_vendor_resource_has_no_rows(sandbox: Sandbox) -> None:
    """A mistyped vendorName would show somebody else's rows."""
    created = await sandbox.provision()
    await sandbox.send(created["token"])
    path = f"/instances/{created['id']}/transformations/texts"
    await sandbox.platform("POST", path, MAPPING | {"vendorName": "message"})

    answer = await rows(sandbox, created["token"], "texts")

    assert answer.status == 404
    assert answer.headers["elements-element-instance-id"] == str(created["id"])


@pytest.mark.parametrize(
    ("mapping", "row"),
    [
        ({"fields": [{"path": "a.b", "vendorPath": "sid"}]}, {"a": {"b": "SM1"}}),
        (
            {"fields": [{"path": "a.b", "vendorPath": "sid"}, {"path": "a.c", "vendorPath": "to"}]},
            {"a": {"b": "SM1", "c": OURS}},
        ),
        ({"fields": [{"path": "m", "vendorPath": "uris.media"}]}, {"m": "/media"}),
        ({"fields": [{"path": "m", "vendorPath": "uris.none.more"}]}, {"m": None}),
        ({"fields": [{"path": "m"}]}, {}),
        (
            {
                "fields": [{"path": "to", "vendorPath": "from"}],
                "configuration": [{"type": "passThrough", "properties": {"fromVendor": True}}],
            },
            {"sid": "SM1", "to": THEIRS, "from": THEIRS, "uris": {"media": "/media"}},
        ),
        ({"fields": [], "configuration": [{"type": "passThrough"}]}, {}),
    ],
    ids=[
        "nested",
        "two in one",
        "from within",
        "from nowhere",
        "no source",
        "the rest too",
        "none",
    ],
)
def test_a_row_is_mapped_field_by_field(
    mapping: dict[str, list[dict[str, Any]]], row: dict[str, Any]
) -> None:
    """A mapped log would have other rows than the platform's."""
    vendor = {"sid": "SM1", "to": OURS, "from": THEIRS, "uris": {"media": "/media"}}

    assert map_row(vendor, mapping) == row
