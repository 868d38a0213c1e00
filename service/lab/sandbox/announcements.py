"""What is POSTed to the service: Twilio's signed forms, the platform's signed events.

Source: Twilio's documentation of inbound message parameters and webhook signatures; SAP Open
Connectors' of webhooks. Twilio's signature comes from its own library.
"""

from __future__ import annotations

import base64
import hmac
import json
import mimetypes
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from twilio.request_validator import RequestValidator

from service.core.twilio.segments import count_segments
from service.lab.sandbox.elements import SIGNATURE_KEY
from service.lab.sandbox.instance import Instance
from service.lab.sandbox.message import Message
from service.lab.sandbox.messages import describe


@dataclass(frozen=True, slots=True)
class Announcement:
    """A signed callback; every attempt sends the same bytes. url: without its fragment."""

    url: str
    headers: dict[str, str]
    body: bytes


def build_callback(instance: Instance, text: Message) -> Announcement:
    """Sign a text's callback as Twilio does."""
    return _sign(instance, _form(instance, text), text.sid, instance.callback_url)


def build_event(instance: Instance, text: Message) -> Announcement:
    """Wrap a text as the platform does: what Twilio sent, and an event for it."""
    event = _event(instance, text) | {"newObject": describe(text, instance)}
    return _wrap(instance, _form(instance, text), [event])


def build_polled_event(instance: Instance, messages: Sequence[Message]) -> Announcement:
    """Wrap what was polled: the full rows of the log, and an event for each."""
    rows = [describe(message, instance) for message in messages]
    return _wrap(instance, {"messages": rows}, [_event(instance, each) for each in messages])


def build_report(instance: Instance, reply: Message, state: str) -> Announcement:
    """Sign a report on a reply as Twilio does. state: a MessageStatus."""
    form = {
        "MessageSid": reply.sid,
        "SmsSid": reply.sid,
        "SmsStatus": state,
        "MessageStatus": state,
        "To": reply.theirs,
        "From": reply.ours,
        "AccountSid": instance.account,
        "ApiVersion": "2010-04-01",
    }
    if state == "undelivered":
        form["ErrorCode"] = "30003"
    return _sign(instance, form, reply.sid, reply.status_callback or instance.callback_url)


def _event(instance: Instance, message: Message) -> dict[str, Any]:
    return {
        "elementKey": instance.element,
        "eventType": "CREATED",
        "objectType": "messages",
        "objectId": message.sid,
    }


def _wrap(instance: Instance, raw: Any, events: Sequence[dict[str, Any]]) -> Announcement:
    id_ = str(uuid.uuid4())
    message = {
        "elementKey": instance.element,
        "instanceId": instance.id,
        "instanceName": instance.name,
        "instanceTags": instance.tags,
        "eventId": id_,
        "raw": raw,
        "events": events,
    }
    body = json.dumps({"severity": "low", "message": message}).encode()
    key = instance.configuration.get(SIGNATURE_KEY, "").encode()
    signature = base64.b64encode(hmac.digest(key, body, "sha256")).decode()
    headers = {
        "Content-Type": "application/json",
        "Elements-Webhook-Id": id_,
        "Elements-Webhook-Signature": f"sha256={signature}",
    }
    return Announcement(instance.callback_url.partition("#")[0], headers, body)


def _sign(instance: Instance, form: dict[str, str], sid: str, url: str) -> Announcement:
    """Sign a form as Twilio does; url: as registered, its fragment included."""
    url = url.partition("#")[0]
    signature = RequestValidator(instance.auth_token).compute_signature(url, form)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "X-Twilio-Signature": signature,
        "I-Twilio-Idempotency-Token": str(uuid.uuid5(uuid.NAMESPACE_URL, sid)),
        "User-Agent": "TwilioProxy/1.1",
        "Accept": "*/*",
    }
    return Announcement(url, headers, urlencode(form).encode())


def _form(instance: Instance, text: Message) -> dict[str, str]:
    form = {
        "ToCountry": "US",
        "ToState": "CA",
        "SmsMessageSid": text.sid,
        "NumMedia": str(len(text.media)),
        "ToCity": "SAN FRANCISCO",
        "FromZip": "10001",
        "SmsSid": text.sid,
        "FromState": "NY",
        "SmsStatus": "received",
        "FromCity": "NEW YORK",
        "Body": text.body,
        "FromCountry": "US",
        "To": text.ours,
        "ToZip": "94103",
        "NumSegments": str(count_segments(text.body).parts),
        "MessageSid": text.sid,
        "AccountSid": instance.account,
        "From": text.theirs,
        "ApiVersion": "2010-04-01",
    }
    if text.media and not text.body:
        # A picture alone comes without the parameter, not with an empty one.
        del form["Body"]
    for place, url in enumerate(text.media):
        form[f"MediaContentType{place}"] = mimetypes.guess_type(url)[0] or "image/jpeg"
        form[f"MediaUrl{place}"] = url
    return form
