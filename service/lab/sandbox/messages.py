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
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.core.twilio.segments import count_segments
from service.lab.sandbox.access import Access
from service.lab.sandbox.answers import (
    Refused,
    Unanswered,
    answer_error,
    answer_json,
    check_accept,
    read_object,
    without_body,
    without_nulls,
)
from service.lab.sandbox.ceql import ends_of, read_where
from service.lab.sandbox.instance import Instance
from service.lab.sandbox.mappings import VENDOR_ROWS, map_row
from service.lab.sandbox.message import Message, Refusal, now_iso
from service.lab.sandbox.outage import get_in_the_way
from service.lab.sandbox.records import Records
from service.lab.sandbox.wire import Exchange

PAGE_SIZE = 50
PAGE_LIMIT = 200
"""Rows of a page of the log: unless asked otherwise, and at most."""

BODY_LIMIT = 1600
MEDIA_LIMIT = 10
"""Twilio's, in characters and in pictures."""

ADDRESS_LIMIT = 100
URL_LIMIT = 2_000
"""Characters of a number, and of a picture's or a callback's address: what is kept has a bound."""


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
            self._note_refusal(instance, headers.get(b"content-type", b""), body, error)
        if trouble is not None:
            await asyncio.sleep(trouble.latency_ms / 1000)
            if trouble.reset and not reason:
                ending, reason = Unanswered("reset"), "trouble: the connection is cut"
            elif trouble.empty and not reason:
                ending = without_body(ending)
        took_ms = (time.perf_counter() - began) * 1000
        exchange = Exchange(headers, body, ending.raw_headers, bytes(ending.body))
        if ending.status_code == 0:
            exchange = Exchange(headers, body)
        status = ending.status_code
        self._records.wire("request", "POST /messages", status, took_ms, exchange, note=reason)
        return ending

    def _note_refusal(
        self, instance: Instance | None, content_type: bytes, body: bytes, error: Refused
    ) -> None:
        """Say it with the text that the refused reply was to answer; no words if unreadable."""
        try:
            sent = read_object(content_type, body)
        except Refused:
            return
        number = instance.our_number if instance else self._records.our_number
        ours = _text(sent, "From", "from") or number or ""
        reason = error.provider or error.message
        self._records.refuse(_text(sent, "To", "to"), ours, error.status, reason)

    async def log(self, request: Request) -> Response:
        """GET /messages: newest first; `page` from 1, `pageSize`, `where`."""
        return self._list(request, VENDOR_ROWS)

    async def resource(self, request: Request) -> Response:
        """GET /hubs/{hub}/{name}: the log's rows as a common resource's."""
        return self._list(request, request.path_params["name"])

    async def get(self, request: Request) -> Response:
        """GET /messages/{sid}."""
        instance = self._instance(request)
        row = describe(self._find(request, instance), instance)
        return answer_json(self._shown(row, instance, VENDOR_ROWS), instance.id)

    async def media(self, request: Request) -> Response:
        """GET /messages/{sid}/media: one row per picture, as Twilio's Media resource."""
        instance = self._instance(request)
        message = self._find(request, instance)
        rows = [_media_row(message, place, instance) for place in range(len(message.media))]
        return answer_json(rows, instance.id)

    def _list(self, request: Request, name: str) -> Response:
        instance = self._instance(request)
        mapping = self._records.mappings.find(instance.id, instance.element, name)
        vendor = mapping["vendorName"] if mapping else name
        if vendor != VENDOR_ROWS:
            raise Refused(404, f"No resource found with name {name}")
        if self._records.switches.no_message_log:
            raise Refused(405, "GET /messages is not supported by this element")
        query = request.query_params
        size = min(_number(query.get("pageSize"), PAGE_SIZE), PAGE_LIMIT)
        start = (_number(query.get("page"), 1) - 1) * size
        matches = read_where(query.get("where", ""), self._records.switches.ceql)
        found = filter(matches, reversed(self._records.messages))
        page = itertools.islice(found, start, start + size)
        rows = [self._shown(describe(each, instance), instance, name) for each in page]
        return answer_json(rows, instance.id)

    def _shown(self, row: dict[str, Any], instance: Instance, name: str) -> dict[str, Any]:
        """Map a row where it is mapped, and leave out what the instance filters."""
        mapping = self._records.mappings.find(instance.id, instance.element, name)
        shown = map_row(row, mapping) if mapping else row
        return dict(without_nulls(shown)) if instance.filters_nulls else shown

    def _find(self, request: Request, instance: Instance) -> Message:
        wanted = request.path_params["sid"]
        for message in reversed(self._records.messages):
            if wanted in {message.sid, str(message.serial)}:
                return message
        raise Refused(
            404,
            f"No message found with sid {wanted}",
            provider="20404: The requested resource was not found",
        )

    async def ping(self, request: Request) -> Response:
        """GET /ping."""
        instance = self._instance(request)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return answer_json({"dateTime": now, "endpoint": instance.element}, instance.id)

    def _instance(self, request: Request) -> Instance:
        instance = self._access.instance(request.headers.get("authorization", ""))
        request.state.instance_id = instance.id
        return instance

    def _accept(self, instance: Instance, content_type: bytes, raw: bytes) -> Response:
        """Take a text in either model, and answer in the same.

        `To, From, Body, MediaUrl` is answered with Twilio's resource, `to, from, message` with a
        number of the hub's own, which is not Twilio's sid.
        """
        sent = read_object(content_type, raw)
        to = _text(sent, "To", "to")
        ours = _text(sent, "From", "from") or instance.our_number
        body = _text(sent, "Body", "message", "body")
        media = _media(sent)
        report_to = _text(sent, "StatusCallback")
        if not to:
            raise _refused_by_twilio("21604: A 'To' phone number is required.")
        if max(len(to), len(ours)) > ADDRESS_LIMIT:
            raise _refused_by_twilio("21211: The 'To' or 'From' number is not a valid number.")
        if not body and not media:
            raise _refused_by_twilio("21602: Message body is required.")
        if len(body) > BODY_LIMIT:
            raise _refused_by_twilio(
                f"21617: The concatenated message body exceeds the {BODY_LIMIT} character limit."
            )
        if len(media) > MEDIA_LIMIT:
            raise _refused_by_twilio("21623: Number of media files exceeds allowed limit.")
        if any(len(url) > URL_LIMIT for url in (*media, report_to)):
            raise _refused_by_twilio("21620: Invalid media or callback URL.")
        if self._records.is_opted_out(to, ours):
            raise _refused_by_twilio("21610: Attempt to send to unsubscribed recipient")
        reply = self._records.add_reply(instance, to, ours, body, media, status_callback=report_to)
        row = _hub_answer(reply, sent)
        if "To" in sent:
            row = describe(reply, instance) | {"status": "queued", "date_sent": None}
        if instance.filters_nulls:
            row = without_nulls(row)
        return answer_json(row, instance.id)


