"""What Twilio makes of a callback URL's overrides, and of the answer a callback gets. Pure.

Source: Twilio, "Webhooks (HTTP callbacks): Connection Overrides"; its error codes 11200 (HTTP
retrieval failure), 12100 (document parse failure), 12300 (invalid Content-Type).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs
from xml.etree import ElementTree as ET

from service.lab.http1 import Answer

Failure = Literal["", "4xx", "5xx", "ct", "rt", "url"]
"""How an attempt failed, in the words of Twilio's retry policies: connection (`ct`), no answer in
time (`rt`), an error answer; "url" for a callback URL that is none. "" when it did not fail."""

POLICIES = frozenset({"4xx", "5xx", "ct", "rt"})
RETRIES = 1
"""Twilio's default, for failed connections."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """How often a failed callback is repeated, and after which failures."""

    retries: int = RETRIES
    policies: frozenset[str] = frozenset({"ct"})


def read_overrides(fragment: str) -> Overrides:
    """Read a callback URL's fragment such as `rc=3&rp=5xx,ct`; what makes no sense is passed over.

    rc: 0 to 5 retries. rp: `4xx`, `5xx`, `ct`, `rt`, `all`, several with commas.
    """
    given = {name: values[-1] for name, values in parse_qs(fragment).items()}
    count = given.get("rc", "")
    named = set(given.get("rp", "ct").split(","))
    return Overrides(
        int(count) if re.fullmatch(r"[0-5]", count) else RETRIES,
        POLICIES if "all" in named else POLICIES & named,
    )


def failure_of(status: int) -> Failure:
    """Say whether Twilio takes an answer for a failure; redirects count as 4xx here."""
    if 200 <= status < 300:
        return ""
    return "5xx" if status >= 500 else "4xx"


def judge(answer: Answer) -> str:
    """Say what Twilio would complain about, a sentence; "" when it would be content."""
    if failure_of(answer.status):
        return f"Twilio error 11200: the callback was answered {answer.status}"
    content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not content_type:
        return "Twilio error 12300: the answer has no content type"
    if not answer.body.strip():
        return "Twilio error 11200: the answer is empty"
    if content_type == "text/plain":
        return "Twilio would text this answer to the sender: it is plain text, not TwiML"
    if content_type not in {"text/xml", "application/xml", "text/html"}:
        return f"Twilio error 12300: {content_type} is no content type of TwiML"
    try:
        # The answer is the service's own, on this machine.
        root = ET.fromstring(answer.body)  # noqa: S314
    except (ET.ParseError, ValueError, LookupError) as error:
        # The latter two: an encoding the parser can't read, or does not know.
        return f"Twilio error 12100: the answer is no XML ({error})"
    if root.tag != "Response":
        return f"Twilio error 12100: the answer's root is {root.tag}, not Response"
    if len(root):
        return f"the TwiML asks for {root[0].tag}, which the sandbox does not do"
    return ""
