"""The door: one callback in, one answer out.

A bare ASGI callable, as every millisecond here is paid for each text that arrives, with a shorter
way in for callbacks that arrive whole (`take`, used by `connections`); what both decide is decided
in `core`. The order is fixed: size, signature, account, meaning, acceptance. Nothing is stored or
logged in full before the signature is verified, and 200 is said only after the inbox has confirmed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from traceback import extract_tb
from typing import Protocol, cast

import structlog

from service.core import forms
from service.core.callback import check_account, is_status, parse_inbound
from service.core.forms import Pairs
from service.core.signature import Verifier
from service.core.signature_hints import explain
from service.errors import (
    AccountRejected,
    CallbackIncomplete,
    CallbackTooLarge,
    StoreError,
    StoreUnavailable,
)
from service.model import Message
from service.web import answers
from service.web.answers import Answer, AsgiMessage, Receive, Scope, Send
from service.web.limits import Deadlines, TaskDeadline, TokenBucket

log = structlog.get_logger()

FORM = b"application/x-www-form-urlencoded"

BODY_LIMIT_BYTES = 64 * 1024
"""Body and query together. Twilio's forms have 0.6 to 6 kB; add-on results make the longest."""

IN_FLIGHT_LIMIT = 1000
"""Callbacks between first byte and answer in one process; each may hold a body in memory."""

TIMEOUT_S = 10.0
"""For reading the body and for the inbox together. Twilio gives up after 15 s; before that it
should have had an answer that it can act upon. Kept to a quarter, see `limits.Deadlines`."""

RETRY_AFTER_S = 2
"""Said when we are full or failing ourselves; Redis's errors bring their own."""

Reply = Callable[[Answer], None]
"""Sends an answer; must not raise."""


