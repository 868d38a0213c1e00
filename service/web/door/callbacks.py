"""The door: one callback in, one answer out.

A bare ASGI callable, as every millisecond here is paid for each text that arrives, with a shorter
way in for callbacks that arrive whole (`take`, used by `connections`); what both decide is decided
in `judging`. The order is fixed: size, signature, account, meaning, acceptance. Nothing is stored
or logged in full before the signature is verified; 200 is said only after the inbox has confirmed.

A callback that has arrived whole counts against `in_flight_limit`; one that has not does not, so
that nobody is turned away for a caller who sends slowly. What is announced is taken once, whoever
announces it first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, cast

from service.core.masking import mask_number
from service.core.metrics import ACKNOWLEDGEMENT_BOUNDS
from service.core.tally import Histogram
from service.core.twilio.signature import Verifier
from service.errors import CallbackTooLarge, StoreError
from service.host.answers import Answer, Receive, Scope, Send
from service.model import DeliveryStatus, Message
from service.web.door import answers
from service.web.door.events import Events
from service.web.door.judging import Arrival, Callback, Judge
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

UNDELIVERED = frozenset({"failed", "undelivered"})

Reply = Callable[[Answer], None]
"""Sends an answer; must not raise."""


class Inbox(Protocol):
    """Where accepted messages go: `service.store.inbox.Inbox`."""

    async def accept(self, arrival: Arrival) -> bool:
        """Keep what arrived; True when it is new, False when it was accepted before.

        Raises StoreUnavailable, of which StoreFull is one.
        """

    def offer(self, arrival: Arrival, done: Callable[[bool, StoreError | None], None], /) -> None:
        """Do the same, and call `done` once, later, with the result or the error.

        Raises StoreUnavailable; `done` is not called then.
        """


class Door:
    """Answers Twilio's callbacks.

    verifier: for the registered URL. account: our AccountSid. inbox: where messages go.
    events: takes those of the platform.
    body_limit_bytes: of body and query together. in_flight_limit: whole callbacks at once.
    timeout_s: longest wait for the caller's body and the inbox together: 408 or 503, by whose
        fault it is.
    warnings_per_s: log lines about refusals and failures, of each kind.
    now: the time a message is received at, aware and UTC.
    acknowledged: seconds from a callback's arrival to its 200.
    """

    def __init__(
        self,
        verifier: Verifier,
        account: str,
        inbox: Inbox,
        *,
        events: Events,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
        in_flight_limit: int = IN_FLIGHT_LIMIT,
        timeout_s: float = TIMEOUT_S,
        warnings_per_s: float = 1.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.acknowledged = Histogram(ACKNOWLEDGEMENT_BOUNDS)
        self.in_flight = 0
        self._inbox = inbox
        self._events = events
        self._body_limit_bytes = body_limit_bytes
        self._in_flight_limit = in_flight_limit
        self._deadlines = Deadlines(timeout_s)
        self._judge = Judge(verifier, account, now)
        self._now = now
        self._refuse = Refusals(
            verifier,
            body_limit_bytes=body_limit_bytes,
            in_flight_limit=in_flight_limit,
            timeout_s=timeout_s,
            warnings_per_s=warnings_per_s,
        )

    @property
    def counters(self) -> Counters:
        """What became of callbacks since the start."""
        return self._refuse.counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, whatever its path."""
        began = time.monotonic()
        try:
            answer = await self._serve(scope, receive)
        except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
            answer = self._refuse.error(error)
        self._observe(answer, began)
        if answer is not None:
            await answer.send(send)

    def take(
        self,
        query: bytes,
        content_type: bytes,
        signature: bytes | None,
        body: bytes,
        reply: Reply,
    ) -> None:
        """Serve a POST whose body is there, without a task of its own.

        query: after the "?". signature: value of X-Twilio-Signature.
        reply: called once with the answer, now or later.
        """
        if self.in_flight >= self._in_flight_limit:
            reply(self._refuse.crowd())
            return
        self.in_flight += 1
        owed = _Owed(reply, self._give_up)
        try:
            if len(query) + len(body) > self._body_limit_bytes:
                answer = self._refuse.size()
            elif content_type != FORM and media_type(content_type) != FORM:
                answer = self._refuse.media_type(content_type)
            else:
                arrival = self._judge.judge_form(query, body, signature)
                self._deadlines.begin(owed)
                self._inbox.offer(arrival, partial(self._hear, owed, arrival))
                return
        except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
            headers = Headers(content_type=content_type, signature=signature)
            answer = self._refuse.error(error, Callback("POST", query, body, headers))
        self._answer(owed, answer)

    def _hear(
        self,
        owed: _Owed,
        arrival: Arrival,
        new: bool,  # noqa: FBT001
        error: StoreError | None,
    ) -> None:
        """Hear from the inbox what became of an arrival; too late, it is nothing new to Twilio."""
        if owed.reply is not None:
            if error is None:
                answer = self._accepted(arrival, new=new)
            else:
                answer = self._refuse.error(error)
            self._answer(owed, answer)

    def _give_up(self, owed: _Owed) -> None:
        self._answer(owed, self._refuse.lateness())

    def _answer(self, owed: _Owed, answer: Answer) -> None:
        reply, owed.reply = owed.reply, None
        self._deadlines.end(owed)
        self.in_flight -= 1
        self._observe(answer, owed.began)
        if reply is not None:
            reply(answer)

    def _observe(self, answer: Answer | None, began: float) -> None:
        if answer is answers.ACCEPTED:
            self.acknowledged.observe(time.monotonic() - began)

    async def _serve(self, scope: Scope, receive: Receive) -> Answer | None:
        """Read the request and decide; None when the caller left before it was complete."""
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
            return await self._serve_whole(Callback(method, query, body, headers), sent_as, event)
        except CallbackTooLarge:
            return self._refuse.size(limit_bytes)
        except asyncio.CancelledError:
            if not deadline.forgive():
                raise
            return self._refuse.slowness() if body is None else self._refuse.lateness()
        finally:
            self._deadlines.end(deadline)

    async def _serve_whole(self, callback: Callback, sent_as: bytes, event: bool) -> Answer:  # noqa: FBT001
        """Decide about a callback that is there."""
        if self.in_flight >= self._in_flight_limit:
            return self._refuse.crowd()
        self.in_flight += 1
        try:
            if event:
                news = await self._events.take(callback.body, callback.headers, self._now)
                return self._answer_event(news)
            # One after another, as texts of one conversation may be among them.
            taken = [
                (each, await self._inbox.accept(each))
                for each in self._judge.judge(callback, sent_as)
            ]
            newest = next((each for each in taken if each[1]), taken[0])
            return self._accepted(newest[0], new=newest[1])
        except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
            return self._refuse.error(error, callback)
        finally:
            self.in_flight -= 1

    def _accepted(self, arrival: Arrival, *, new: bool) -> Answer:
        if not new:
            self.counters.duplicates += 1
        elif isinstance(arrival, Message):
            self.counters.accepted += 1
        else:
            self.counters.statuses += 1
            self._hear_of(arrival)
        return answers.ACCEPTED

    def _answer_event(self, news: Sequence[tuple[Arrival, bool]] | None) -> Answer:
        """Answer an event by what was taken of it, None for a forged one. It is counted once."""
        if news is None:
            self.counters.bad_signature += 1
            return answers.FORBIDDEN
        new = [arrival for arrival, is_new in news if is_new]
        reports = [arrival for arrival in new if isinstance(arrival, DeliveryStatus)]
        for report in reports:
            self._hear_of(report)
        if len(new) > len(reports):
            self.counters.accepted += 1
        elif reports:
            self.counters.statuses += 1
        elif news:
            self.counters.duplicates += 1
        else:
            self.counters.not_ours += 1
        return answers.ACCEPTED

    def _hear_of(self, report: DeliveryStatus) -> None:
        """Tell of a reply that was lost on its way to the phone."""
        if report.status in UNDELIVERED:
            self._refuse.warn(
                "a reply did not reach its phone",
                sid=report.sid,
                status=report.status,
                twilio_error=report.error_code,
                to=mask_number(report.to),
            )


class _Owed:
    """An answer that is owed for a callback taken.

    reply: sends it; None once it is sent. give_up: called when its time is up.
    began: when the callback was there, time.monotonic().
    """

    __slots__ = ("began", "give_up", "reply")

    def __init__(self, reply: Reply, give_up: Callable[[_Owed], None]) -> None:
        self.reply: Reply | None = reply
        self.give_up = give_up
        self.began = time.monotonic()

    def expire(self) -> None:
        """Stop waiting for the inbox."""
        self.give_up(self)
