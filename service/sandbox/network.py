"""The phone network: delivers texts as Twilio does, signed, to the callback URL that is registered.

Source: Twilio's documentation of inbound message parameters, webhook signatures and connection
overrides. The signature comes from Twilio's own library.
"""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qs, urlencode, urlsplit

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from service.http1 import Answer, Client, NoAnswer, NotSent
from service.sandbox.records import PREFIX, Instance, Message, Records, now_iso

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 15.0
RETRIES = 1
"""Twilio's default for connection failures; `#rc=N` in the callback URL changes it."""

CONNECTIONS = 64


class Network:
    """Delivers texts to whatever instance is registered."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._clients: dict[str, Client] = {}

    async def deliver(self, instance: Instance, text: Message) -> int:
        """POST a text's callback; returns the HTTP status, 0 when nobody answered."""
        url, _, fragment = instance.callback_url.partition("#")
        form = _form(instance, text)
        token = instance.configuration.get(f"{PREFIX}token", "")
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "X-Twilio-Signature": RequestValidator(token).compute_signature(url, form),
            "I-Twilio-Idempotency-Token": text.sid[2:],
            "User-Agent": "TwilioProxy/1.1",
            "Accept": "*/*",
        }
        body = urlencode(form).encode()
        status, detail, began = 0, "", time.perf_counter()
        for _ in range(1 + _retries(fragment)):
            attempt_began = time.perf_counter()
            try:
                answer = await self._post(url, headers, body)
            except (NotSent, NoAnswer, ValueError) as error:
                status, detail = 0, f"no answer from the service: {error}"
            else:
                status, detail = answer.status, _judge(answer)
            took_ms = (time.perf_counter() - attempt_began) * 1000
            self._note(text.sid, url, status, took_ms)
            if status:
                break
        text.state = "accepted" if status == 200 else "failed"
        took_ms = (time.perf_counter() - began) * 1000
        text.detail = detail or f"callback answered {status} in {took_ms:.0f} ms"
        self._records.changed(text)
        return status

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        client = self._clients.get(origin)
        if client is None:
            client = self._clients[origin] = Client(
                origin, connections=CONNECTIONS, connect_timeout_s=CONNECT_TIMEOUT_S
            )
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return await client.request("POST", target, headers, body, timeout_s=READ_TIMEOUT_S)

    def _note(self, sid: str, url: str, status: int, took_ms: float) -> None:
        row = {"sid": sid, "at": now_iso(), "status": status, "ms": round(took_ms, 1)}
        self._records.callbacks.append(row)
        self._records.wire("callback", f"POST {urlsplit(url).path}", status, took_ms)


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
        "NumSegments": str(max(1, -(-len(text.body) // 160))),
        "MessageSid": text.sid,
        "AccountSid": instance.configuration.get(f"{PREFIX}account", ""),
        "From": text.theirs,
        "ApiVersion": "2010-04-01",
    }
    for place, url in enumerate(text.media):
        form[f"MediaUrl{place}"] = url
        form[f"MediaContentType{place}"] = "image/jpeg"
    return form


def _retries(fragment: str) -> int:
    found = parse_qs(fragment).get("rc", [""])[0]
    return int(found) if re.fullmatch(r"[0-5]", found) else RETRIES


def _judge(answer: Answer) -> str:
    """Say what Twilio would complain about; "" when it would be content."""
    if answer.status != 200:
        return f"the service answered {answer.status}: {answer.body[:80].decode(errors='replace')}"
    if "content-type" not in answer.headers:
        return "Twilio error 12300: no content type"
    if not answer.body.strip():
        return "Twilio error 11200: empty answer"
    if not re.match(rb"\s*(<\?xml[^>]*>\s*)?<Response", answer.body):
        return "Twilio would text this answer to the sender: it is not TwiML"
    return ""
