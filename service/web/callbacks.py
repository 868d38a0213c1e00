"""The door: one callback in, one answer out.

A bare ASGI callable, as every millisecond here is paid for each text that arrives, with a shorter
way in for callbacks that arrive whole (`take`, used by `connections`); what both decide is decided
in `core`. The order is fixed: size, signature, account, meaning, acceptance. Nothing is stored or
logged in full before the signature is verified, and 200 is said only after the inbox has confirmed.

Three callers are told apart, and each is verified by its own rule: Twilio, by X-Twilio-Signature
(a form for an inbound text, a form with MessageStatus for the report on a reply, JSON with its
digest in the query), and the platform, which relays events as JSON with Elements-Webhook-Signature.
What they announce is the same from there on, and taken once whoever announces it first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from traceback import extract_tb
from typing import Protocol, cast

import structlog

from service.core import forms, json_callback
from service.core.callback import check_account, is_status, parse_inbound, parse_status
from service.core.forms import Pairs
from service.core.masking import mask_number
from service.core.metrics import ACKNOWLEDGEMENT_BOUNDS
from service.core.signature import Verifier
from service.core.signature_hints import explain
from service.core.tally import Histogram
from service.errors import (
    AccountRejected,
    CallbackIncomplete,
    CallbackTooLarge,
    StoreError,
    StoreUnavailable,
)
from service.model import DeliveryStatus, Message
from service.web import answers
from service.web.answers import Answer, Receive, Scope, Send
from service.web.limits import Deadlines, TaskDeadline, TokenBucket
from service.web.request import FORM, JSON, Headers, media_type, read_body

log = structlog.get_logger()

Arrival = Message | DeliveryStatus
"""What a callback announces."""

BODY_LIMIT_BYTES = 64 * 1024
"""Body and query together. Twilio's forms have 0.6 to 6 kB; add-on results make the longest."""

IN_FLIGHT_LIMIT = 1000
"""Callbacks between first byte and answer in one process; each may hold a body in memory."""

TIMEOUT_S = 10.0
"""For reading the body and for the inbox together. Twilio gives up after 15 s; before that it
should have had an answer that it can act upon. Kept to a quarter, see `limits.Deadlines`."""

SIGNATURE_LENGTHS = {28, 44}
"""Characters of a SHA-1 and of a SHA-256 in base64: of X-Twilio-Signature, by its key."""

LOGGED_TYPE_BYTES = 80
"""As much of a stranger's Content-Type is logged; real ones are shorter."""

RETRY_AFTER_S = 2
"""Said when we are full or failing ourselves; Redis's errors bring their own."""

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


@dataclass(slots=True)
class Counters:
    """What became of callbacks since the start; each callback counts in exactly one.

    Ends of a request that never became an answer (a caller gone while sending) are not counted.
    """

    accepted: int = 0
    duplicates: int = 0
    statuses: int = 0
    bad_signature: int = 0
    foreign_account: int = 0
    incomplete: int = 0
    too_large: int = 0
    too_slow: int = 0
    unsupported: int = 0
    wrong_method: int = 0
    busy: int = 0
    unavailable: int = 0
    failed: int = 0


