"""The platform's /instances, as documented."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.sandbox.pieces import (
    AUTH_TOKEN,
    BASE,
    ORGANIZATION,
    OURS,
    PREFIX,
    USER,
    Sandbox,
    instance,
    wanted,
)

pytestmark = pytest.mark.anyio

HEADER = "elements-element-instance-id"


async def test_an_instance_is_created_and_described_with_its_token(sandbox: Sandbox) -> None:
    """Provisioning would be tested against answers the platform does not give."""
    answer = await sandbox.platform("POST", "/instances", wanted("http://127.0.0.1:9/"))

    described = answer.json
    assert answer.status == 200
    assert isinstance(described["id"], int)
    assert answer.headers[HEADER] == str(described["id"])
    assert (described["element"]["id"], described["element"]["key"]) == (7, "twilio")
    assert len(described["token"]) == 44
    assert (described["valid"], described["disabled"]) == (True, False)
    assert described["tags"] == ["parley"]
    assert {"provisionInteractions", "cachingEnabled", "cacheTimeToLive"} <= described.keys()


@pytest.mark.parametrize("entry", ["protocol", "account", "sender", "token", "callback.url"])
@pytest.mark.parametrize("value", [None, "", "  "], ids=["absent", "empty", "blank"])
async def test_open_connectors_fact_03_a_missing_required_entry_is_named(
    sandbox: Sandbox, entry: str, value: str | None
) -> None:
    """A typing error in instance.json would go through here and fail in production."""
    body = wanted("http://127.0.0.1:9/")
    del body["configuration"][PREFIX + entry]
    if value is not None:
        body["configuration"][PREFIX + entry] = value

    answer = await sandbox.platform("POST", "/instances", body)

    assert answer.status == 400
    assert answer.json["message"].endswith(f": {PREFIX}{entry}")
    assert (await sandbox.records())["instances_created"] == 0


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"element": {"key": "twilioo"}}, 404),
        ({"element": None}, 400),
        ({"element": "twilio"}, 400),
        ({"configuration": []}, 400),
        ({"tags": "parley"}, 400),
        ({"name": ""}, 400),
    ],
    ids=["unknown key", "no element", "element no object", "list", "tags no list", "no name"],
)
async def test_a_malformed_body_is_refused_as_the_platform_does(
    sandbox: Sandbox, change: dict[str, Any], status: int
) -> None:
    """A malformed template would look like a fault of the sandbox's."""
    body = wanted("http://127.0.0.1:9/") | change

    answer = await sandbox.platform("POST", "/instances", body)

    assert answer.status == status
    assert answer.json.keys() == {"requestId", "message"}


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer abc",
        f"User {USER}",
        f"User {USER}, Organization wrong",
        f"User wrong, Organization {ORGANIZATION}",
        f"Organization {ORGANIZATION}",
        f"User {ORGANIZATION}, Organization {USER}",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", ""), ("GET", ""), ("GET", "/1234"), ("DELETE", "/1234")]
)
async def test_open_connectors_fact_02_wrong_secrets_are_401_everywhere(
    sandbox: Sandbox, authorization: str, method: str, path: str
) -> None:
    """A wrong secret would only be noticed in production."""
    await sandbox.provision()

    answer = await sandbox.ask(method, f"{BASE}/instances{path}", authorization, {})

    assert answer.status == 401
    assert answer.json["requestId"]
    assert len((await sandbox.records())["instances"]) == 1


async def test_open_connectors_fact_05_secrets_read_back_masked_and_the_token_as_it_is(
    sandbox: Sandbox,
) -> None:
    """Who writes what it read destroys a secret; with an empty Redis the token is found again."""
    created = await sandbox.provision()

    one = await sandbox.platform("GET", f"/instances/{created['id']}")
    listed = await sandbox.platform("GET", "/instances")

    for described in (created, one.json, *listed.json):
        assert described["configuration"][f"{PREFIX}token"] == "********"
        assert described["configuration"][f"{PREFIX}sender"] == OURS
    assert one.json["token"] == created["token"]
    assert AUTH_TOKEN not in str(await sandbox.records())
    assert created["token"] not in str(await sandbox.records())


async def test_instances_are_listed_by_tag(sandbox: Sandbox) -> None:
    """Adopting by tag would adopt somebody else's instance."""
    ours = await sandbox.provision(tags=["parley", "blue"])
    await sandbox.provision(tags=["other"])

    async def ids(query: str) -> list[int]:
        answer = await sandbox.platform("GET", f"/instances{query}")
        return [each["id"] for each in answer.json]

    assert await ids("?tags[]=parley") == [ours["id"]]
    assert await ids("?tags[]=parley&tags[]=blue") == [ours["id"]]
    assert len(await ids("")) == 2


