"""The phone network: delivers texts as Twilio does, signed, to the callback URL that is registered.

Source: Twilio's documentation of inbound message parameters, webhook signatures and connection
overrides. The signature comes from Twilio's own library.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import mimetypes
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from service.core.segments import count_segments
from service.http1 import Answer, Client, NoAnswer, NotSent
from service.sandbox import webhook
from service.sandbox.elements import SIGNATURE_KEY
from service.sandbox.messages import describe
from service.sandbox.records import Callback, Instance, Message, Records, now_iso

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 15.0
"""Twilio's limit on one attempt, and on all of them together."""

CONNECTIONS = 64
"""Callbacks under way at once; more texts than that wait their turn."""

ANSWER_KEPT_BYTES = 200


class Network:
    """Delivers texts to whatever instance is registered.

    total_timeout_s: for one attempt, and for all of a callback's together.
    """

    def __init__(self, records: Records, *, total_timeout_s: float = TOTAL_TIMEOUT_S) -> None:
        self._records = records
        self._total_timeout_s = total_timeout_s
        self._clients: dict[str, Client] = {}
        self._reports: set[asyncio.Task[None]] = set()

    async def deliver(self, instance: Instance, text: Message) -> int:
        """POST a text's callback, again where Twilio would; or the platform's event for it.

        Returns the last attempt's HTTP status, 0 when nobody answered; the text says the rest.
        """
        status = 0
        relay = self._records.switches.relay
        if relay != "off":
            status = await self._deliver(instance, text, _build_event(instance, text))
        if relay != "instead":
            status = await self._deliver(instance, text, _build(instance, text))
        return status

    def report(self, instance: Instance, reply: Message) -> None:
        """Tell the service what became of its reply, where that is switched on."""
        if self._records.switches.status_callbacks != "off":
            last = self._records.switches.status_callbacks
            task = asyncio.get_running_loop().create_task(self._report(instance, reply, last))
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

    async def _report(self, instance: Instance, reply: Message, last: str) -> None:
        for state in ("sent", last):
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
            callback = _sign(instance, form, reply.sid)
            status = 0
            began = time.monotonic()
            with suppress(NotSent, NoAnswer, ValueError):
                status = (await self._post(callback, self._total_timeout_s)).status
            took_ms = (time.monotonic() - began) * 1000
            self._records.wire("callback", f"{state}: POST {_path(callback.url)}", status, took_ms)

    async def _deliver(self, instance: Instance, text: Message, callback: _Request) -> int:
        overrides = webhook.read_overrides(instance.callback_url.partition("#")[2])
        began = time.monotonic()
        status, failure = 0, ""
        for attempt in range(1 + overrides.retries):
            left_s = self._total_timeout_s - (time.monotonic() - began)
            if left_s <= 0:
                break
            status, failure = await self._attempt(text, callback, attempt, left_s)
            if failure not in overrides.policies:
                break
        text.state = "failed" if failure else "accepted"
        if not failure:
            took_ms = (time.monotonic() - began) * 1000
            text.detail = f"callback answered {status} in {took_ms:.0f} ms"
        self._records.changed(text)
        return status

    async def aclose(self) -> None:
        """Close every connection."""
        for report in self._reports:
            report.cancel()
        await asyncio.gather(*self._reports, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()

    async def _attempt(
        self, text: Message, callback: _Request, attempt: int, left_s: float
    ) -> tuple[int, webhook.Failure]:
        """Deliver once; returns the status and how it failed, "" if it did not."""
        began = time.monotonic()
        answer: Answer | None = None
        failure: webhook.Failure
        text.warning = ""
        try:
            answer = await self._post(callback, left_s)
        except (NotSent, NoAnswer) as error:
            # A read that timed out is told from a connection that failed or broke.
            waited = isinstance(error, NoAnswer) and isinstance(error.__cause__, TimeoutError)
            failure = "rt" if waited else "ct"
            text.detail = f"no answer from the service: {error}"
        except ValueError as error:
            failure = "url"
            text.detail = f"the registered callback URL can't be used: {error}"
        else:
            failure = webhook.failure_of(answer.status)
            text.warning = webhook.judge(answer)
            if failure:
                text.detail = f"callback answered {answer.status}: {_start(answer)}"
        took_ms = (time.monotonic() - began) * 1000
        status = answer.status if answer else 0
        self._records.callbacks.append(
            Callback(
                sid=text.sid,
                at=now_iso(),
                attempt=attempt,
                status=status,
                ms=round(took_ms, 1),
                answer=_start(answer) if answer else "",
                warning=text.warning,
            )
        )
        note = text.warning or (text.detail if failure else "")
        self._records.wire("callback", f"POST {_path(callback.url)}", status, took_ms, note)
        return status, failure

    async def _post(self, callback: _Request, timeout_s: float) -> Answer:
        parts = urlsplit(callback.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("it is no http or https URL with a host")
        origin = f"{parts.scheme}://{parts.netloc}"
        client = self._clients.get(origin)
        if client is None:
            client = self._clients[origin] = Client(
                origin, connections=CONNECTIONS, connect_timeout_s=CONNECT_TIMEOUT_S
            )
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return await client.request(
            "POST", target, callback.headers, callback.body, timeout_s=timeout_s
        )


@dataclass(frozen=True, slots=True)
class _Request:
    """A signed callback; every attempt sends the same bytes. url: without its fragment."""

    url: str
    headers: dict[str, str]
    body: bytes


def _build(instance: Instance, text: Message) -> _Request:
    return _sign(instance, _form(instance, text), text.sid)


def _build_event(instance: Instance, text: Message) -> _Request:
    """Wrap a text as the platform does: what Twilio sent, and an event for it."""
    event = {
        "elementKey": instance.element,
        "eventType": "CREATED",
        "objectType": "messages",
        "objectId": text.sid,
        "newObject": describe(text, instance),
    }
    message = {
        "elementKey": instance.element,
        "instanceId": instance.id,
        "instanceName": instance.name,
        "instanceTags": instance.tags,
        "eventId": str(uuid.uuid4()),
        "raw": _form(instance, text),
        "events": [event],
    }
    body = json.dumps({"severity": "low", "message": message}).encode()
    key = instance.configuration.get(SIGNATURE_KEY, "").encode()
    signature = base64.b64encode(hmac.digest(key, body, "sha256")).decode()
    headers = {
        "Content-Type": "application/json",
        "Elements-Webhook-Signature": f"sha256={signature}",
    }
    return _Request(instance.callback_url.partition("#")[0], headers, body)


def _sign(instance: Instance, form: dict[str, str], sid: str) -> _Request:
    """Sign a form as Twilio does."""
    url = instance.callback_url.partition("#")[0]
    signature = RequestValidator(instance.auth_token).compute_signature(url, form)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "X-Twilio-Signature": signature,
        "I-Twilio-Idempotency-Token": str(uuid.uuid5(uuid.NAMESPACE_URL, sid)),
        "User-Agent": "TwilioProxy/1.1",
        "Accept": "*/*",
    }
    return _Request(url, headers, urlencode(form).encode())


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


def _start(answer: Answer) -> str:
    return answer.body[:ANSWER_KEPT_BYTES].decode(errors="replace")


def _path(url: str) -> str:
    try:
        return urlsplit(url).path or "/"
    except ValueError:
        return "(no URL)"
