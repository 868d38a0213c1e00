"""The connectors the sandbox has, "twilio" and "twiliov2": their entries and fields. Pure.

Source: SAP Open Connectors' documentation of both. The signature key is masked here as the other
secrets are; whether the platform does so is not documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "messaging.sms.twilio."
EVENTS = "event.notification."
ENABLED = f"{EVENTS}enabled"
SIGNATURE_KEY = f"{EVENTS}signature.key"
FILTER_NULLS = "filter.response.nulls"
REFRESH_INTERVAL = "event.poller.refresh_interval"

DEFAULTS = {
    FILTER_NULLS: "true",
    ENABLED: "false",
    "event.vendor.type": "polling",
    REFRESH_INTERVAL: "15",
}
"""Entries every instance has, whether or not it was made with them. The interval is in minutes."""

NUMBER_OF_ACCOUNT = "+15005550006"
"""Texts go to it where no entry names a sender: Twilio's own number for tests."""

TWILIO_FIELDS = {
    "To": "string",
    "From": "string",
    "Body": "string",
    "MediaUrl": "array",
    "StatusCallback": "string",
    "MessagingServiceSid": "string",
}
HUB_FIELDS = {"to": "string", "from": "string", "subject": "string", "message": "string"}
"""Fields of a message to send: as Twilio names them, and in the older model of the hub."""


@dataclass(frozen=True, slots=True)
class Element:
    """A connector of the catalogue: which entry holds what.

    required: entries without which POST /instances is refused. secret: read back masked.
    switched: whether events have to be switched on.
    bodies: the models that POST /messages takes, by name, each with its fields; needed: the fields
        without which it is refused, as far as its description says.
    """

    id: int
    key: str
    name: str
    account: str
    token: str
    sender: str
    callback_url: str
    required: tuple[str, ...]
    secret: frozenset[str]
    switched: bool
    bodies: Mapping[str, Mapping[str, str]]
    needed: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """Describe it as instances name it."""
        return {
            "id": self.id,
            "name": self.name,
            "key": self.key,
            "hub": "messaging",
            "active": True,
            "deleted": False,
        }


TWILIO = Element(
    id=7,
    key="twilio",
    name="Twilio SMS",
    account=f"{PREFIX}account",
    token=f"{PREFIX}token",
    sender=f"{PREFIX}sender",
    callback_url=f"{PREFIX}callback.url",
    required=tuple(
        f"{PREFIX}{name}" for name in ("protocol", "account", "sender", "token", "callback.url")
    ),
    secret=frozenset({f"{PREFIX}token", SIGNATURE_KEY}),
    switched=False,
    # Which of the two the real one takes is not documented (unverified): here both do, so that
    # no field of either can be required.
    bodies={"twilioMessage": TWILIO_FIELDS, "hubMessage": HUB_FIELDS},
    needed=(),
)

TWILIO_V2 = Element(
    id=6042,
    key="twiliov2",
    name="Twilio",
    account="username",
    token="password",  # noqa: S106  (the entry's name)
    sender=f"{PREFIX}sender",
    callback_url=f"{EVENTS}callback.url",
    required=("username", "password"),
    secret=frozenset({"password", SIGNATURE_KEY}),
    switched=True,
    bodies={"twilioMessage": TWILIO_FIELDS},
    needed=("To", "From"),
)

ELEMENTS = {each.key: each for each in (TWILIO, TWILIO_V2)}


def find_element(key_or_id: str) -> Element | None:
    """Find a connector by its key or its number, as every path takes either; None for none."""
    return next((each for each in ELEMENTS.values() if key_or_id in {each.key, str(each.id)}), None)
