"""The door: one callback in, one answer out, by one of two ways.

A bare ASGI callable, as every millisecond here is paid for each text that arrives, with a shorter
way in for callbacks that arrive whole (`take`, used by `connections`). Both read a request and hand
it on: `judging` says who sent it and what it announces, `answering` keeps that and answers, and
`refusals` says why not. From the judgement on there is one path. The order is fixed: size,
signature, account, meaning, acceptance. Nothing is stored or logged in full before the signature is
verified; 200 is said only after the inbox has confirmed. A service that is not set up knows no
signature, so its door is shut: each callback is answered 503, and nothing of it is looked at.

A callback that has arrived whole counts against `in_flight_limit`; one that has not does not, so
that nobody is turned away for a caller who sends slowly. What is announced is taken once, whoever
announces it first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import cast

from service.core.tally import Histogram
from service.core.twilio.signature import Verifier
from service.errors import CallbackTooLarge
from service.host.answers import Answer, Receive, Scope, Send
from service.web.door import answers
from service.web.door.answering import Answering, CallbackSink, Respond
from service.web.door.events import Events
from service.web.door.judging import Callback, Judge
from service.web.door.limits import Deadlines, TaskDeadline
from service.web.door.refusals import Counters, Refusals
from service.web.door.request import FORM, JSON, Headers, media_type, read_body

BODY_LIMIT_BYTES = 64 * 1024
"""Body and query together. Twilio's forms have 0.6 to 6 kB; add-on results make the longest."""

IN_FLIGHT_LIMIT = 1000
"""Callbacks between their last byte and their answer in one process."""

TIMEOUT_S = 10.0
"""For reading the body and for the inbox together. Twilio gives up after 15 s; before that it
should have had an answer that it can act upon. Kept to a quarter, see `limits.Deadlines`."""


