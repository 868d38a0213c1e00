"""What an error answer of Open Connectors means, and as much of it as may be told. Pure.

Source: SAP Open Connectors: `requestId`, `message`, and `providerMessage` for what Twilio said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

from service.core.open_connectors.echoes import Private, mask_echoes, read_content_type, read_id
from service.core.open_connectors.wire import read_date
from service.core.twilio.error_codes import MEANINGS, find_code
from service.errors import (
    ConnectorDisabled,
    ConnectorError,
    ConnectorFailed,
    ConnectorGone,
    ConnectorOverLimit,
    ConnectorRefused,
    ConnectorThrottled,
    ConnectorUnauthorized,
)

LONGEST_PAUSE_S = 3_600.0
"""A Retry-After beyond it counts as this: a date gone wrong must not hold a reply for years."""

NOTHING_PRIVATE = Private()


def read_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    private: Private = NOTHING_PRIVATE,
) -> ConnectorError:
    """Turn an error answer into the error of its kind.

    headers: names in lower case. now: aware; for a Retry-After that is a date.
    private: never repeated, whatever the answer quotes of the request and wherever.
    """
    answer = _json_object(body)
    message = _text(answer.get("message"), private)
    provider = _text(answer.get("providerMessage"), private)
    # Looked for in what may be told: five digits may be somebody's code.
    code = find_code(provider) if provider else None
    meaning = MEANINGS.get(code) if code else None
    retry_after_s = _retry_after(headers.get("retry-after"), now)
    kind = _kind(status)
    # Who says when to come back, or Twilio's word for it, means the rate.
    if kind is ConnectorThrottled and retry_after_s is None and code is None:
        kind = _kind_of_limit(f"{message} {provider}")
    return kind(
        message or _unread(status, headers, private),
        status=status,
        provider_message=provider or None,
        request_id=read_id(answer.get("requestId"), private) or request_id_of(headers, private),
        retry_after_s=retry_after_s,
        code=code,
        advice=f"{meaning.means}: {meaning.advice}" if meaning else "",
    )


def request_id_of(headers: Mapping[str, str], private: Private) -> str | None:
    """Return the request id that every answer carries in a header. headers: names in lower case."""
    return read_id(headers.get("elements-request-id"), private)


def _kind(status: int) -> type[ConnectorError]:
    if status == 429:
        return ConnectorThrottled
    # A redirect is a gateway's page for maintenance or a login: passing, like its own failures.
    if status == 408 or status >= 500 or status < 400:
        return ConnectorFailed
    forbidden = {401: ConnectorUnauthorized, 403: ConnectorDisabled, 404: ConnectorGone}
    return forbidden.get(status, ConnectorRefused)


OF_RATE = re.compile(
    r"\brates?\b|too many|throttl|quota|concurren|per (second|minute|hour|day)|slow down",
    re.IGNORECASE,
)
OF_SIZE_OR_TIME = re.compile(
    r"\b(size|large[r]?|bytes?|[kmg]i?b|payload|length|duration)\b|time.?(out|limit)|timed.out"
    r"|too (big|long)|execution time",
    re.IGNORECASE,
)
"""What a 429 is about, where it says so: its documentation names limits of rate, size and time, and
no wording (unverified)."""


def _kind_of_limit(said: str) -> type[ConnectorError]:
    over = OF_SIZE_OR_TIME.search(said) and not OF_RATE.search(said)
    return ConnectorOverLimit if over else ConnectorThrottled


def _text(said: Any, private: Private) -> str:
    if not said:
        return ""
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return mask_echoes(text, private)


def _unread(status: int, headers: Mapping[str, str], private: Private) -> str:
    """Describe an answer without quoting it: a gateway's page may hold our own request."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "unknown status"
    kind = read_content_type(headers.get("content-type", ""), private)
    return f"{phrase} ({kind}, not the JSON of Open Connectors)"


def _retry_after(header: str | None, now: datetime) -> float | None:
    if not header:
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", header.strip()):
        return min(float(header), LONGEST_PAUSE_S)
    date = read_date(header)
    return min(max(0.0, (date - now).total_seconds()), LONGEST_PAUSE_S) if date else None


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