def describe(message: Message, instance: Instance) -> dict[str, Any]:
    """Describe a message as Twilio's Message resource does."""
    inbound = message.direction == "text"
    from_, to = ends_of(message)
    sent = format_datetime(datetime.fromisoformat(message.at))
    uri = f"/2010-04-01/Accounts/{instance.account}/Messages/{message.sid}"
    return {
        "sid": message.sid,
        "account_sid": instance.account,
        "messaging_service_sid": None,
        "from": from_,
        "to": to,
        "body": message.body,
        "direction": "inbound" if inbound else "outbound-api",
        "status": "received" if inbound else "delivered",
        "date_created": sent,
        "date_updated": sent,
        "date_sent": sent,
        "num_media": str(len(message.media)),
        "num_segments": str(count_segments(message.body).parts),
        "price": None,
        "price_unit": "USD",
        "error_code": None,
        "error_message": None,
        "api_version": "2010-04-01",
        "uri": f"{uri}.json",
        "subresource_uris": {"media": f"{uri}/Media.json"},
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


def _hub_answer(reply: Message, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a send in the older model of the hub."""
    return {
        "id": reply.serial,
        "to": reply.theirs,
        "from": reply.ours,
        "subject": sent.get("subject"),
        "message": reply.body,
        "status": "queued",
        "direction": "outbound-api",
        "sentTime": reply.at,
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
