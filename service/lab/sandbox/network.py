"""The phone network: delivers texts as Twilio does, signed, to the callback URL that is registered.

Source: Twilio's documentation of connection overrides.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from service.lab.http1 import Answer, Client, NoAnswer, NotSent
from service.lab.sandbox import webhook
from service.lab.sandbox.announcements import (
    Announcement,
    build_callback,
    build_event,
    build_report,
)
from service.lab.sandbox.instance import Instance
from service.lab.sandbox.loopback import is_loopback
from service.lab.sandbox.message import Callback, Message, now_iso
from service.lab.sandbox.records import NOTE_CHARACTERS, Records
from service.lab.sandbox.wire import Exchange

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 15.0
"""Twilio's limit on one attempt, and on all of them together."""

CONNECTIONS = 64
"""Callbacks under way at once; more texts than that wait their turn."""

ANSWER_KEPT_BYTES = 200

ORIGINS = 16
"""Services with kept connections; the one that was first called is let go first."""

REPORTS = 10_000
"""Reports on replies under way; of further replies nothing is reported."""


class Network:
    """Delivers texts to whatever instance is registered.

    public: it may call beyond this machine. total_timeout_s: for one attempt, and for all of a
    callback's together.
    """

    def __init__(
        self, records: Records, *, public: bool = False, total_timeout_s: float = TOTAL_TIMEOUT_S
    ) -> None:
        self._records = records
        self._public = public
        self._total_timeout_s = total_timeout_s
        self._clients: dict[str, Client] = {}
        self._reports: set[asyncio.Task[None]] = set()

    async def deliver(self, instance: Instance, text: Message) -> int:
        """POST a text's callback, again where Twilio would; or the platform's event for it.

        Returns the last attempt's HTTP status, 0 when nobody answered; the text says the rest.
        """
        status = 0
        relay = self._records.switches.relay
        if relay == "polled":
            text.state, text.detail = "accepted", "the next poll tells the service of it"
            self._records.changed(text)
            return status
        if relay != "off":
            status = await self._deliver(instance, text, build_event(instance, text))
        if relay != "instead":
            status = await self._deliver(instance, text, build_callback(instance, text))
        return status

    def report(self, instance: Instance, reply: Message) -> None:
        """Tell the service what became of its reply, where it asked or that is switched on."""
        last = self._records.switches.status_callbacks
        if last == "off" and reply.status_callback:
            last = "delivered"
        if last == "off" or len(self._reports) >= REPORTS:
            return
        task = asyncio.get_running_loop().create_task(self._report(instance, reply, last))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def announce(self, announcement: Announcement, note: str) -> tuple[int, str]:
        """POST once; note: what it is, for the wire log.

        Returns the status, 0 without an answer, and what was wrong, "" for nothing.
        """
        began = time.monotonic()
        answer: Answer | None = None
        try:
            answer = await self._post(announcement, self._total_timeout_s)
        except (NotSent, NoAnswer, ValueError) as error:
            wrong = str(error)[:NOTE_CHARACTERS]
        else:
            wrong = f"answered {answer.status}" if webhook.failure_of(answer.status) else ""
        status = answer.status if answer else 0
        took_ms = (time.monotonic() - began) * 1000
        summary = f"{note}: POST {_path(announcement.url)}"
        exchange = _exchange(announcement, answer)
        self._records.wire("callback", summary, status, took_ms, exchange, note=wrong)
        return status, wrong

    async def _report(self, instance: Instance, reply: Message, last: str) -> None:
        for state in ("sent", last):
            await self.announce(build_report(instance, reply, state), state)

    async def _deliver(self, instance: Instance, text: Message, callback: Announcement) -> int:
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
        self, text: Message, callback: Announcement, attempt: int, left_s: float
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
            text.detail = f"no answer from the service: {error}"[:NOTE_CHARACTERS]
        except ValueError as error:
            failure = "url"
            text.detail = f"the registered callback URL can't be used: {error}"[:NOTE_CHARACTERS]
        else:
            failure = webhook.failure_of(answer.status)
            text.warning = webhook.judge(answer)[:NOTE_CHARACTERS]
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
        exchange = _exchange(callback, answer)
        summary = f"POST {_path(callback.url)}"
        self._records.wire("callback", summary, status, took_ms, exchange, note=note)
        return status, failure

    async def _post(self, callback: Announcement, timeout_s: float) -> Answer:
        parts = urlsplit(callback.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("it is no http or https URL with a host")
        if not self._public and not is_loopback(parts.hostname):
            raise ValueError(
                "it leads beyond this machine; the sandbox calls there with `parley sandbox "
                "--public` alone"
            )
        client = await self._client(f"{parts.scheme}://{parts.netloc}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return await client.request(
            "POST", target, callback.headers, callback.body, timeout_s=timeout_s
        )

    async def _client(self, origin: str) -> Client:
        client = self._clients.get(origin)
        if client is None:
            client = self._clients[origin] = Client(
                origin, connections=CONNECTIONS, connect_timeout_s=CONNECT_TIMEOUT_S
            )
            if len(self._clients) > ORIGINS:
                await self._clients.pop(next(iter(self._clients))).aclose()
        return client


def _exchange(announcement: Announcement, answer: Answer | None) -> Exchange:
    if answer is None:
        return Exchange(announcement.headers, announcement.body)
    return Exchange(announcement.headers, announcement.body, answer.headers, answer.body)


def _start(answer: Answer) -> str:
    return answer.body[:ANSWER_KEPT_BYTES].decode(errors="replace")


def _path(url: str) -> str:
    try:
        return urlsplit(url).path or "/"
    except ValueError:
        return "(no URL)"
