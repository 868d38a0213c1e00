"""What to do with a reply after an attempt at sending it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from service.core.connector_wire import twilio_code
from service.errors import (
    ConnectorError,
    ConnectorFailed,
    ConnectorForbidden,
    ConnectorRefused,
    ConnectorUnanswered,
)
from service.model import Outbound

PASSING_CODES = frozenset({20429, 21611, 30001})
"""Twilio's codes, said with a 4xx, for what will be taken later: too many requests, a full queue.

Source: Twilio, "Error and warning dictionary"."""

ACCOUNT_CODES = frozenset({20003, 20005, 20006, 20404})
"""Twilio's codes for what is wrong with the account or its token, and not with the text."""


class Verdict(Enum):
    """What an error means for the reply.

    REPEAT: it certainly was not sent, through no fault of its own: repeat for as long as it takes.
    ASK: it may have been sent: the connector's message log decides.
    BURY: it will never be accepted: a dead letter.
    """

    REPEAT = "repeat"
    ASK = "ask"
    BURY = "bury"


def judge(error: ConnectorError) -> Verdict:
    """Tell what a failed POST means for its reply."""
    if isinstance(error, ConnectorUnanswered | ConnectorFailed):
        return Verdict.ASK
    code = twilio_code(error)
    if isinstance(error, ConnectorRefused):
        return Verdict.REPEAT if code in PASSING_CODES else Verdict.BURY
    if isinstance(error, ConnectorForbidden) and code is not None and code not in ACCOUNT_CODES:
        # Twilio's own refusal of this text, such as a country that is not switched on (21408).
        return Verdict.BURY
    return Verdict.REPEAT


def may_still_arrive(error: ConnectorError) -> bool:
    """Tell whether a POST that failed like this may yet be carried out, and logged, later on.

    Without an answer, and when a gateway gave up waiting, whoever does the work may be at it still.
    """
    given_up = {408, 502, 504}
    return isinstance(error, ConnectorUnanswered) or error.status in given_up


class Logged(Protocol):
    """A row of the connector's message log, as far as this module looks.

    direction: "inbound" or "outbound-...". date_sent: timezone-aware; None while it is queued.
    """

    @property
    def sid(self) -> str: ...  # noqa: D102  (said above)
    @property
    def from_(self) -> str: ...  # noqa: D102
    @property
    def to(self) -> str: ...  # noqa: D102
    @property
    def body(self) -> str: ...  # noqa: D102
    @property
    def direction(self) -> str: ...  # noqa: D102
    @property
    def date_sent(self) -> datetime | None: ...  # noqa: D102


CLOCK_SLACK = timedelta(minutes=2)
"""How far the connector's clock may be behind ours. Rows of replies already recorded as sent are
left out by the caller, so a generous slack can't mistake one reply for another."""


def candidates(outbound: Outbound, marked_at: datetime, log: Iterable[Logged]) -> tuple[str, ...]:
    """Return sids of logged messages that may be this reply, oldest first.

    marked_at: when the POST in doubt was begun; timezone-aware.
    A row matches when it went out, between the same numbers, with the same text, not earlier.
    """
    earliest = marked_at - CLOCK_SLACK
    rows = [
        row
        for row in log
        if row.direction.startswith("outbound")
        and row.from_ == outbound.conversation.ours
        and row.to == outbound.conversation.theirs
        and row.body == outbound.reply.body
        and (row.date_sent is None or row.date_sent >= earliest)
    ]
    rows.sort(key=lambda row: row.date_sent or marked_at)
    return tuple(row.sid for row in rows)