class Door:
    """Answers Twilio's callbacks.

    verifier: for the registered URL. account: our AccountSid. inbox: where messages go.
    event_key: what the platform signs its events with; "" refuses them all.
    body_limit_bytes: of body and query together. in_flight_limit: callbacks at once.
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
        event_key: str = "",
        body_limit_bytes: int = BODY_LIMIT_BYTES,
        in_flight_limit: int = IN_FLIGHT_LIMIT,
        timeout_s: float = TIMEOUT_S,
        warnings_per_s: float = 1.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.counters = Counters()
        self.acknowledged = Histogram(ACKNOWLEDGEMENT_BOUNDS)
        self.in_flight = 0
        self._verifier = verifier
        self._account = account
        self._inbox = inbox
        self._event_key = event_key
        self._body_limit_bytes = body_limit_bytes
        self._in_flight_limit = in_flight_limit
        self._timeout_s = timeout_s
        self._deadlines = Deadlines(timeout_s)
        self._now = now
        # Apart, so that a flood of strangers' requests hides nothing that Twilio signed.
        self._unsigned = TokenBucket(warnings_per_s)
        self._strangers = TokenBucket(warnings_per_s)
        self._events = TokenBucket(warnings_per_s)
        self._misfits = {status: TokenBucket(warnings_per_s) for status in (405, 408, 413, 415)}
        self._crowds = TokenBucket(warnings_per_s)
        self._refusals = TokenBucket(warnings_per_s)
        self._failures = TokenBucket(warnings_per_s)
        self._undelivered = TokenBucket(warnings_per_s)
        self._not_allowed = answers.not_allowed("GET", "POST")
        self._busy = answers.unavailable(b"too many callbacks at once", RETRY_AFTER_S)
        self._failed = answers.unavailable(b"not accepted", RETRY_AFTER_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, whatever its path."""
        began = time.monotonic()
        if self.in_flight >= self._in_flight_limit:
            answer: Answer | None = self._turn_away()
        else:
            self.in_flight += 1
            try:
                answer = await self._serve(scope, receive)
            except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
                answer = self._fail(error)
            finally:
                self.in_flight -= 1
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
            reply(self._turn_away())
            return
        self.in_flight += 1
        owed = _Owed(reply, self._give_up)
        try:
            judged = self._judge_post(query, content_type, signature, body)
            if not isinstance(judged, Answer):
                self._deadlines.begin(owed)
                self._inbox.offer(judged, partial(self._hear, owed, judged))
                return
        except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
            judged = self._fail(error)
        self._settle(owed, judged)

    def _hear(
        self,
        owed: _Owed,
        arrival: Arrival,
        new: bool,  # noqa: FBT001
        error: StoreError | None,
    ) -> None:
        """Hear from the inbox what became of an arrival; too late, it is nothing new to Twilio."""
        if owed.reply is not None:
            answer = self._accepted(arrival, new=new) if error is None else self._fail(error)
            self._settle(owed, answer)

    def _give_up(self, owed: _Owed) -> None:
        self._settle(owed, self._fail(TimeoutError()))

    def _settle(self, owed: _Owed, answer: Answer) -> None:
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
            self.counters.wrong_method += 1
            self._warn(self._misfits[405], "callback of a wrong method refused", method=method)
            return self._not_allowed
        headers = Headers.read(scope)
        room = self._body_limit_bytes - len(query)
        if room < 0 or (headers.length is not None and headers.length > room):
            return self._refuse_size()
        posted = method == "POST"
        sent_as = media_type(headers.content_type) if posted else FORM
        if sent_as not in {FORM, JSON}:
            return self._refuse_type(headers.content_type)
        body = None if posted else b""
        deadline = TaskDeadline(cast("asyncio.Task[object]", asyncio.current_task()))
        self._deadlines.begin(deadline)
        try:
            if body is None:
                body = await read_body(receive, room)
                if body is None:
                    return None
            if sent_as == JSON:
                judged = self._judge_json(query, body, headers)
            else:
                pairs = forms.parse(body if posted else query)
                one = self._judge(
                    query,
                    body,
                    pairs,
                    pairs if posted else (),
                    headers.signature,
                    signed_with=headers.signed_with,
                )
                judged = one if isinstance(one, Answer) else (one,)
            if isinstance(judged, Answer):
                return judged
            # One after another, as texts of one conversation may be among them.
            news = [(each, await self._inbox.accept(each)) for each in judged]
            newest = next((each for each in news if each[1]), news[0])
            return self._accepted(newest[0], new=newest[1])
        except asyncio.CancelledError:
            if not deadline.forgive():
                raise
            if body is not None:
                raise TimeoutError from None
            self.counters.too_slow += 1
            self._warn(self._misfits[408], "callback refused: its body did not arrive in time")
            return answers.TOO_SLOW
        finally:
            self._deadlines.end(deadline)

    def _judge_post(
        self, query: bytes, content_type: bytes, signature: bytes | None, body: bytes
    ) -> Answer | Arrival:
        """Judge a POST of a form whose body is there."""
        if len(query) + len(body) > self._body_limit_bytes:
            return self._refuse_size()
        if content_type != FORM and media_type(content_type) != FORM:
            return self._refuse_type(content_type)
        pairs = forms.parse(body)
        return self._judge(query, body, pairs, pairs, signature)

    def _judge(
        self,
        query: bytes,
        body: bytes,
        pairs: Pairs,
        signed: Pairs,
        signature: bytes | None,
        *,
        signed_with: bytes | None = None,
    ) -> Answer | Arrival:
        """Verify, check and parse: what to accept, or the answer if there is nothing.

        pairs: the parameters. signed: those the signature covers apart from the URL.
        """
        if not self._verifier.verify(query, signed, signature, signed_with):
            self._refuse(query, body, signature, signed_with)
            return answers.FORBIDDEN
        fields = dict(pairs)
        check_account(fields, self._account)
        return self._parse(fields)

    def _judge_json(
        self, query: bytes, body: bytes, headers: Headers
    ) -> Answer | Sequence[Arrival]:
        """Do the same for a body of JSON, which may announce several."""
        event = headers.event_signature is not None
        if event:
            genuine = bool(self._event_key) and json_callback.verify_event(
                self._event_key, body, headers.event_signature
            )
            if not genuine:
                self.counters.bad_signature += 1
                self._warn_of_event(len(body))
                return answers.FORBIDDEN
        elif not self._verifier.verify_json(query, body, headers.signature, headers.signed_with):
            self._refuse(query, body, headers.signature, headers.signed_with)
            return answers.FORBIDDEN
        found = json_callback.read(body)
        for fields in found:
            if event:
                # The platform knows us by its own account; whose texts these are, its key says.
                fields.setdefault("AccountSid", self._account)
            check_account(fields, self._account)
        return [self._parse(fields) for fields in found]

    def _parse(self, fields: Mapping[str, str]) -> Arrival:
        return parse_status(fields) if is_status(fields) else parse_inbound(fields, self._now())

    def _accepted(self, arrival: Arrival, *, new: bool) -> Answer:
        if not new:
            self.counters.duplicates += 1
        elif isinstance(arrival, Message):
            self.counters.accepted += 1
        else:
            self.counters.statuses += 1
            if arrival.status in UNDELIVERED:
                self._warn(
                    self._undelivered,
                    "a reply did not reach its phone",
                    sid=arrival.sid,
                    status=arrival.status,
                    twilio_error=arrival.error_code,
                    to=mask_number(arrival.to),
                )
        return answers.ACCEPTED

    def _fail(self, error: Exception) -> Answer:
        """Turn an error into its answer."""
        if isinstance(error, CallbackTooLarge):
            return self._refuse_size()
        if isinstance(error, AccountRejected):
            self.counters.foreign_account += 1
            self._warn(self._refusals, "callback for another account refused", reason=str(error))
            return answers.FORBIDDEN
        if isinstance(error, CallbackIncomplete):
            self.counters.incomplete += 1
            self._warn(self._refusals, "incomplete callback refused", reason=str(error))
            return answers.answer(error.status, str(error).encode())
        if isinstance(error, StoreUnavailable):
            self.counters.unavailable += 1
            self._warn(self._failures, "callback not accepted", reason=str(error))
            return answers.unavailable(b"try again later", error.retry_after_s)
        if isinstance(error, TimeoutError):
            self.counters.unavailable += 1
            reason = f"not confirmed within {self._timeout_s:g} s"
            self._warn(self._failures, "callback not accepted", reason=reason)
            return self._failed
        self.counters.failed += 1
        # Its text may quote a message, so only its class and its place are told.
        frames = [f"{frame.name}:{frame.lineno}" for frame in extract_tb(error.__traceback__)]
        self._warn(
            self._failures, "callback failed", error=type(error).__name__, where=" > ".join(frames)
        )
        return self._failed

    def _turn_away(self) -> Answer:
        self.counters.busy += 1
        limit = str(self._in_flight_limit)
        self._warn(self._crowds, "callback not accepted: too many at once", limit=limit)
        return self._busy

    def _refuse_size(self) -> Answer:
        self.counters.too_large += 1
        limit = str(self._body_limit_bytes)
        self._warn(self._misfits[413], "callback too large refused", limit_bytes=limit)
        return answers.TOO_LARGE

    def _refuse_type(self, content_type: bytes) -> Answer:
        self.counters.unsupported += 1
        said = ascii(content_type[:LOGGED_TYPE_BYTES].decode("latin-1"))
        self._warn(self._misfits[415], "callback of a wrong type refused", content_type=said)
        return answers.UNSUPPORTED

    def _refuse(
        self, query: bytes, body: bytes, signature: bytes | None, signed_with: bytes | None
    ) -> None:
        """Count a signature, and log why it was refused.

        Not, if one was a moment ago: finding out takes time.
        """
        self.counters.bad_signature += 1
        # A scanner's requests carry none, or none that could be: they hide no setting gone wrong.
        signed = signature is not None and len(signature) in SIGNATURE_LENGTHS
        bucket = self._strangers if signed else self._unsigned
        suppressed = bucket.take(time.monotonic())
        if suppressed is None:
            return
        url = f"{self._verifier.address.url}?{query.decode('utf-8', 'replace')}"
        verifier = self._verifier
        hint = explain(
            url,
            body,
            signature,
            verifier.auth_tokens,
            signed_with=signed_with,
            shared_keys=verifier.shared_keys,
        )
        # What is a form for itself may have been sent as JSON.
        said = ("It is signed as a form, and sent as JSON.",) if hint.matched else hint.lines
        log.warning(
            "signature refused",
            hint=" ".join(said),
            registered_url=self._verifier.address.url,
            body_bytes=len(body),
            suppressed=suppressed,
        )

    def _warn_of_event(self, body_bytes: int) -> None:
        hint = (
            "EVENT_SIGNATURE_KEY is not the event.notification.signature.key of the instance, "
            "or the body was changed on its way."
            if self._event_key
            else "Set EVENT_SIGNATURE_KEY to the event.notification.signature.key of the instance."
        )
        suppressed = self._events.take(time.monotonic())
        if suppressed is not None:
            log.warning(
                "signature of an event refused",
                hint=hint,
                body_bytes=body_bytes,
                suppressed=suppressed,
            )

    @staticmethod
    def _warn(bucket: TokenBucket, event: str, **facts: str) -> None:
        suppressed = bucket.take(time.monotonic())
        if suppressed is not None:
            log.warning(event, **facts, suppressed=suppressed)


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
