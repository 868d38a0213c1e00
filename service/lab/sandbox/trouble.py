"""Switches that make the connector misbehave, for tests of what the service does then."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Where = Literal["send", "instances", "log", "all"]
"""Calls: sends, /instances, the message log with its messages; or every call, /ping included."""


class Trouble(msgspec.Struct, forbid_unknown_fields=True):
    """How the platform treats the next `count` calls; without a switch, as ever.

    where: the calls it is about; others pass, and are not counted.
    count: calls it lasts for; -1 until something else is set.
    status: answered instead of 200; the message is not accepted, nothing done. 0: no error.
    retry_after_s: Retry-After of that error.
    delay_ms: waited before the message is accepted or the call served, which happens even if the
        caller has gone.
    latency_ms: waited before the answer, after the message is accepted or the call served.
    hang: nothing is done and nothing answered, for as long as the caller cares to wait.
    reset: the call is served, and the connection closed in the middle of the answer.
    empty: the call is served, and answered 200 without a body.
    """

    where: Where = "send"
    count: Annotated[int, msgspec.Meta(ge=-1)] = 1
    status: int = 0
    retry_after_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    delay_ms: Annotated[float, msgspec.Meta(ge=0)] = 0
    latency_ms: Annotated[float, msgspec.Meta(ge=0)] = 0
    hang: bool = False
    reset: bool = False
    empty: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no error status. Raises ValueError."""
        if self.status and not 400 <= self.status <= 599:
            raise ValueError("status must be an error, 400 to 599, or 0 for none")

    def take(self, call: Where) -> Trouble | None:
        """Use it up for one call; None when there is none left, or none for this call.

        call: what is called; "all" for what has no name of its own.
        """
        if self.count == 0 or self.where not in {call, "all"}:
            return None
        if self.count > 0:
            self.count -= 1
        return self
