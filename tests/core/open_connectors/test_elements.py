"""The connectors that can be provisioned: what each needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.core.open_connectors import wire
from service.core.open_connectors.elements import ELEMENTS, TWILIO, TWILIO_V2, element_of

CONFIG = Path(__file__).parents[3] / "config"
SHIPPED = {"twilio": "instance.json", "twiliov2": "instance.twiliov2.json"}


def shipped(key: str) -> dict[str, Any]:
    """Read the body of POST /instances that ships for a connector."""
    body: dict[str, Any] = json.loads((CONFIG / SHIPPED[key]).read_text(encoding="utf-8"))
    return body


@pytest.mark.parametrize("key", ELEMENTS)
def test_the_instance_body_that_ships_is_of_its_connector_and_complete(key: str) -> None:
    """A fresh installation with this connector can't provision."""
    body = shipped(key)
    assert element_of(body) is ELEMENTS[key]
    assert wire.missing_entries(body) == []
    for entry in ELEMENTS[key].required:
        lacking = body | {"configuration": {**body["configuration"], entry: " "}}
        (named,) = wire.missing_entries(lacking)
        assert named.startswith(entry)


def test_twiliov2_is_provisioned_as_documented() -> None:
    """Texts never arrive, as the platform was not asked for events."""
    body = shipped("twiliov2")
    assert body["configuration"]["username"] == "${TWILIO_ACCOUNT_SID}"
    assert body["configuration"]["password"] == "${TWILIO_AUTH_TOKEN}"
    assert body["configuration"]["event.notification.enabled"] == "true"
    assert body["configuration"][TWILIO_V2.callback_url] == "${CALLBACK_URL}"
    assert "${TWILIO_AUTH_TOKEN}" in wire.secrets_of(body)


@pytest.mark.parametrize(
    "body",
    [{"element": {"key": "my-twilio"}}, {"element": {}}, {"element": None}, {}, {"element": "x"}],
    ids=["a copy", "no key", "null", "nothing", "another shape"],
)
def test_a_connector_that_is_none_of_ours_is_taken_for_a_copy_of_twilio(
    body: dict[str, Any],
) -> None:
    """Who made a copy of the connector gets no word about what is missing."""
    assert element_of(body) is TWILIO
