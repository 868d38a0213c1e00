"""Requests that somebody makes of the instance by hand, with its token, which is never shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.core.open_connectors.hub_request import (
    HubRequest,
    as_curl,
    as_python,
    read_body,
    shown_headers,
)
from service.errors import ConnectorError
from service.operate.advice import advise
from service.operate.deployment import Deployment
from service.operate.instance import open_instance
from service.settings.table import Settings


@dataclass(frozen=True, slots=True)
class HubAnswer:
    """What came of a request, secrets masked.

    headers: names in lower case. body: JSON, a text, or None for nothing. body_bytes: how long it
    was. took_s: from asking to the whole answer. error: what an answer that is no success means.
    """

    status: int
    headers: Mapping[str, str]
    body: Any = field(repr=False)
    body_bytes: int
    took_s: float
    error: ConnectorError | None


async def send(deployment: Deployment, request: HubRequest) -> HubAnswer:
    """Send a request as our instance, within SEND_TIMEOUT_S.

    Raises SettingsError without an instance, ConnectorError when no answer came, or one that is
        longer than any is read; StoreUnavailable, StoreMismatch.
    """
    async with open_instance(deployment) as (connector, _):
        began = time.monotonic()
        answer, error = await connector.exchange(request.method, request.path, request.body)
        advise(error, "`parley connector docs` shows what there is, and what it takes")
        return HubAnswer(
            status=answer.status,
            headers=connector.without_secrets(shown_headers(answer.headers)),
            body=connector.without_secrets(read_body(answer.body)),
            body_bytes=len(answer.body),
            took_s=time.monotonic() - began,
            error=error,
        )


def write_curl(settings: Settings, request: HubRequest) -> str:
    """Write a request as a curl command, with variables in the place of secrets."""
    return as_curl(request, settings.open_connectors_base_url)


def write_python(settings: Settings, request: HubRequest) -> str:
    """Write a request as a Python program, with variables in the place of secrets."""
    return as_python(request, settings.open_connectors_base_url)