class Door:
    """Answers Twilio's callbacks.

    verifier: for the registered URL; None while it is not known: the door is shut until `turn_to`.
    account: our AccountSid. inbox: where messages go.
    events: takes those of the platform.
    body_limit_bytes: of body and query together. in_flight_limit: whole callbacks at once.
    timeout_s: longest wait for the caller's body and the inbox together: 408 or 503, by whose
        fault it is.
    warnings_per_s: log lines about refusals and failures, of each kind.
    now: the time a message is received at, aware and UTC.
    """

    def __init__(
        self,
        verifier: Verifier | None,
        account: str,
        inbox: CallbackSink,
        *,
        events: Events,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
        in_flight_limit: int = IN_FLIGHT_LIMIT,
        timeout_s: float = TIMEOUT_S,
        warnings_per_s: float = 1.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._events = events
        self._body_limit_bytes = body_limit_bytes
        self._deadlines = Deadlines(timeout_s)
        self._judge = Judge(verifier, account, now) if verifier is not None else None
        self._now = now
        self._refuse = Refusals(
            verifier,
            body_limit_bytes=body_limit_bytes,
            in_flight_limit=in_flight_limit,
            timeout_s=timeout_s,
            warnings_per_s=warnings_per_s,
        )
        self._answering = Answering(inbox, self._refuse, self._deadlines, in_flight_limit)

    def turn_to(self, verifier: Verifier, account: str, *, sender: str, event_key: str) -> None:
        """Open for callbacks of this account, signed so, and for events, from now on.

        sender: our number. event_key: what the platform signs events with.
        """
        self._judge = Judge(verifier, account, self._now)
        self._refuse.verifier = verifier
        self._events.turn_to(event_key, account=account, sender=sender)

    @property
    def counters(self) -> Counters:
        """What became of callbacks since the start."""
        return self._refuse.counters

    @property
    def in_flight(self) -> int:
        """Whole callbacks that have no answer yet."""
        return self._answering.in_flight

    @property
    def acknowledged(self) -> Histogram:
        """Seconds from a callback's arrival to its 200."""
        return self._answering.acknowledged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, whatever its path."""
        try:
            answer = await self._serve(scope, receive)
        except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
            answer = self._refuse.error(error)
        if answer is not None:
            await answer.send(send)

    def take(
        self,
        query: bytes,
        content_type: bytes,
        signature: bytes | None,
        body: bytes,
        respond: Respond,
    ) -> None:
        """Serve a POST whose body is there, without a task of its own.

        query: after the "?". signature: value of X-Twilio-Signature.
        respond: called once with the answer, now or later.
        """
        judge = self._judge
        if judge is None:
            respond(self._refuse.shut())
        elif len(query) + len(body) > self._body_limit_bytes:
            respond(self._refuse.size())
        elif content_type != FORM and media_type(content_type) != FORM:
            respond(self._refuse.media_type(content_type))
        elif (owed := self._answering.owe(respond, time.monotonic())) is not None:
            try:
                self._answering.keep(owed, (judge.judge_form(query, body, signature),))
            except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
                headers = Headers(content_type=content_type, signature=signature)
                refused = Callback("POST", query, body, headers)
                self._answering.answer(owed, self._refuse.error(error, refused))

    async def _serve(self, scope: Scope, receive: Receive) -> Answer | None:
        """Read the request and decide; None when the caller left before it was complete."""
        if self._judge is None:
            return self._refuse.shut()
        query: bytes = scope["query_string"]
        method = scope["method"]
        if method not in {"POST", "GET"}:
            return self._refuse.method(method)
        headers = Headers.read(scope)
        sent_as = media_type(headers.content_type) if method == "POST" else FORM
        event = sent_as == JSON and headers.event_signature is not None
        limit_bytes = self._events.limit_bytes if event else self._body_limit_bytes
        room = limit_bytes - len(query)
        if room < 0 or (headers.length is not None and headers.length > room):
            return self._refuse.size(limit_bytes)
        if sent_as not in {FORM, JSON}:
            return self._refuse.media_type(headers.content_type)
        if event and not self._events.may_be_genuine(headers):
            self.counters.bad_signature += 1
            return answers.FORBIDDEN_UNREAD
        body = None if method == "POST" else b""
        deadline = TaskDeadline(cast("asyncio.Task[object]", asyncio.current_task()))
        self._deadlines.begin(deadline)
        try:
            if body is None:
                reading = (
                    self._events.read(receive, headers, room) if event else read_body(receive, room)
                )
                body = await reading
                if body is None:
                    return None
            callback = Callback(method, query, body, headers)
            if event:
                return await self._take_event(callback, deadline.began)
        except CallbackTooLarge:
            return self._refuse.size(limit_bytes)
        except asyncio.CancelledError:
            if not deadline.forgive():
                raise
            return self._refuse.slowness() if body is None else self._refuse.lateness()
        finally:
            self._deadlines.end(deadline)
        return await self._take_whole(self._judge, callback, sent_as, deadline.began)

    async def _take_whole(
        self, judge: Judge, callback: Callback, sent_as: bytes, began: float
    ) -> Answer:
        """Take a callback that is there, and say what it is answered. sent_as: FORM or JSON."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        owed = self._answering.owe(partial(_resolve, answered), began)
        if owed is not None:
            try:
                self._answering.keep(owed, judge.judge(callback, sent_as))
            except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
                self._answering.answer(owed, self._refuse.error(error, callback))
        return await answered

    async def _take_event(self, event: Callback, began: float) -> Answer:
        """Take an event of the platform, and say what it is answered."""
        answering = self._answering
        if answering.full:
            return self._refuse.crowd()
        answering.in_flight += 1
        try:
            news = await self._events.take(event.body, event.headers, self._now)
            if news is None:
                self.counters.bad_signature += 1
                return answers.FORBIDDEN
            return answering.accept_event(news, began)
        except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
            return self._refuse.error(error, event)
        finally:
            answering.in_flight -= 1


def _resolve(answered: asyncio.Future[Answer], answer: Answer) -> None:
    if not answered.done():
        answered.set_result(answer)
