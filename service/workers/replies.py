"""What sending goes by: how a process sends, and what is known of a reply that waits.

What is done with them is in `sending`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from service.core.breaker import Breaker
from service.core.masking import mask_number
from service.core.retry import Schedule
from service.errors import ConnectorError
from service.model import EntryId, Outbound
from service.store.pace import Pace
from service.workers.clock import now_ms
from service.workers.counts import Counts
from service.workers.doubts import Doubt, LoggingConnector
from service.workers.lanes import WIDTH
from service.workers.telling import Tell


class SendingConnector(LoggingConnector, Protocol):
    """What sending needs of the connector."""

    async def send(self, outbound: Outbound, before_write: Callable[[], None]) -> str:
        """POST a reply; returns the connector's sid. Raises ConnectorError.

        before_write: called just before the bytes leave; what it raises is raised, unsent.
        """


@dataclass(frozen=True, slots=True)
class Sending:
    """How a process sends; shared by all of its partitions.

    provisioned: set while there is an instance to send through. suspect: told when the connector
        refuses the instance, which is somebody else's to put right; replies wait meanwhile.
    slots: bounds POSTs at once.
    breaker: leaves an ailing connector alone. pace: limits each number's rate, None for no limit.
    schedule: retries of a reply. in_doubt: what happens to a reply in doubt when the connector's
        log can't be asked: "hold" makes it a dead letter, "resend" sends it again.
    arrival_s: how long a POST whose end nobody saw may take to show up in the connector's log. As
        long it can't be taken for unsent: the connector carries it out although its sender is gone.
    counts: what is counted of replies. tell: logs a line for each reply; None for no lines.
    redis_now_ms: what Redis's clock shows, ms since the epoch; for what is counted alone.
    width: replies of one partition under way at once, no fewer than there are slots.
    """

    connector: SendingConnector
    provisioned: asyncio.Event
    suspect: Callable[[], None]
    breaker: Breaker
    pace: Pace | None
    slots: asyncio.Semaphore
    schedule: Schedule
    in_doubt: Literal["hold", "resend"]
    arrival_s: float
    counts: Counts = field(default_factory=Counts)
    tell: Tell | None = None
    redis_now_ms: Callable[[], int] = now_ms
    width: int = WIDTH


@dataclass(slots=True)
class WaitingReply:
    """A reply that waits.

    accepted_ms: when its text was. due: time.monotonic. doubt: about its last POST, None without.
    fresh_mark: marked as it was settled, not POSTed yet. offered: when that was, time.monotonic.
    resent: sent again although a POST of it stays in doubt.
    asked: times that the log could not be read. tries: POSTs so far.
    repeats: POSTs among them that were no attempt of its own. throttled: times in a row.
    taken: replies sent by the process when that row began.
    epitaph: why it is given up, once the log shows no POST of it; "" while it is tried.
    """

    entry: EntryId
    outbound: Outbound
    accepted_ms: int
    due: float = 0
    doubt: Doubt | None = None
    fresh_mark: bool = False
    offered: float = field(default_factory=time.monotonic)
    resent: bool = False
    asked: int = 0
    tries: int = 0
    repeats: int = 0
    throttled: int = 0
    taken: int = 0
    epitaph: str = ""


def facts_of(item: WaitingReply) -> dict[str, str | int]:
    """What a log line says of a reply: which one, and the end of the number it goes to."""
    return {
        "reply_to": item.outbound.reply_to,
        "index": item.outbound.index,
        "recipient": mask_number(item.outbound.conversation.theirs),
    }


def advice_of(error: ConnectorError) -> dict[str, str | int]:
    """What a log line says of an error beside its text: Twilio's code, and what can be done."""
    code: dict[str, str | int] = {"code": error.code} if error.code else {}
    return {**code, "advice": error.advice}