async def test_open_connectors_fact_06_html_is_stripped_from_names_and_tags(
    sandbox: Sandbox,
) -> None:
    """Looking for an instance by the tag we sent would never find it."""
    created = await sandbox.provision(name="my <b>parley</b>", tags=["<i>parley</i>"])
    path = f"/instances/{created['id']}"
    changed = await sandbox.platform("PUT", path, {"name": "<u>x</u>", "tags": ["<p>y"]})

    assert (created["name"], created["tags"]) == ("my parley", ["parley"])
    assert (changed.json["name"], changed.json["tags"]) == ("x", ["y"])


async def test_open_connectors_fact_04_put_changes_what_it_names_and_nothing_else(
    sandbox: Sandbox,
) -> None:
    """A repair of the callback URL would wipe the rest of the configuration."""
    created = await sandbox.provision()
    change = {"configuration": {f"{PREFIX}callback.url": "http://127.0.0.1:8/"}}

    answer = await sandbox.platform("PUT", f"/instances/{created['id']}", change)

    expected = created["configuration"] | change["configuration"]
    assert answer.json["configuration"] == expected
    assert (answer.json["name"], answer.json["tags"]) == ("parley", ["parley"])


async def test_open_connectors_fact_04_patch_replaces_the_tags(sandbox: Sandbox) -> None:
    """A documented way to tag an instance would be missing."""
    created = await sandbox.provision()

    answer = await sandbox.platform("PATCH", f"/instances/{created['id']}", {"tags": ["a", "b"]})

    assert answer.json["tags"] == ["a", "b"]


async def test_open_connectors_fact_04_one_configuration_entry_is_read_and_changed_by_its_id(
    sandbox: Sandbox,
) -> None:
    """Repairing one entry would be untestable."""
    created = await sandbox.provision()
    path = f"/instances/{created['id']}/configuration"
    entries = {each["key"]: each for each in (await sandbox.platform("GET", path)).json}
    url = entries[f"{PREFIX}callback.url"]

    changed = await sandbox.platform("PATCH", f"{path}/{url['id']}", {"propertyValue": "http://b"})
    unknown = await sandbox.platform("PATCH", f"{path}/1", {"propertyValue": "x"})

    assert entries[f"{PREFIX}token"]["propertyValue"] == "********"
    assert changed.json == url | {"propertyValue": "http://b"}
    assert (await sandbox.records())["instances"][0]["callback_url"] == "http://b"
    assert unknown.status == 404


async def test_open_connectors_fact_07_a_deleted_instance_is_404_and_its_token_401(
    sandbox: Sandbox,
) -> None:
    """Healing would be tested against the wrong signs of a deletion."""
    created = await sandbox.provision()
    path = f"/instances/{created['id']}"

    assert (await sandbox.platform("DELETE", path)).status == 200
    assert (await sandbox.platform("GET", path)).status == 404
    assert (await sandbox.platform("DELETE", path)).status == 404
    assert (await sandbox.send(created["token"])).status == 401


async def test_open_connectors_fact_07_a_disabled_instance_is_403_until_it_is_enabled(
    sandbox: Sandbox,
) -> None:
    """Healing would be tested against the wrong signs of a disabled instance."""
    created = await sandbox.provision()
    path = f"/instances/{created['id']}/enabled"

    disabled = await sandbox.platform("DELETE", path)
    refused = await sandbox.send(created["token"])
    enabled = await sandbox.platform("PUT", path)
    accepted = await sandbox.send(created["token"])

    assert (disabled.json["disabled"], enabled.json["disabled"]) == (True, False)
    assert (refused.status, accepted.status) == (403, 200)
    assert refused.headers[HEADER] == str(created["id"])


async def test_open_connectors_fact_03_post_instances_is_not_idempotent(sandbox: Sandbox) -> None:
    """Ten replicas that create ten instances would pass for one."""
    first, second = await sandbox.provision(), await sandbox.provision()

    assert first["id"] != second["id"]
    assert first["token"] != second["token"]
    assert (await sandbox.records())["instances_created"] == 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/instances/none", 404),
        ("DELETE", "/elements/twilio/instances", 405),
        ("POST", "/instances/1234", 405),
        ("PUT", "/hubs/messaging/messages", 405),
    ],
)
async def test_errors_of_the_path_are_json_with_a_request_id(
    sandbox: Sandbox, method: str, path: str, status: int
) -> None:
    """Reading the platform's errors would be tested against a framework's plain text."""
    answer = await sandbox.platform(method, path)

    assert answer.status == status
    assert answer.json.keys() == {"requestId", "message"}


async def test_open_connectors_fact_01_a_body_that_is_no_json_is_told_apart_by_its_status(
    sandbox: Sandbox,
) -> None:
    """A wrong header would go unnoticed until production."""
    path = f"{BASE}/instances"
    headers = {"Authorization": instance("x"), "Content-Type": "text/plain"}
    text = await sandbox.ask("POST", path, headers["Authorization"], data=b"{}", headers=headers)
    headers["Content-Type"] = "application/json"
    broken = await sandbox.ask("POST", path, headers["Authorization"], data=b"{", headers=headers)
    list_ = await sandbox.platform("POST", "/instances", [])

    assert (text.status, broken.status, list_.status) == (415, 400, 400)
