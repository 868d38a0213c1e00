"""What the door says when it does not accept: the answer, the count, and a line in the log.

Every kind of refusal has lines of its own, a few a second at most: a flood of one kind hides no
other. A line quotes nothing that came with the request but its method, its type and its shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from traceback import extract_tb

import structlog

from service.core.twilio.signature import Verifier
from service.core.twilio.signature_hints import explain
from service.errors import (
    AccountRejected,
    CallbackForged,
    CallbackIncomplete,
    CallbackTooLarge,
    SignatureRejected,
    StoreUnavailable,
)
from service.host.answers import CLOSE, TOO_SLOW, Answer, answer, not_allowed, unavailable
from service.host.seldom import SeldomLog
from service.web.door import answers
from service.web.door.judging import Callback

log = structlog.get_logger()

LOGGED_TYPE_BYTES = 80
"""As much of a stranger's Content-Type is logged; real ones are shorter."""

EXPLAINED_BYTES = 8 * 1024
"""Longest query and body of a refused callback that are searched for what would have matched. A
hundred readings are tried; Twilio's callbacks have 0.6 to 6 kB."""

RETRY_AFTER_S = 2
"""Said when we are full or failing ourselves; Redis's errors bring their own."""

SHUT_RETRY_AFTER_S = 10
"""Said while somebody has to set the service up, which takes a minute or more."""


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
    forged: int = 0
    incomplete: int = 0
    too_large: int = 0
    too_slow: int = 0
    unsupported: int = 0
    wrong_method: int = 0
    busy: int = 0
    unavailable: int = 0
    failed: int = 0
    not_ours: int = 0
    not_set_up: int = 0


