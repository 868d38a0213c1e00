"""What crosses between a phone and the service: messages, callbacks, refused sends."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(slots=True)
class Message:
    """A text or a reply, as the phone page, the tests and the message log see it.

    direction: "text" (phone to service) or "reply". at: ISO 8601, UTC; moment_s: the same on the
    monotonic clock. state: "sending", "accepted" or "failed" for a text, "received" for a reply.
    detail: what became of a text's callback, a sentence; warning: what Twilio would complain about;
    network_answer: what Twilio itself has texted back, "" for nothing; opted_out: the phone had
    opted out when it texted; refused: why the newest reply to it was refused, "" for none that was.
    serial: its place among all messages, from 1; the older hub model's numeric id.
    For a reply: after_ms since the last text of its conversation; arrival: its place among all
    replies, from 1; instance: whose token it carried; token_ok: that token and the secrets are the
    ones `POST /instances` was made with and returned; status_callback: where reports on it go.
    """

    sid: str
    theirs: str
    ours: str
    direction: str
    body: str
    media: list[str]
    at: str
    state: str
    detail: str = ""
    warning: str = ""
    network_answer: str = ""
    opted_out: bool = False
    refused: str = ""
    after_ms: float | None = None
    arrival: int = 0
    instance: int | None = None
    token_ok: bool = False
    serial: int = 0
    status_callback: str = ""
    moment_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Callback:
    """One attempt to deliver a text. status: 0 without an answer. answer: its first 200 bytes."""

    sid: str
    at: str
    attempt: int
    status: int
    ms: float
    answer: str
    warning: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A send that was refused, with the status and the reason; token_ok: not for its token."""

    at: str
    status: int
    reason: str
    token_ok: bool


def new_sid(kind: str = "SM") -> str:
    """Make a message sid as Twilio's are."""
    return kind + secrets.token_hex(16)


def now_iso() -> str:
    """Tell the time in ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def now_s() -> str:
    """Tell the time as the platform writes it, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
