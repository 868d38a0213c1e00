"""How the platform behaves until it is told otherwise: what its documentation leaves open."""

from __future__ import annotations

from typing import Literal

import msgspec


class Switches(msgspec.Struct, forbid_unknown_fields=True):
    """Standing behaviours, all off at first.

    tag_objects: tags read back as `[{id, name}]`, not as texts.
    no_message_log: GET /messages is answered 405, as by a connector that cannot list them.
    secrets_revoked: the user's and the organization's secrets are wrong from now on.
    relay: the platform relays texts as events of its own, signed with the instance's
        event.notification.signature.key: instead of Twilio's form, or both, the event first.
    status_callbacks: Twilio reports on every reply, at last that it was delivered or undelivered.
    """

    tag_objects: bool = False
    no_message_log: bool = False
    secrets_revoked: bool = False
    relay: Literal["off", "instead", "both"] = "off"
    status_callbacks: Literal["off", "delivered", "undelivered"] = "off"
