"""Every error Parley raises on purpose, by whose problem it is.

    ParleyError
    ├── SettingsError               the operator's: settings, files in config/
    ├── HandlersError               the operator's: the handlers file, with file and line
    ├── UsageError                  the operator's: the words of a command
    ├── SignInRefused               somebody's who signs in at the console: what to do, and when
    ├── CallbackRejected            the caller's: answered with its `status`, nothing stored
    │   ├── SignatureRejected       403
    │   ├── AccountRejected         403
    │   ├── CallbackForged          403: signed, and then rearranged
    │   ├── CallbackIncomplete      400
    │   └── CallbackTooLarge        413
    ├── StoreError                  Redis's
    │   ├── StoreUnavailable        503 with Retry-After: down, loading, read-only, out of memory
    │   ├── StoreFull               503 with Retry-After: a bound of ours is reached
    │   ├── LeaseLost               another owner has the partition; commit refused
    │   ├── LockLost                another process may have a lock of ours; its work was ended
    │   ├── SetupChanged            somebody else has changed the setup meanwhile
    │   └── StoreMismatch           the operator's: this Redis was laid out with other settings
    ├── ConnectorError              Open Connectors'
    │   ├── ConnectorUnreachable    nothing was sent; safe to repeat
    │   ├── ConnectorUnanswered     sent, no answer: in doubt
    │   ├── ConnectorThrottled      429: not processed, repeat after `retry_after_s`
    │   ├── ConnectorOverLimit      429 for the size or time of the request itself: in doubt
    │   ├── ConnectorFailed         3xx, 408, 5xx: passing, whether it was processed is in doubt
    │   │   └── ConnectorUnreadable     its message log, answered with rows that lack what is read
    │   ├── ConnectorForbidden      401, 403, 404 of the instance: provisioning has to look
    │   │   ├── ConnectorUnauthorized   401: a secret or the instance token is not accepted
    │   │   ├── ConnectorDisabled       403: the instance is disabled, or not ours to use
    │   │   └── ConnectorGone           404: the instance is not there
    │   └── ConnectorRefused        any other 4xx: this request will never be accepted
    ├── HandlerError                the handler author's
    │   ├── HandlerFailed           it raised
    │   ├── HandlerTimedOut         it took longer than allowed
    │   └── HandlerMisbehaved       it returned something that is no reply
    └── KeepsFailing                ours: a part of the process fails whenever it is started

`retry` says whether the same call may succeed later. No error carries a secret or a message body.
Library exceptions are translated where the library is called, with `raise ... from`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

OPERATOR_MUST_MEND = 2
"""Exit status of what fails the same way until somebody changes a setting, a file or the words."""


class ParleyError(Exception):
    """Root of the tree."""

    retry: ClassVar[bool] = False


class SettingsError(ParleyError):
    """Settings are missing or malformed.

    problems: every one found, a line each: the name to set, what is wrong, an example.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class HandlersError(ParleyError):
    """The handlers file can't be used; the text begins with `file:line:` where there is one."""


class UsageError(ParleyError):
    """A command's words are off: which, and what is meant instead."""


