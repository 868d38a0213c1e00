"""Mapping common resources on the instance, at the real sandbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.core.open_connectors.hub_request import read_request
from service.errors import ConnectorRefused, ConnectorUnreadable, UsageError
from service.operate.common_resources import element_of, list_resources, remove, show
from service.operate.deployment import Deployment
from service.operate.hub_requests import send
from service.operate.instance import open_instance
from service.operate.mapping_drafts import draft, save
from service.settings.loading import load_settings
from tests.connector.pieces import CONFIG, OURS, THEIRS

pytestmark = pytest.mark.anyio

DEFINITION = {"fields": [{"path": "id", "type": "string"}, {"path": "text", "type": "string"}]}
TEXT = f'{{"To": "{THEIRS}", "From": "{OURS}", "Body": "hi"}}'


@pytest.fixture
async def sid(deployment: Deployment) -> str:
    """A text that is in the log."""
    return str((await send(deployment, read_request("POST", "/messages", (), TEXT))).body["sid"])


async def rows(deployment: Deployment, name: str) -> Any:
    """Read a resource with the instance's token."""
    return (await send(deployment, read_request("GET", f"/{name}"))).body


async def test_a_new_resource_is_made_mapped_shown_and_removed(
    deployment: Deployment, sid: str
) -> None:
    """The documentation's next step could not be taken."""
    drafted = await draft(deployment, "texts", {"id": "sid", "text": "body"}, new=True)
    assert drafted.makes is not None
    assert not drafted.replaces
    assert drafted.mapped == {"id": sid, "text": "hi"}
    assert (await list_resources(deployment)).resources == ()  # nothing is saved yet

    await save(deployment, drafted)

    assert await rows(deployment, "texts") == [{"id": sid, "text": "hi"}]
    shown = await show(deployment, "texts")
    assert (shown.row, shown.for_all) == ({"id": sid, "text": "hi"}, False)
    assert shown.resource.fields == {"id": "string", "text": "string"}
    there = await list_resources(deployment)
    assert [each.pairs for each in there.own] == [{"id": "sid", "text": "body"}]
    await remove(deployment, "texts")
    there = await list_resources(deployment)
    assert ([each.name for each in there.resources], there.own) == (["texts"], ())
    await remove(deployment, "texts", definition=True)
    assert (await list_resources(deployment)).resources == ()


async def test_fields_of_a_resource_there_is_are_proposed_by_name(
    deployment: Deployment, platform: Callable[..., Awaitable[Any]], sid: str
) -> None:
    """Each of them would have to be typed."""
    await platform("POST", "/organizations/objects/texts/definitions", DEFINITION)
    drafted = await draft(deployment, "texts", {})

    assert drafted.makes is None
    assert [(each.ours, each.theirs, each.proposed) for each in drafted.pairings] == [
        ("id", "sid", True),
        ("text", "body", True),
    ]
    exact = await draft(deployment, "texts", {"id": "sid"}, propose=False)
    assert exact.unmapped == ("text",)
    left = await draft(deployment, "texts", {"text": ""})
    assert left.mapped == {"id": sid}


async def test_proposals_are_made_without_a_row_as_well(
    deployment: Deployment, platform: Callable[..., Awaitable[Any]]
) -> None:
    """A fresh instance, whose log is empty, could not be mapped with help."""
    await platform("POST", "/organizations/objects/texts/definitions", DEFINITION)
    drafted = await draft(deployment, "texts", {})

    assert drafted.mapped is None
    assert drafted.why_no_row == "messages has no rows yet"
    assert dict(drafted.mapping.pairs) == {"id": "sid", "text": "body"}


async def test_a_mapping_is_changed_and_keeps_the_rest(
    deployment: Deployment, platform: Callable[..., Awaitable[Any]], sid: str
) -> None:
    """Changing one field would lose the others, or be refused with 409."""
    (instance,) = await platform("GET", "/instances")
    path = f"/instances/{instance['id']}/transformations/texts"
    body = {
        "vendorName": "messages",
        "fields": [{"path": "id", "vendorPath": "uri"}, {"path": "text", "vendorPath": "body"}],
        "configuration": [{"type": "passThrough", "properties": {"fromVendor": False}}],
    }
    await platform("POST", path, body)

    drafted = await draft(deployment, "texts", {"id": "sid"})
    assert drafted.replaces
    await save(deployment, drafted)

    kept = await platform("GET", path)
    assert kept["configuration"] == body["configuration"]
    assert await rows(deployment, "texts") == [{"id": sid, "text": "hi"}]