class Refusals:
    """Turns what hindered a callback into its answer.

    verifier: as the judge has it, for saying why a signature did not fit; None without a judge.
    body_limit_bytes, in_flight_limit, timeout_s: what the door holds to, for saying it.
    warnings_per_s: log lines of each kind.
    """

    def __init__(
        self,
        verifier: Verifier | None,
        *,
        body_limit_bytes: int,
        in_flight_limit: int,
        timeout_s: float,
        warnings_per_s: float,
    ) -> None:
        self.counters = Counters()
        self.verifier = verifier
        self._body_limit_bytes = body_limit_bytes
        self._in_flight_limit = in_flight_limit
        self._timeout_s = timeout_s
        self._say = SeldomLog(warnings_per_s)
        self._not_allowed = not_allowed("GET", "POST")
        self._busy = unavailable(b"too many callbacks at once", RETRY_AFTER_S)
        self._failed = unavailable(b"not accepted", RETRY_AFTER_S)
        # Whatever is left of the request is not read.
        later = (b"retry-after", b"%d" % SHUT_RETRY_AFTER_S)
        self._shut = answer(503, b"not set up", headers=(later, *CLOSE))

    def shut(self) -> Answer:
        """Refuse whatever comes, as the service is not set up."""
        self.counters.not_set_up += 1
        self.warn("callback not accepted: the service is not set up; run `parley console`")
        return self._shut

    def method(self, method: str) -> Answer:
        """Refuse another method than GET and POST."""
        self.counters.wrong_method += 1
        self.warn("callback of a wrong method refused", method=method)
        return self._not_allowed

    def media_type(self, content_type: bytes) -> Answer:
        """Refuse a body that is no form and no JSON."""
        self.counters.unsupported += 1
        said = ascii(content_type[:LOGGED_TYPE_BYTES].decode("latin-1"))
        self.warn("callback of a wrong type refused", content_type=said)
        return answers.UNSUPPORTED

    def size(self, limit_bytes: int | None = None) -> Answer:
        """Refuse a callback that is too long. limit_bytes: another limit than the usual one."""
        self.counters.too_large += 1
        limit = str(limit_bytes or self._body_limit_bytes)
        self.warn("callback too large refused", limit_bytes=limit)
        return answers.TOO_LARGE

    def slowness(self) -> Answer:
        """Refuse a callback whose body did not arrive in time."""
        self.counters.too_slow += 1
        self.warn("callback refused: its body did not arrive in time")
        return TOO_SLOW

    def crowd(self) -> Answer:
        """Turn a callback away, as too many are under way."""
        self.counters.busy += 1
        limit = str(self._in_flight_limit)
        self.warn("callback not accepted: too many at once", limit=limit)
        return self._busy

    def lateness(self) -> Answer:
        """Give up on the inbox."""
        self.counters.unavailable += 1
        reason = f"not confirmed within {self._timeout_s:g} s"
        self.warn("callback not accepted", reason=reason)
        return self._failed

    def error(self, error: Exception, callback: Callback | None = None) -> Answer:
        """Turn an error into its answer. callback: what was refused, where it has arrived."""
        if isinstance(error, CallbackTooLarge):
            return self.size()
        if isinstance(error, SignatureRejected):
            return self._signature(callback)
        if isinstance(error, AccountRejected):
            self.counters.foreign_account += 1
            self.warn("callback for another account refused", reason=str(error))
            return answers.FORBIDDEN
        if isinstance(error, CallbackForged):
            self.counters.forged += 1
            self.warn("forged callback refused: its signature is another one's", reason=str(error))
            return answers.FORBIDDEN
        if isinstance(error, CallbackIncomplete):
            self.counters.incomplete += 1
            self.warn("incomplete callback refused", reason=str(error))
            return answer(error.status, str(error).encode())
        if isinstance(error, StoreUnavailable):
            self.counters.unavailable += 1
            self.warn("callback not accepted", reason=str(error))
            return unavailable(b"try again later", error.retry_after_s)
        if isinstance(error, TimeoutError):
            return self.lateness()
        self.counters.failed += 1
        # Its text may quote a message, so only its class and its place are told.
        frames = [f"{frame.name}:{frame.lineno}" for frame in extract_tb(error.__traceback__)]
        self.warn("callback failed", error=type(error).__name__, where=" > ".join(frames))
        return self._failed

    def warn(self, event: str, **facts: str) -> None:
        """Log a line, unless one of this kind was logged a moment ago."""
        self._say.warning(event, **facts)

    def _signature(self, callback: Callback | None) -> Answer:
        self.counters.bad_signature += 1
        verifier = self.verifier
        if callback is None or verifier is None:
            return answers.FORBIDDEN
        headers = callback.headers
        # A scanner's requests carry none, or none that could be: they hide no setting gone wrong.
        signed = verifier.could_match(headers.signature, headers.signed_with)
        suppressed = self._say.turn("signature refused" if signed else "no signature")
        if suppressed is not None:
            log.warning(
                "signature refused",
                hint=_explain(verifier, callback),
                registered_url=verifier.address.url,
                body_bytes=len(callback.body),
                suppressed=suppressed,
            )
        return answers.FORBIDDEN


def _explain(verifier: Verifier, callback: Callback) -> str:
    """Say what would have matched; at most once a second, as finding out takes time."""
    headers = callback.headers
    if len(callback.query) + len(callback.body) > EXPLAINED_BYTES:
        return (
            f"It is longer than {EXPLAINED_BYTES} bytes, so no other reading was tried; "
            "parley explain-signature tries them."
        )
    hint = explain(
        # Not for the log: it may hold a password.
        f"{verifier.address.with_userinfo()[0]}?{callback.query.decode('utf-8', 'replace')}",
        callback.body,
        headers.signature,
        verifier.auth_tokens,
        signed_with=headers.signed_with,
        shared_keys=verifier.shared_keys,
        # Of a form, none was registered by us.
        query_readings=callback.method != "POST",
    )
    # What is a form for itself may have been sent as JSON.
    said = ("It is signed as a form, and sent as JSON.",) if hint.matched else hint.lines
    return " ".join(said)
