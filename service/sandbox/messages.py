"""An instance's /messages: sending a text, and the log of what was sent and received.

Source: SAP Open Connectors' documentation of /hubs/messaging/messages; Twilio's Message resource
and its error codes.
"""

from __future__ import annotations

import asyncio
import itertools
import mimetypes
import re
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.core.segments import count_segments
from service.sandbox.access import Access
from service.sandbox.answers import (
    Refused,
    Unanswered,
    answer_error,
    answer_json,
    check_accept,
    read_object,
)
from service.sandbox.outage import get_in_the_way
from service.sandbox.records import Instance, Message, Records, Refusal, now_iso

PAGE_SIZE = 50
PAGE_LIMIT = 200
"""Rows of a page of the log: unless asked otherwise, and at most."""

BODY_LIMIT = 1600
MEDIA_LIMIT = 10
"""Twilio's, in characters and in pictures."""


class Messages:
    """The endpoints of /messages, each for an instance's Authorization."""

    def __init__(self, records: Records, access: Access) -> None:
        self._records = records
        self._access = access

    async def send(self, headers: Mapping[bytes, bytes], body: bytes) -> Response:
        """POST /messages, served without Starlette's routing.

        headers: names in lower case.
        """
        began = time.perf_counter()
        trouble = self._records.trouble.take("send")
        instance: Instance | None = None
        ending: Response
        reason = ""
        try:
            check_accept(headers.get(b"accept", b"").decode("latin-1"))
            instance = self._access.instance(headers.get(b"authorization", b"").decode("latin-1"))
            if trouble is not None:
                get_in_the_way(trouble)
                if trouble.delay_ms:
                    await asyncio.sleep(trouble.delay_ms / 1000)
            ending = self._accept(instance, headers.get(b"content-type", b""), body)
        except Refused as error:
            if instance is not None:
                error.instance_id = instance.id
            reason = error.summary
            token_ok = error.instance_id is not None
            refusal = Refusal(now_iso(), error.status, reason, token_ok)
            self._records.refusals.append(refusal)
            ending = answer_error(error) if error.status else Unanswered("hang")
        if trouble is not None:
            await asyncio.sleep(trouble.latency_ms / 1000)
            if trouble.reset and not reason:
                ending, reason = Unanswered("reset"), "trouble: the connection is cut"
        took_ms = (time.perf_counter() - began) * 1000
        self._records.wire("request", "POST /messages", ending.status_code, took_ms, reason)
        return ending

    async def log(self, request: Request) -> Response:
        """GET /messages: newest first; `page` from 1, `pageSize`, `where`."""
        instance = self._instance(request)
        if self._records.switches.no_message_log:
            text = "GET /messages is not supported by this element"
            raise Refused(405, text, instance_id=instance.id)
        query = request.query_params
        size = min(_number(query.get("pageSize"), PAGE_SIZE), PAGE_LIMIT)
        start = (_number(query.get("page"), 1) - 1) * size
        matches = read_where(query.get("where", ""))
        found = filter(matches, reversed(self._records.messages))
        rows = [describe(each, instance) for each in itertools.islice(found, start, start + size)]
        return answer_json(rows, instance.id)

    async def get(self, request: Request) -> Response:
        """GET /messages/{sid}."""
        instance = self._instance(request)
        return answer_json(describe(self._find(request, instance), instance), instance.id)

    async def media(self, request: Request) -> Response:
        """GET /messages/{sid}/media: one row per picture, as Twilio's Media resource."""
        instance = self._instance(request)
        message = self._find(request, instance)
        rows = [_media_row(message, place, instance) for place in range(len(message.media))]
        return answer_json(rows, instance.id)

    def _find(self, request: Request, instance: Instance) -> Message:
        sid = request.path_params["sid"]
        for message in reversed(self._records.messages):
            if message.sid == sid:
                return message
        raise Refused(
            404,
            f"No message found with sid {sid}",
            provider="20404: The requested resource was not found",
            instance_id=instance.id,
        )

    async def ping(self, request: Request) -> Response:
        """GET /ping."""
        instance = self._instance(request)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return answer_json({"dateTime": now, "endpoint": instance.element}, instance.id)

    def _instance(self, request: Request) -> Instance:
        return self._access.instance(request.headers.get("authorization", ""))

    def _accept(self, instance: Instance, content_type: bytes, raw: bytes) -> Response:
        """Take a text in either shape: `To, From, Body, MediaUrl` or `to, from, message`."""
        sent = read_object(content_type.decode("latin-1"), raw)
        to = _text(sent, "To", "to")
        ours = _text(sent, "From", "from") or instance.our_number
        body = _text(sent, "Body", "message", "body")
        media = _media(sent)
        if not to:
            raise _refused_by_twilio("21604: A 'To' phone number is required.")
        if not body and not media:
            raise _refused_by_twilio("21602: Message body is required.")
        if len(body) > BODY_LIMIT:
            raise _refused_by_twilio(
                f"21617: The concatenated message body exceeds the {BODY_LIMIT} character limit."
            )
        if len(media) > MEDIA_LIMIT:
            raise _refused_by_twilio("21623: Number of media files exceeds allowed limit.")
        if (to, ours) in self._records.opted_out:
            raise _refused_by_twilio("21610: Attempt to send to unsubscribed recipient")
        reply = self._records.add_reply(instance, to, ours, body, media)
        older = {"id": reply.sid, "subject": sent.get("subject"), "message": body}
        row = describe(reply, instance) | older | {"status": "queued", "sentTime": reply.at}
        return answer_json(row, instance.id)


