"""Reads the events that the platform relays: a page of rows polled from the message log. Pure.

A page holds the rows of the whole account since the last poll, texts and our own sends alike, in
the log's shape, which tells how many pictures a text has and not where they are. The platform gives
up an event that is refused again and again, and all events with it: a row that can't be read, or is
not ours, must never cost the others.
Source: SAP Open Connectors, "Event framework" (polling); its rows are Twilio's Message resource.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from service.core.open_connectors.wire import read_date
from service.core.twilio.json_callback import DEEPEST, Fields, form_fields

RowKind = Literal["text", "report", ""]
"""What a row is: a text that came in, the report on one that went out; "" when it does not say."""

SID = re.compile(r"[!-~]{1,64}")
"""Twilio's have 34 characters; the platform's older model numbers its messages."""

SIGNATURE = re.compile(rb"sha256=[A-Za-z0-9+/]{43}=")


@dataclass(frozen=True, slots=True)
class Row:
    """One message of an event.

    fields: its parameters by the form's names. sent_at: aware; None when it does not say.
    """

    fields: Fields
    kind: RowKind
    sent_at: datetime | None

    @property
    def sid(self) -> str:
        """The message's sid."""
        return self.fields["MessageSid"]

    @property
    def pictures(self) -> int:
        """How many pictures it has without saying where they are."""
        told = self.fields.get("NumMedia", "")
        missing = "MediaUrl0" not in self.fields and re.fullmatch(r"[0-9]{1,3}", told)
        return int(told) if missing else 0


@dataclass(frozen=True, slots=True)
class Page:
    """What an event tells. rows: oldest first. unreadable: how many lack what a message has."""

    rows: tuple[Row, ...]
    unreadable: int


@dataclass(frozen=True, slots=True)
class Sorted:
    """The rows of a page by what they are to us. foreign: how many are nobody's of ours."""

    texts: tuple[Row, ...]
    reports: tuple[Row, ...]
    foreign: int


def may_be_signed(signature: bytes | None) -> bool:
    """Tell whether a value of Elements-Webhook-Signature has the form of one."""
    return SIGNATURE.fullmatch((signature or b"").strip()) is not None


def verify_event(key: str, body: bytes, signature: bytes | None) -> bool:
    """Tell whether the platform signed this event.

    key: `event.notification.signature.key` of our instance. body: raw.
    signature: value of Elements-Webhook-Signature: "sha256=" and a base64 HMAC-SHA256 of the body.
    """
    expected = b"sha256=" + b64encode(hmac.digest(key.encode(), body, "sha256"))
    return hmac.compare_digest(expected, (signature or b"").strip())


def read_event(body: bytes) -> Page:
    """Return the messages of an event, each once, however the platform wraps them.

    body: raw, verified. One that holds nothing that can be read is a page without rows.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return Page((), 1)
    found: dict[tuple[str, str | None], Row] = {}
    unreadable = 0
    for each in _rows(value, DEEPEST):
        if each is None:
            unreadable += 1
            continue
        key = each.sid, each.fields.get("MessageStatus")
        found[key] = _joined(found[key], each) if key in found else each
    sent = {row.sid for row in found.values() if row.kind == "report"}
    # The platform shows a message as it read it and as the provider gave it. Where one of the two
    # says that it went out, the other is no text.
    rows = [row for row in found.values() if row.kind == "report" or row.sid not in sent]
    return Page(tuple(_oldest_first(rows)), unreadable)


def sort_rows(rows: Sequence[Row], account: str, ours: Collection[str]) -> Sorted:
    """Tell our own rows from those of the account's other numbers, and of other accounts.

    ours: our numbers. A text is ours by where it was sent to, a report by where it was sent from.
    """
    texts, reports = [], []
    for row in rows:
        fields = row.fields
        if fields.get("AccountSid", account) != account:
            continue
        if row.kind == "report":
            if fields["From"] in ours:
                reports.append(row)
        # What does not say which way it went, and is from us, is our own send.
        elif fields["To"] in ours and (row.kind == "text" or fields["From"] not in ours):
            texts.append(row)
    return Sorted(tuple(texts), tuple(reports), len(rows) - len(texts) - len(reports))


def _rows(value: Any, levels: int) -> Iterator[Row | None]:
    """Yield every message in a JSON value, and None for each that lacks what it must have."""
    if not levels:
        return
    if isinstance(value, dict):
        fields = form_fields(value)
        if "MessageSid" not in fields and fields.get("id"):
            fields["MessageSid"] = fields["id"]  # the older hub model
        if all(fields.get(name) for name in ("MessageSid", "From", "To")):
            yield _row(fields, value)
            return
        inner = [each for part in value.values() for each in _rows(part, levels - 1)]
        # Mapped by a common resource, a row may be left with its sid alone.
        yield from inner or ([None] if "sid" in value else [])
    elif isinstance(value, list):
        for each in value:
            yield from _rows(each, levels - 1)


def _row(fields: Fields, value: Mapping[str, Any]) -> Row | None:
    if not SID.fullmatch(fields["MessageSid"]):
        return None
    if "Body" not in fields and isinstance(value.get("message"), str):
        fields["Body"] = fields["message"]
    direction = str(value.get("direction") or "").lower()
    told = (value.get("status"), fields.get("MessageStatus"), fields.get("SmsStatus"))
    status = str(next(filter(None, told), "")).lower()
    if fields.get("SmsStatus") == "received" or direction == "inbound":
        kind: RowKind = "text"
    elif direction.startswith("outbound") or "MessageStatus" in fields:
        kind = "report"
    else:
        kind = "" if not status else "text" if status in {"received", "receiving"} else "report"
    if kind == "report":
        if not status:
            return None
        fields["MessageStatus"] = status
    else:
        fields.pop("MessageStatus", None)
        fields["SmsStatus"] = "received"
    date = next(
        (value[name] for name in ("date_sent", "dateSent", "sentTime") if name in value), ""
    )
    return Row(fields, kind, read_date(str(date)))


def _joined(one: Row, other: Row) -> Row:
    """Join two pictures of one message: the longer has what the other left out."""
    less, more = sorted((one, other), key=lambda row: len(row.fields))
    return replace(
        more,
        fields={**less.fields, **more.fields},
        kind=more.kind or less.kind,
        sent_at=more.sent_at or less.sent_at,
    )


def _oldest_first(rows: Sequence[Row]) -> Sequence[Row]:
    """Order a page as its texts were sent; a page may be written newest first, as the log is."""
    dates = [row.sent_at for row in rows if row.sent_at is not None]
    if len(dates) < len(rows) or not dates:
        return rows
    # Dates have whole seconds: within one, the page's own order stands, turned around with it.
    written = rows[::-1] if dates[0] > dates[-1] else rows
    return sorted(written, key=lambda row: row.sent_at or dates[0])
