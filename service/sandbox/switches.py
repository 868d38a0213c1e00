"""How the platform behaves until it is told otherwise: what its documentation leaves open."""

from __future__ import annotations

import msgspec


class Switches(msgspec.Struct, forbid_unknown_fields=True):
    """Standing behaviours, all off at first.

    tag_objects: tags read back as `[{id, name}]`, not as texts.
    no_message_log: GET /messages is answered 405, as by a connector that cannot list them.
    secrets_revoked: the user's and the organization's secrets are wrong from now on.
    """

    tag_objects: bool = False
    no_message_log: bool = False
    secrets_revoked: bool = False