def read_where(clause: str) -> Callable[[Message], bool]:
    """Read `DateSent='2026-01-31' and To='+1...'` into a test of a message.

    DateSent: a day, or a moment in ISO 8601 of which the day counts; also with `>=`, `<=`, `>`,
    `<`. To, From: equality. Names in any case. A term that can't be read matches nothing, so that
    a filter with a mistake does not look like none.
    """
    terms = [term for term in re.split(r"\s+and\s+", clause.strip(), flags=re.IGNORECASE) if term]
    tests = [_read_term(term) for term in terms]
    return lambda message: all(test(message) for test in tests)


def _read_term(term: str) -> Callable[[Message], bool]:
    found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|=|>|<)\s*'([^']*)'\s*", term)
    if found is None:
        return _nothing
    name, operator, value = found[1].lower().replace("_", ""), found[2], found[3]
    if name == "datesent":
        day = value[:10]
        compare: dict[str, Callable[[str], bool]] = {
            "=": lambda sent: sent == day,
            ">=": lambda sent: sent >= day,
            "<=": lambda sent: sent <= day,
            ">": lambda sent: sent > day,
            "<": lambda sent: sent < day,
        }
        # ISO 8601 days compare as texts.
        return lambda message: compare[operator](message.at[:10])
    if name in {"to", "from"} and operator == "=":
        place = 1 if name == "to" else 0
        return lambda message: _ends(message)[place] == value
    return _nothing


def _nothing(message: Message) -> bool:
    return False


def _ends(message: Message) -> tuple[str, str]:
    """Tell who sent a message, and to whom."""
    if message.direction == "text":
        return message.theirs, message.ours
    return message.ours, message.theirs


def describe(message: Message, instance: Instance) -> dict[str, Any]:
    """Describe a message as Twilio's Message resource does."""
    inbound = message.direction == "text"
    from_, to = _ends(message)
    sent = format_datetime(datetime.fromisoformat(message.at))
    return {
        "sid": message.sid,
        "account_sid": instance.account,
        "from": from_,
        "to": to,
        "body": message.body,
        "direction": "inbound" if inbound else "outbound-api",
        "status": "received" if inbound else "delivered",
        "date_created": sent,
        "date_sent": sent,
        "num_media": str(len(message.media)),
        "num_segments": str(count_segments(message.body).parts),
        "error_code": None,
        "error_message": None,
        "api_version": "2010-04-01",
    }


def _media_row(message: Message, place: int, instance: Instance) -> dict[str, Any]:
    """Describe a picture; `uri` is where the phone said it is."""
    url = message.media[place]
    sent = format_datetime(datetime.fromisoformat(message.at))
    return {
        "sid": f"ME{uuid.uuid5(uuid.NAMESPACE_URL, f'{message.sid}/{place}').hex}",
        "account_sid": instance.account,
        "parent_sid": message.sid,
        "content_type": mimetypes.guess_type(url)[0] or "image/jpeg",
        "date_created": sent,
        "date_updated": sent,
        "uri": url,
    }


def _text(sent: Mapping[str, Any], *names: str) -> str:
    return next((str(sent[name]) for name in names if sent.get(name)), "")


def _media(sent: Mapping[str, Any]) -> list[str]:
    media = sent.get("MediaUrl") or sent.get("media") or []
    return [str(url) for url in (media if isinstance(media, list) else [media])]


def _refused_by_twilio(provider: str) -> Refused:
    return Refused(400, "Request failed", provider=provider)


def _number(text: str | None, default: int) -> int:
    return max(1, int(text)) if text and re.fullmatch(r"[0-9]{1,9}", text) else default