class Inbox(Protocol):
    """Where accepted messages go: `service.store.inbox.Inbox`."""

    async def accept(self, message: Message) -> bool:
        """Keep the message; True when it is new, False when it was accepted before.

        Raises StoreUnavailable, of which StoreFull is one.
        """

    def offer(self, message: Message, done: Callable[[bool, StoreError | None], None], /) -> None:
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
    body_limit_bytes: of body and query together. in_flight_limit: callbacks at once.
    timeout_s: longest wait for the caller's body and the inbox together: 408 or 503, by whose
        fault it is.
    warnings_per_s: log lines about refusals and failures, of each kind.
    now: the time a message is received at, aware and UTC.
    """

    def __init__(
        self,
        verifier: Verifier,
        account: str,
        inbox: Inbox,
        *,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
        in_flight_limit: int = IN_FLIGHT_LIMIT,
        timeout_s: float = TIMEOUT_S,
        warnings_per_s: float = 1.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.counters = Counters()
        self.in_flight = 0
        self._verifier = verifier
        self._account = account
        self._inbox = inbox
        self._body_limit_bytes = body_limit_bytes
        self._in_flight_limit = in_flight_limit
        self._timeout_s = timeout_s
        self._deadlines = Deadlines(timeout_s)
        self._now = now
        # Apart, so that a flood of strangers' requests hides nothing that Twilio signed.
        self._strangers = TokenBucket(warnings_per_s)
        self._refusals = TokenBucket(warnings_per_s)
        self._failures = TokenBucket(warnings_per_s)
        self._not_allowed = answers.not_allowed("GET", "POST")
        self._busy = answers.unavailable(b"too many callbacks at once", RETRY_AFTER_S)
        self._failed = answers.unavailable(b"not accepted", RETRY_AFTER_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, whatever its path."""
        if self.in_flight >= self._in_flight_limit:
            self.counters.busy += 1
            answer: Answer | None = self._busy
        else:
            self.in_flight += 1
            try:
                answer = await self._serve(scope, receive)
            except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
                answer = self._fail(error)
            finally:
                self.in_flight -= 1
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
            self.counters.busy += 1
            reply(self._busy)
            return
        self.in_flight += 1
        owed = _Owed(reply, self._give_up)
        try:
            judged = self._judge_post(query, content_type, signature, body)
            if isinstance(judged, Message):
                self._deadlines.begin(owed)
                self._inbox.offer(judged, partial(self._hear, owed))
                return
        except Exception as error:  # noqa: BLE001  a defect must not look like an answer to Twilio
            judged = self._fail(error)
        self._settle(owed, judged)

    def _hear(self, owed: _Owed, new: bool, error: StoreError | None) -> None:  # noqa: FBT001
        """Hear from the inbox what became of a message; too late, it is nothing new to Twilio."""
        if owed.reply is not None:
            answer = self._accepted(new=new) if error is None else self._fail(error)
            self._settle(owed, answer)

    def _give_up(self, owed: _Owed) -> None:
        self._settle(owed, self._fail(TimeoutError()))

    def _settle(self, owed: _Owed, answer: Answer) -> None:
        reply, owed.reply = owed.reply, None
        self._deadlines.end(owed)
        self.in_flight -= 1
        if reply is not None:
            reply(answer)

    async def _serve(self, scope: Scope, receive: Receive) -> Answer | None:
        """Read the request and decide; None when the caller left before it was complete."""
        query: bytes = scope["query_string"]
        method = scope["method"]
        if method not in {"POST", "GET"}:
            self.counters.wrong_method += 1
            return self._not_allowed
        content_type, length, signature = _read_headers(scope)
        room = self._body_limit_bytes - len(query)
        if room < 0 or (length is not None and length > room):
            self.counters.too_large += 1
            return answers.TOO_LARGE
        posted = method == "POST"
        if posted and not _is_form(content_type):
            self.counters.unsupported += 1
            return answers.UNSUPPORTED
        body = None if posted else b""
        deadline = TaskDeadline(cast("asyncio.Task[object]", asyncio.current_task()))
        self._deadlines.begin(deadline)
        try:
            if body is None:
                body = await _read_body(receive, room)
                if body is None:
                    return None
            pairs = forms.parse(body if posted else query)
            judged = self._judge(query, body, pairs, pairs if posted else (), signature)
            if isinstance(judged, Answer):
                return judged
            return self._accepted(new=await self._inbox.accept(judged))
        except asyncio.CancelledError:
            if not deadline.forgive():
                raise
            if body is not None:
                raise TimeoutError from None
            self.counters.too_slow += 1
            return answers.TOO_SLOW
        finally:
            self._deadlines.end(deadline)

    def _judge_post(
        self, query: bytes, content_type: bytes, signature: bytes | None, body: bytes
    ) -> Answer | Message:
        """Judge a POST whose body is there."""
        if len(query) + len(body) > self._body_limit_bytes:
            self.counters.too_large += 1
            return answers.TOO_LARGE
        if not _is_form(content_type):
            self.counters.unsupported += 1
            return answers.UNSUPPORTED
        pairs = forms.parse(body)
        return self._judge(query, body, pairs, pairs, signature)

    def _judge(
        self, query: bytes, body: bytes, pairs: Pairs, signed: Pairs, signature: bytes | None
    ) -> Answer | Message:
        """Verify, check and parse: the message to accept, or the answer if there is none.

        pairs: the parameters. signed: those the signature covers apart from the URL.
        """
        if not self._verifier.verify(query, signed, signature):
            self.counters.bad_signature += 1
            self._warn_of_signature(query, body, signature)
            return answers.FORBIDDEN
        fields = dict(pairs)
        check_account(fields, self._account)
        if is_status(fields):
            self.counters.statuses += 1
            return answers.ACCEPTED
        return parse_inbound(fields, self._now())

    def _accepted(self, *, new: bool) -> Answer:
        if new:
            self.counters.accepted += 1
        else:
            self.counters.duplicates += 1
        return answers.ACCEPTED

    def _fail(self, error: Exception) -> Answer:
        """Turn an error into its answer."""
        if isinstance(error, CallbackTooLarge):
            self.counters.too_large += 1
            return answers.TOO_LARGE
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

    def _warn_of_signature(self, query: bytes, body: bytes, signature: bytes | None) -> None:
        """Log why a signature was refused, unless one was a moment ago: finding out takes time."""
        suppressed = self._strangers.take(time.monotonic())
        if suppressed is None:
            return
        url = f"{self._verifier.address.url}?{query.decode('utf-8', 'replace')}"
        hint = explain(url, body, signature, self._verifier.auth_tokens)
        log.warning(
            "signature refused",
            hint=" ".join(hint.lines),
            registered_url=self._verifier.address.url,
            body_bytes=len(body),
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
    """

    __slots__ = ("give_up", "reply")

    def __init__(self, reply: Reply, give_up: Callable[[_Owed], None]) -> None:
        self.reply: Reply | None = reply
        self.give_up = give_up

    def expire(self) -> None:
        """Stop waiting for the inbox."""
        self.give_up(self)


def _read_headers(scope: Scope) -> tuple[bytes, int | None, bytes | None]:
    """Return Content-Type, Content-Length and X-Twilio-Signature; servers send names lower-case."""
    content_type, length, signature = b"", None, None
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = int(value)
        elif name == b"x-twilio-signature":
            signature = value
    return content_type, length, signature


def _is_form(content_type: bytes) -> bool:
    """Tell whether it is the form type, with or without parameters such as a charset."""
    return content_type.partition(b";")[0].strip().lower() == FORM


async def _read_body(receive: Receive, limit_bytes: int) -> bytes | None:
    """Read a whole body; None when the caller left.

    Raises CallbackTooLarge as soon as it is longer than the limit, and reads no further.
    """
    message: AsgiMessage = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > limit_bytes:
            break
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        return None
    if len(body) > limit_bytes:
        raise CallbackTooLarge(f"more than {limit_bytes} bytes")
    return body
