"""The connectors Parley can be provisioned on, "twilio" and "twiliov2": their entries. Pure.

Source: SAP Open Connectors' documentation of both ("Authenticate Through API").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "messaging.sms.twilio."
EVENTS = "event.notification."

SECRET_ENTRIES = frozenset({f"{PREFIX}token", "password", f"{EVENTS}signature.key"})
"""Configuration entries of either whose values are never shown."""

PRIVATE_WORDS = "secret|passw|passphrase|pwd|token|key|credential"
"""What the name of a secret says, in entries that an operator adds to instance.json."""

NAMES_A_SECRET = re.compile(PRIVATE_WORDS, re.IGNORECASE)

HOLDS_A_SECRET = re.compile(rf"(?:{PRIVATE_WORDS})[\w-]*[\"']?\s*[=:]", re.IGNORECASE)
"""A query such as `?api_key=...` or JSON such as `{"clientSecret": ...}`."""


def is_secret(entry: str, value: str, known: Iterable[str] = ()) -> bool:
    """Tell whether an entry's value must not be shown: by its name, by its form, by what it holds.

    known: secrets that are in no shown value, such as the auth token in an entry of another name.
    """
    return bool(
        entry in SECRET_ENTRIES
        or NAMES_A_SECRET.search(entry)
        or HOLDS_A_SECRET.search(value)
        or any(secret and secret in value for secret in known)
    )


@dataclass(frozen=True, slots=True)
class Element:
    """A connector of the catalogue.

    required: entries without which nothing works, and the setting that fills each, "" for none.
    callback_url: the entry that says where texts are delivered.
    calls_directly: Twilio itself may be told of that URL, so it can carry Twilio's overrides.
    """

    key: str
    required: Mapping[str, str]
    callback_url: str
    calls_directly: bool


TWILIO = Element(
    key="twilio",
    required={
        f"{PREFIX}protocol": "",
        f"{PREFIX}account": "TWILIO_ACCOUNT_SID",
        f"{PREFIX}sender": "TWILIO_SENDER",
        f"{PREFIX}token": "TWILIO_AUTH_TOKEN",
        f"{PREFIX}callback.url": "PUBLIC_URL",
    },
    callback_url=f"{PREFIX}callback.url",
    calls_directly=True,
)

TWILIO_V2 = Element(
    key="twiliov2",
    required={
        "username": "TWILIO_ACCOUNT_SID",
        "password": "TWILIO_AUTH_TOKEN",
        f"{EVENTS}enabled": "",
        f"{EVENTS}callback.url": "PUBLIC_URL",
    },
    callback_url=f"{EVENTS}callback.url",
    calls_directly=False,
)

ELEMENTS: Mapping[str, Element] = {each.key: each for each in (TWILIO, TWILIO_V2)}


def element_of(body: Mapping[str, Any]) -> Element:
    """Return the connector a POST /instances body is for.

    A key that is none of ours is a copy of "twilio" that an organization made: same entries.
    """
    named = body.get("element")
    key = named.get("key") if isinstance(named, dict) else None
    return ELEMENTS.get(key, TWILIO) if isinstance(key, str) else TWILIO