class SignInRefused(ParleyError):
    """Somebody may not sign in at the console.

    reason: for people. wait_s: whole seconds until the next try is looked at; 0 when at once.
    """

    def __init__(self, reason: str, wait_s: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


class CallbackRejected(ParleyError):
    """A callback is refused; `status` is the HTTP status it is answered with."""

    status: ClassVar[int] = 400


class SignatureRejected(CallbackRejected):
    """The signature is missing or does not match."""

    status = 403


class AccountRejected(CallbackRejected):
    """Signed correctly, but for an account that is not ours."""

    status = 403


class CallbackForged(CallbackRejected):
    """The signature fits, and the parameters are not as Twilio writes them: it was rearranged."""

    status = 403


class CallbackIncomplete(CallbackRejected):
    """A required parameter is missing."""

    status = 400


class CallbackTooLarge(CallbackRejected):
    """The body is longer than the limit."""

    status = 413


class StoreError(ParleyError):
    """Redis did not do what was asked."""


class StoreUnavailable(StoreError):
    """Redis is down, slow, loading, read-only or out of memory; nothing is promised."""

    retry = True

    def __init__(self, text: str, retry_after_s: int = 2) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class StoreFull(StoreUnavailable):
    """A queue's bound is reached; accepted again when the workers have caught up."""


class LeaseLost(StoreError):
    """The partition has another owner now; what was to be committed was not."""


class LockLost(StoreError):
    """A lock was not ours any more before its work was done; the text says what became of that."""

    retry = True


class SetupChanged(StoreError):
    """Somebody else has changed the setup since it was looked at; nothing was kept."""


class StoreMismatch(StoreError):
    """This Redis was laid out by a deployment with other settings; the text says what to do."""


class ConnectorError(ParleyError):
    """Open Connectors answered with an error, or not at all.

    status: HTTP status, None without an answer.
    provider_message: what Twilio said, as relayed. request_id: to quote to the connector's support.
    retry_after_s: seconds the connector asked us to wait, None if it did not.
    code: Twilio's own, None without one. advice: what the operator can do, a phrase; that of the
        kind where none is given.
    """

    advice: str = "look at /readyz and the log around it"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        provider_message: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        code: int | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.provider_message = provider_message
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.code = code
        if advice:
            self.advice = advice

    def __str__(self) -> str:
        parts = [self.message if self.status is None else f"{self.status}: {self.message}"]
        if self.provider_message:
            parts.append(f"providerMessage: {self.provider_message}")
        if self.request_id:
            parts.append(f"requestId: {self.request_id}")
        return "; ".join(parts)


class ConnectorUnreachable(ConnectorError):
    """No connection: the request was not sent."""

    retry = True
    advice = "check OPEN_CONNECTORS_BASE_URL, the network and its firewall"


class ConnectorUnanswered(ConnectorError):
    """The request was sent, or may have been, and no answer came back."""

    retry = True
    advice = "nothing if it is rare; else raise SEND_TIMEOUT_S or ask SAP support"


class ConnectorThrottled(ConnectorError):
    """429: not processed."""

    retry = True
    advice = "nothing if it is rare; else lower SEND_CONCURRENCY"


class ConnectorOverLimit(ConnectorError):
    """429 for the request itself: too large, or it took too long and may have been processed."""

    retry = True
    advice = (
        "the request itself is over a size or time limit of the connector: have the handler answer "
        "in shorter replies with fewer pictures, or ask SAP support for the limit"
    )


class ConnectorFailed(ConnectorError):
    """3xx, 408 or 5xx: it is ailing, and may or may not have processed the request."""

    retry = True
    advice = "nothing if it passes; else quote the requestId to SAP support"


class ConnectorUnreadable(ConnectorFailed):
    """The message log was answered with something that can't be read as one: it tells nothing."""

    advice = (
        "look whether a common resource maps the instance's `messages`, and give it another name"
    )


class ConnectorForbidden(ConnectorError):
    """401, 403 or 404: secrets, token or instance are not what the connector expects."""

    retry = True
    advice = "check the OPEN_CONNECTORS_* settings and the instance"


class ConnectorUnauthorized(ConnectorForbidden):
    """401: a secret or the instance token is not accepted; so is the token of a deleted one."""

    advice = (
        "check OPEN_CONNECTORS_USER_SECRET and OPEN_CONNECTORS_ORGANIZATION_SECRET, "
        "and that the instance still exists"
    )


class ConnectorDisabled(ConnectorForbidden):
    """403: the instance is disabled, or the user may not use it."""

    advice = "enable the instance in Open Connectors, or give its user the right to use it"


class ConnectorGone(ConnectorForbidden):
    """404: what was asked for is not there, most often the instance."""

    advice = "check OPEN_CONNECTORS_BASE_URL, and that the instance still exists"


class ConnectorRefused(ConnectorError):
    """Another 4xx: sending the same again is no use."""

    advice = "check config/message.json and config/instance.json against the providerMessage"


class HandlerError(ParleyError):
    """A handler did not produce replies."""

    retry = True


class HandlerFailed(HandlerError):
    """The handler raised; the cause is chained."""


class HandlerTimedOut(HandlerError):
    """The handler took longer than it may."""


class HandlerMisbehaved(HandlerError):
    """The handler returned something other than None, a str, a Reply or a list of them."""


class KeepsFailing(ParleyError):
    """A part of the process failed each time that it was started, and was given up."""
