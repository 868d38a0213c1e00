"""A setup as a JSON file: instance.json with values, and how to reach Open Connectors. Pure.

    {
      "openConnectors": {"baseUrl": "...", "userSecret": "...", "organizationSecret": "..."},
      "element": {"key": "twilio"},
      "configuration": {"messaging.sms.twilio.account": "AC...", ...},
      "tags": ["parley"],
      "name": "Parley"
    }

What is left out stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from service.core.open_connectors.elements import ELEMENTS, EVENTS, TWILIO
from service.errors import UsageError

ACCESS = {
    "baseUrl": "open_connectors_base_url",
    "userSecret": "open_connectors_user_secret",
    "organizationSecret": "open_connectors_organization_secret",
}
"""Names in `openConnectors`, and the setting that each is."""

PARTS = ("openConnectors", "element", "configuration", "tags", "name")


def read_setup(text: str, place: str) -> dict[str, str]:
    """Return the values of a setup by the names of their settings' fields.

    place: the file, for errors. Raises UsageError for what is no such file, without quoting values.
    """
    try:
        body = json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        raise UsageError(f"{place}:{error.lineno}: {error.msg}") from error
    body = _object(body, place, "the file")
    if strange := [each for each in body if each not in PARTS]:
        raise UsageError(f"{place}: {strange[0]}: is none of {', '.join(PARTS)}")
    values = _access(_object(body.get("openConnectors", {}), place, "openConnectors"), place)
    key = _object(body.get("element", {}), place, "element").get("key")
    if key is not None:
        values["connector_element"] = _text(key, place, "element.key")
    configuration = _object(body.get("configuration", {}), place, "configuration")
    values |= _entries(configuration, values.get("connector_element", TWILIO.key), place)
    if "name" in body:
        values["instance_name"] = _text(body["name"], place, "name")
    tags = body.get("tags", [])
    if not isinstance(tags, list) or len(tags) > 1:
        raise UsageError(f'{place}: tags: is a list of one tag, such as ["parley"]')
    if tags:
        values["instance_tag"] = _text(tags[0], place, "tags")
    return values


def _access(said: Mapping[str, Any], place: str) -> dict[str, str]:
    for name in said:
        if name not in ACCESS:
            raise UsageError(f"{place}: openConnectors.{name}: is none of {', '.join(ACCESS)}")
    return {
        ACCESS[name]: _text(value, place, f"openConnectors.{name}") for name, value in said.items()
    }


def _entries(configuration: Mapping[str, Any], key: str, place: str) -> dict[str, str]:
    """Read the instance's configuration; what Parley fills itself is left alone."""
    element = ELEMENTS.get(key.strip().lower(), TWILIO)
    fields = {
        entry: setting.lower()
        for entry, setting in element.required.items()
        if setting and setting != "PUBLIC_URL"
    }
    fields[f"{EVENTS}signature.key"] = "event_signature_key"
    ours = {
        *element.required,
        f"{EVENTS}enabled",
        "event.vendor.type",
        "event.poller.refresh_interval",
    }
    for entry in configuration:
        if entry not in fields and entry not in ours:
            raise UsageError(
                f"{place}: configuration: {entry}: is no entry of {element.key} that can be typed; "
                "one of your own belongs into instance.json in CONFIG_DIR"
            )
    return {
        fields[entry]: _text(value, place, entry)
        for entry, value in configuration.items()
        if entry in fields
    }


def _object(part: Any, place: str, name: str) -> Mapping[str, Any]:
    if not isinstance(part, dict):
        raise UsageError(f"{place}: {name}: must be a JSON object, {{...}}")
    return part


def _text(value: Any, place: str, name: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{place}: {name}: must be text in quotes")
    if "${" in value:
        raise UsageError(f"{place}: {name}: is a placeholder; write the value")
    return value
