"""Formulas: which of them use an instance, and that its end breaks them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.sandbox.pieces import BASE, Answer, Sandbox

pytestmark = pytest.mark.anyio

TEMPLATE = {
    "name": "texts to tickets",
    "configuration": [
        {"key": "trigger_instance", "name": "Where texts come from", "type": "elementInstance"},
        {"key": "subject", "name": "Subject", "type": "value"},
    ],
}


async def made(
    sandbox: Sandbox, element_instance: int | str, **changes: object
) -> tuple[Any, Answer]:
    """Make a template and an instance of it; returns both."""
    template = (await sandbox.platform("POST", "/formulas", TEMPLATE)).json
    configuration = {"trigger_instance": element_instance, "subject": "a text"}
    body = {"name": "ours", "configuration": configuration} | changes
    path = f"/formulas/{template['id']}/instances"
    return template, await sandbox.platform("POST", path, body)


async def test_open_connectors_fact_16_templates_and_their_instances_come_and_go(
    sandbox: Sandbox,
) -> None:
    """A documented resource would be missing."""
    created = await sandbox.provision()
    template, answer = await made(sandbox, created["id"])
    path = f"/formulas/{template['id']}"
    one = f"{path}/instances/{answer.json['id']}"

    assert template["configuration"] == TEMPLATE["configuration"]
    expected = {"userId", "accountId", "createdDate", "active", "published", "steps", "triggers"}
    assert expected <= template.keys()
    assert answer.status == 200
    assert (answer.json["name"], answer.json["active"]) == ("ours", True)
    assert answer.json["configuration"]["trigger_instance"] == created["id"]
    assert (await sandbox.platform("GET", "/formulas")).json == [template]
    assert (await sandbox.platform("GET", path)).json == template
    assert (await sandbox.platform("GET", f"{path}/instances")).json == [answer.json]
    assert (await sandbox.platform("GET", one)).json == answer.json
    assert (await sandbox.platform("DELETE", f"{one}/active")).json["active"] is False
    assert (await sandbox.platform("PUT", f"{one}/active")).json["active"] is True
    assert (await sandbox.platform("DELETE", one)).status == 200
    assert (await sandbox.platform("GET", one)).status == 404
    assert (await sandbox.platform("DELETE", path)).status == 200
    assert (await sandbox.platform("GET", path)).status == 404


async def test_open_connectors_fact_16_those_that_use_an_instance_are_found(
    sandbox: Sandbox,
) -> None:
    """An operator would not be warned that others depend on what he removes."""
    ours, other = await sandbox.provision(), await sandbox.provision(tags=["other"])
    _, mine = await made(sandbox, ours["id"])
    _, theirs = await made(sandbox, str(other["id"]))

    async def using(query: str) -> list[int]:
        listed = await sandbox.platform("GET", f"/formulas/instances{query}")
        return [each["id"] for each in listed.json]

    assert await using(f"?elementInstanceId={ours['id']}") == [mine.json["id"]]
    assert await using(f"?elementInstanceId={other['id']}") == [theirs.json["id"]]
    assert await using("?elementInstanceId=1") == []
    assert await using("") == [mine.json["id"], theirs.json["id"]]


async def test_open_connectors_fact_16_an_instances_end_breaks_those_that_use_it(
    sandbox: Sandbox,
) -> None:
    """Whoever rotates an instance would not learn what he broke."""
    created, other = await sandbox.provision(), await sandbox.provision(tags=["other"])
    template, mine = await made(sandbox, created["id"])
    _, whole = await made(sandbox, other["id"])
    one = f"/formulas/{template['id']}/instances/{mine.json['id']}"

    await sandbox.platform("DELETE", f"/instances/{created['id']}")

    broken = (await sandbox.platform("GET", one)).json
    assert (broken["active"], broken["valid"]) == (False, False)
    assert "trigger_instance" in broken["reason"]
    (listed,) = (
        await sandbox.platform("GET", f"/formulas/instances?elementInstanceId={created['id']}")
    ).json
    assert listed == broken
    assert (await sandbox.platform("PUT", f"{one}/active")).status == 400
    (unhurt,) = (
        await sandbox.platform("GET", f"/formulas/instances?elementInstanceId={other['id']}")
    ).json
    assert unhurt == whole.json
    assert (unhurt["active"], unhurt["valid"]) == (True, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "Missing required field: name"),
        ({"configuration": {}}, "Missing required fields: trigger_instance, subject"),
        ({"configuration": {"trigger_instance": 1, "subject": "x"}}, "trigger_instance is no"),
        ({"configuration": {"trigger_instance": True, "subject": "x"}}, "trigger_instance is no"),
        ({"configuration": []}, "Missing required fields: trigger_instance, subject"),
        ({"configuration": "x"}, "The field configuration must be an object"),
    ],
    ids=["no name", "no entries", "no such instance", "no number", "empty list", "a text"],
)
async def test_a_formulas_instance_that_makes_no_sense_is_refused(
    sandbox: Sandbox, changes: dict[str, Any], message: str
) -> None:
    """A formula would use nothing, and its instance's removal break nothing."""
    created = await sandbox.provision()

    _, answer = await made(sandbox, created["id"], **changes)

    assert answer.status == 400
    assert answer.json["message"].startswith(message)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"name": "x", "configuration": ["x"]}, 400),
        ({"name": "x", "configuration": [{"key": "a"}]}, 400),
        ({"name": "x", "configuration": [{"key": "a", "name": "a", "type": "value"}] * 2}, 409),
        ({"name": "x", "steps": "x" * 100_001}, 429),
    ],
    ids=["no name", "no objects", "no type", "one key twice", "too long"],
)
async def test_a_template_that_makes_no_sense_is_refused(
    sandbox: Sandbox, body: dict[str, Any], status: int
) -> None:
    """A mistyped template would be taken here and refused in production."""
    answer = await sandbox.platform("POST", "/formulas", body)

    assert answer.status == status
    assert answer.json.keys() == {"requestId", "message"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", ""), ("GET", "/instances"), ("GET", "/1"), ("GET", "/1/instances/1")],
)
async def test_formulas_are_for_whoever_has_the_secrets(
    sandbox: Sandbox, method: str, path: str
) -> None:
    """Anybody could read what is automated with an instance."""
    answer = await sandbox.ask(method, f"{BASE}/formulas{path}", "User x, Organization y", {})

    assert answer.status == 401


async def test_trouble_with_instances_is_none_with_formulas(sandbox: Sandbox) -> None:
    """What becomes of an automation while /instances fails could not be told apart."""
    await sandbox.trouble(status=503, count=-1, where="instances")

    assert (await sandbox.platform("GET", "/formulas/instances")).status == 200
    assert (await sandbox.platform("GET", "/instances")).status == 503
