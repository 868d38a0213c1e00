"""What to do with a reply after an attempt at sending it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256
from typing import Protocol, TypeVar

from service.core.open_connectors.error_answers import OF_RATE
from service.core.twilio.error_codes import MEANINGS, Fate
from service.errors import (
    ConnectorError,
    ConnectorFailed,
    ConnectorForbidden,
    ConnectorOverLimit,
    ConnectorRefused,
    ConnectorThrottled,
    ConnectorUnanswered,
)
from service.model import Outbound


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
    """Tell what a failed POST means for its reply.

    A 4xx is judged by Twilio's own code where there is one that we know: it says that Twilio has
    not sent the text, and whether it ever will.
    """
    if isinstance(error, ConnectorUnanswered | ConnectorFailed | ConnectorOverLimit):
        return Verdict.ASK
    meaning = MEANINGS.get(error.code) if error.code else None
    if meaning is not None and isinstance(error, ConnectorRefused | ConnectorForbidden):
        return Verdict.BURY if meaning.fate is Fate.FINAL else Verdict.REPEAT
    # A code that nobody has described yet is Twilio's word on this text all the same.
    coded = error.code is not None and isinstance(error, ConnectorForbidden)
    if coded or isinstance(error, ConnectorRefused):
        return Verdict.BURY
    return Verdict.REPEAT


def may_still_arrive(error: ConnectorError) -> bool:
    """Tell whether a POST that failed like this may yet be carried out, and logged, later on.

    Without an answer, and when a gateway or the platform gave up waiting, whoever does the work may
    be at it still.
    """
    given_up = {408, 502, 504}
    lost = isinstance(error, ConnectorUnanswered | ConnectorOverLimit)
    return lost or error.status in given_up


def names_no_cause(error: ConnectorError) -> bool:
    """Tell whether a 429 may be about the request itself: it says neither when nor why."""
    if not isinstance(error, ConnectorThrottled):
        return False
    of_rate = OF_RATE.search(f"{error.message} {error.provider_message or ''}")
    return error.retry_after_s is None and error.code is None and not of_rate


class Logged(Protocol):
    """A row of the connector's message log, as far as this module looks.

    direction: "inbound" or "outbound-...". date_sent: timezone-aware; None while it is queued.
    other_id: a second id beside the sid, "" without one.
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
    @property
    def other_id(self) -> str: ...  # noqa: D102


Row = TypeVar("Row", bound=Logged)


CLOCK_SLACK = timedelta(minutes=2)
"""How far the dates of the log may be behind the moments they are compared with. These are by the
platform's clock; the dates are Twilio's, and the two are taken to agree within this. Rows of
replies already recorded as sent are left out by the caller, so a generous slack can't mistake one
reply for another."""


def candidates(
    outbound: Outbound, marked_at: datetime, log: Iterable[Row], since: datetime | None = None
) -> tuple[Row, ...]:
    """Return the logged messages that may be this reply, oldest first.

    marked_at: when the POST in doubt was begun, by the connector's clock; timezone-aware. since:
        from when on messages are wanted, where earlier replies have to be told from it as well.
    A row matches when it went out, between the same numbers, with the same text, not earlier.
    """
    earliest = (since or marked_at) - CLOCK_SLACK
    rows = [
        row
        for row in log
        if row.direction.startswith("outbound")
        and row.from_ == outbound.conversation.ours
        and row.to == outbound.conversation.theirs
        and row.body == outbound.reply.body
        and (row.date_sent is None or row.date_sent >= earliest)
    ]
    return tuple(sorted(rows, key=lambda row: row.date_sent or marked_at))


def ids_of(row: Logged) -> tuple[str, ...]:
    """Return the ids a row has."""
    return tuple(filter(None, (row.sid, row.other_id)))


def unrecorded(rows: Sequence[Row], known: Collection[str], posted: Collection[str]) -> Row | None:
    """Return the row that no reply recorded as sent accounts for: the one in doubt; None if all do.

    rows: what may be it, oldest first. known: of their ids, those recorded. posted: ids that
        replies of the same words were recorded under and that the log may not show: as many of
        the oldest rows are theirs, as the replies of a conversation leave in order.
    """
    new = [row for row in rows if not any(id_ in known for id_ in ids_of(row))]
    hidden = sum(id_ not in known for id_ in posted)
    return new[hidden] if len(new) > hidden else None


def is_listed(sid: str) -> bool:
    """Tell whether the log will show a message under this id: whether it is Twilio's sid.

    A connector of the older model numbers messages by itself, and its log has Twilio's sids.
    """
    return re.fullmatch(r"(SM|MM)[0-9a-f]{32}", sid) is not None


def fingerprint(outbound: Outbound) -> str:
    """Return what replies of the same words in the same conversation have in common."""
    words = json.dumps([*outbound.conversation, outbound.reply.body])
    return sha256(words.encode()).hexdigest()[:32]
