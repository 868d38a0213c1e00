"""Switches that make the connector misbehave, for tests of what the service does then."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec


class Trouble(msgspec.Struct, forbid_unknown_fields=True):
    """How the connector treats the next `count` sends, or other calls; without a switch, as ever.

    count: sends it lasts for; -1 until something else is set.
    status: answered instead of 200; the message is not accepted. 0: no error.
    retry_after_s: Retry-After of that error.
    delay_ms: waited before the message is accepted, which happens even if the sender has gone.
    latency_ms: waited before the answer, after the message is accepted.
    hang: nothing is accepted and nothing answered, for as long as the sender cares to wait.
    reset: the message is accepted, and the connection closed in the middle of the answer.
    where: which calls it is for: sends, those of /instances, reading the message log, or all.
    """

    count: Annotated[int, msgspec.Meta(ge=-1)] = 1
    status: int = 0
    retry_after_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    delay_ms: Annotated[float, msgspec.Meta(ge=0)] = 0
    latency_ms: Annotated[float, msgspec.Meta(ge=0)] = 0
    hang: bool = False
    reset: bool = False
    where: Literal["send", "instances", "log", "all"] = "send"

    def __post_init__(self) -> None:
        """Refuse what is no error status. Raises ValueError."""
        if self.status and not 400 <= self.status <= 599:
            raise ValueError("status must be an error, 400 to 599, or 0 for none")

    def take(self, what: Literal["send", "instances", "log"] = "send") -> Trouble | None:
        """Use it up for one call; None when there is none left, or it is for others."""
        if self.count == 0 or self.where not in {what, "all"}:
            return None
        if self.count > 0:
            self.count -= 1
        return self