async def test_open_connectors_fact_15_mapping_the_message_log_warns_of_what_it_does(
    deployment: Deployment, sid: str
) -> None:
    """Texts and replies would be lost or doubled for the sake of a column's name."""
    drafted = await draft(deployment, "messages", {"id": "sid"}, new=True)
    assert "is the message log itself" in drafted.warning
    assert 'without "from", "to", "direction", "body"' in drafted.warning
    harmless = await draft(deployment, "texts", {"id": "sid"}, new=True)
    assert harmless.warning == ""

    await save(deployment, drafted)

    # It says the truth: this is what Parley reads.
    async with open_instance(deployment) as (connector, _):
        with pytest.raises(ConnectorUnreadable):
            await connector._log_page(1, 5, None)
    again = await draft(deployment, "messages", {})
    assert again.mapped is None
    assert "is mapped itself" in again.why_no_row
    await remove(deployment, "messages", definition=True)
    assert (await rows(deployment, "messages"))[0]["direction"] == "outbound-api"


async def test_a_mapping_of_every_instance_is_told_and_left_alone(
    deployment: Deployment, platform: Callable[..., Awaitable[Any]], sid: str
) -> None:
    """Removing it would take it from other people's instances."""
    mapping = {"vendorName": "messages", "fields": [{"path": "id", "vendorPath": "sid"}]}
    await platform("POST", "/organizations/elements/twilio/transformations/texts", mapping)

    there = await list_resources(deployment)
    shown = await show(deployment, "texts")

    assert [each.name for each in there.for_all] == ["texts"]
    assert (shown.for_all, shown.row) == (True, {"id": sid})
    with pytest.raises(UsageError, match="every instance of twilio"):
        await remove(deployment, "texts")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"name": "nothing", "said": {}}, "there is texts. --new"),
        ({"name": "nothing", "said": {}, "new": True}, "say the fields"),
        ({"name": "texts", "said": {}, "new": True}, "already"),
        ({"name": "texts", "said": {"txet": "body"}}, "it has id, text"),
        ({"name": "texts", "said": {}, "propose": False}, "say what to map"),
        ({"name": "texts", "said": {}, "vendor": "../x"}, "has a name of"),
        ({"name": "../texts", "said": {}}, "has a name of"),
    ],
)
async def test_what_makes_no_mapping_is_refused(
    deployment: Deployment,
    platform: Callable[..., Awaitable[Any]],
    asked: dict[str, Any],
    says: str,
) -> None:
    """A slip would make a resource of the whole organization."""
    await platform("POST", "/organizations/objects/texts/definitions", DEFINITION)
    with pytest.raises(UsageError, match=says):
        await draft(deployment, **asked)


async def test_what_somebody_else_made_meanwhile_is_not_overwritten(
    deployment: Deployment, sid: str
) -> None:
    """Two who map the same would undo each other's work, unnoticed."""
    drafted = await draft(deployment, "texts", {"id": "sid"}, new=True)
    await save(deployment, drafted)
    with pytest.raises(ConnectorRefused) as caught:
        await save(deployment, drafted)

    assert caught.value.status == 409
    assert caught.value.request_id
    assert "map list" in caught.value.advice


async def test_a_field_the_vendor_has_not_is_named_with_what_may_be_meant(
    deployment: Deployment, sid: str
) -> None:
    """The column would stay empty, and nobody would know why."""
    drafted = await draft(deployment, "texts", {"id": "sid", "at": "DateSent"}, new=True)

    assert drafted.unknown == {"DateSent": "date_sent"}


async def test_what_is_not_mapped_can_neither_be_shown_nor_removed(deployment: Deployment) -> None:
    """A mistyped name would be said to be gone."""
    for act in (show, remove):
        with pytest.raises(UsageError, match="texts"):
            await act(deployment, "texts")
    with pytest.raises(UsageError, match="no such common resource"):
        await remove(deployment, "texts", definition=True)


async def test_a_copy_of_the_connector_has_mappings_of_its_own(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Those of another connector would be shown as ours."""
    for name in ("instance.json", "message.json", "handlers.py"):
        text = (CONFIG / name).read_text().replace('"key": "twilio"', '"key": "our-twilio"')
        (tmp_path / name).write_text(text)
    settings = load_settings(tmp_path, environ)

    assert element_of(settings) == "our-twilio"
