"""The platform as one user of one organization meets it, over one HTTP client.

What a setup changes of the connector's client is all in here: `service.connector.client` turns from
one of these to another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from service.connector.http import Client, HttpAnswer, Target
from service.core.masking import MASK
from service.core.open_connectors import wire
from service.errors import ConnectorUnreachable

MESSAGES = "/hubs/messaging/messages"
NOT_PROVISIONED = "the instance is not provisioned yet"

SHORTEST = 8
"""Characters of a secret that is masked in an answer's bytes; a shorter one is part of names and
numbers there. The platform's have forty."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the platform's API is, and who we are there.

    base_url: up to and including /elements/api-v2. proxy: its address, login and all; "" for none.
    """

    base_url: str
    user_secret: str = field(repr=False)
    organization_secret: str = field(repr=False)
    proxy: str = field(default="", repr=False)


class Peer:
    """Where requests go, and what they say of us.

    http: to the origin of `access`. ours: the ways to write what requests carry of our secrets.
    messages: where replies go; None without a token.
    """

    def __init__(self, access: Access, http: Client) -> None:
        self.access = access
        self.http = http
        self._path = urlsplit(access.base_url).path
        self._platform = self._headers(None)
        self._instance: dict[str, str] | None = None
        self.messages: Target | None = None
        self.login = ways_to_write(access.user_secret, access.organization_secret)
        self.ours = self.login

    def use_token(self, instance_token: str) -> None:
        """Speak as the instance of this token from now on."""
        self._instance = self._headers(instance_token)
        self.messages = self.as_instance(MESSAGES)
        self.ours = (*self.login, *ways_to_write(instance_token))

    def as_user(self, path: str) -> Target:
        """Return a target at the platform itself. path: below the API's base, encoded."""
        return self.http.target(self._path + path, self._platform)

    def as_instance(self, path: str) -> Target:
        """Return a target at our instance. Raises ConnectorUnreachable without a token."""
        if self._instance is None:
            raise ConnectorUnreachable(NOT_PROVISIONED)
        return self.http.target(self._path + path, self._instance)

    def _headers(self, instance_token: str | None) -> dict[str, str]:
        access = self.access
        return {
            "Authorization": wire.authorization(
                access.user_secret, access.organization_secret, instance_token
            ),
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "parley",
        }


def ways_to_write(*secrets: str) -> tuple[str, ...]:
    """Return secrets as they are, as JSON has them, and as JSON within JSON does."""
    ways = {secret for secret in secrets if len(secret) >= SHORTEST}
    for _ in range(2):
        ways |= {json.dumps(way)[1:-1] for way in ways}
    ways |= {way.replace("/", "\\/") for way in ways}
    # The longest first: a secret may be the beginning of another.
    return tuple(sorted(ways, key=len, reverse=True))


def without(ours: Sequence[str], answer: HttpAnswer) -> HttpAnswer:
    """Mask what an answer repeats of our secrets: names, ids, tags and rows are logged and kept."""
    said = "\n".join((answer.body.decode("utf-8", "replace"), *answer.headers.values()))
    if not any(way in said for way in ours):
        return answer
    body, headers = answer.body, dict(answer.headers)
    for way in ours:
        body = body.replace(way.encode(), MASK.encode())
        headers = {name: value.replace(way, MASK) for name, value in headers.items()}
    return replace(answer, headers=headers, body=body)
