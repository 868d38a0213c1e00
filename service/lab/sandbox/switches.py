"""How the platform behaves until it is told otherwise: what its documentation leaves open."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Ceql = Literal["2.164", "2.148", "2.147"]
"""Releases by what their `where` understands: ranges of DateSent; From and To; neither of them."""


class Switches(msgspec.Struct, forbid_unknown_fields=True):
    """Standing behaviours, all off at first.

    tag_objects: tags read back as `[{id, name}]`, not as texts.
    bare_lists: the rows of a list of instances have an empty configuration.
    search_ignored: a search for instances is answered with all of them.
    no_message_log: GET /messages is answered 405, as by a connector that cannot list them.
    secrets_revoked: the user's and the organization's secrets are wrong from now on.
    ceql: how much `where` understands; the rest is 400.
    relay: the platform relays texts as events of its own, signed with the instance's
        event.notification.signature.key: instead of Twilio's form, or both, the event first; or
        polled: nobody calls when a text comes, and one event tells of all there was since the last.
    minute_s: seconds that a minute of polling and of its repetitions lasts.
    status_callbacks: Twilio reports on every reply, at last that it was delivered or undelivered.
    """

    tag_objects: bool = False
    bare_lists: bool = False
    search_ignored: bool = False
    no_message_log: bool = False
    secrets_revoked: bool = False
    ceql: Ceql = "2.164"
    relay: Literal["off", "instead", "both", "polled"] = "off"
    minute_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 60
    status_callbacks: Literal["off", "delivered", "undelivered"] = "off"
