"""What to do with a reply after an attempt at sending it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
from service.model import EntryId, Outbound


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


LoggedRow = TypeVar("LoggedRow", bound=Logged)


CLOCK_SLACK = timedelta(minutes=2)
"""How far the dates of the log may be behind the moments they are compared with. These are by the
platform's clock; the dates are Twilio's, and the two are taken to agree within this. Rows of
replies already recorded as sent are left out by the caller, so a generous slack can't mistake one
reply for another."""


def candidates(
    outbound: Outbound, marked_at: datetime, log: Iterable[LoggedRow], since: datetime | None = None
) -> tuple[LoggedRow, ...]:
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


QUEUED = timedelta(hours=1)
"""How long Twilio may queue a reply that was recorded as sent and still have its row counted as
its own. What was queued for longer could be taken for a later reply of the same words."""

_Span = tuple[datetime, datetime]
"""From when to when the row of a POST may be dated."""

_FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Posted:
    """An earlier POST of the same words whose row, if there is one, no sid of Twilio's names.

    entry: the reply's entry in the outbox. at, latest: when the POST was marked, by the connector's
        clock: between these two; aware.
    connector_id: what the reply was recorded as sent under; "" where it is not known whether this
        POST went out: its reply was buried, or sent again, while in doubt.
    """

    entry: EntryId
    at: datetime
    latest: datetime
    connector_id: str


class Told(Enum):
    """What the log tells of a reply in doubt; NOTHING: its row may be that of another POST."""

    SENT = "sent"
    UNSENT = "unsent"
    NOTHING = "nothing"


def lately(posted: Sequence[Posted], marked_at: datetime) -> list[Posted]:
    """Return the earlier POSTs whose rows could be confused with a reply marked then.

    posted: oldest first. Those are the POSTs of the last hour, and of before it what follows one
    another so closely that the clocks could not tell whose row is the first that is read.
    """
    found: list[Posted] = []
    edge = marked_at - QUEUED
    for each in reversed(posted):
        if each.latest < edge:
            break
        found.append(each)
        edge = min(edge, each.at - 2 * CLOCK_SLACK)
    return found


def account(
    rows: Sequence[LoggedRow],
    known: Collection[str],
    earlier: Collection[Posted],
    marked_at: datetime,
    arrival: timedelta,
) -> tuple[Told, LoggedRow | None]:
    """Tell from the log's rows whether the reply in doubt went out, and which row is its own.

    rows: what may be it or an earlier one, oldest first. known: of their ids, those recorded.
    earlier: POSTs of other replies of the same words. marked_at: the reply's own mark, its first
        if it was sent again in doubt. arrival: how long a POST whose end nobody saw may take.

    Rows are counted: each is that of one POST, which was marked before it. A reply recorded as sent
    has a row for certain, at any time since; a POST in doubt may have one, until it can't arrive
    any more. If the others can't explain as many rows without the reply as with it, it was sent. If
    the rows don't suffice for those recorded and it, it was not. Else either may be: NOTHING. So a
    reply is neither lost nor doubled where times tell, and left to the operator where they don't.
    Three things are taken on trust. Whatever was recorded as sent is in the log: should it not be,
    the reply is sent a second time. A row that nobody here asked for is the reply's own, if it is
    not older: should somebody else send the same words, the reply is lost. So it is if the row of
    an earlier POST in doubt is dated later than that could arrive, as Twilio had it queued.
    """
    new = [row for row in rows if not any(id_ in known for id_ in ids_of(row))]
    dates = [row.date_sent or marked_at for row in new]
    earlier = [each for each in earlier if each.connector_id not in known]
    recorded = [(each.at - CLOCK_SLACK, _FOREVER) for each in earlier if each.connector_id]
    in_doubt = [
        (each.at - CLOCK_SLACK, each.latest + arrival + CLOCK_SLACK)
        for each in earlier
        if not each.connector_id
    ]
    mine = (marked_at - CLOCK_SLACK, _FOREVER)
    others = [*recorded, *in_doubt]
    if _explained(dates, [*others, mine]) > _explained(dates, others):
        return Told.SENT, new[-1]
    both = _explained(dates, [*recorded, mine]) == len(recorded) + 1
    return (Told.NOTHING if both else Told.UNSENT), None


def _explained(dates: Sequence[datetime], spans: Collection[_Span]) -> int:
    """Return how many rows can each be that of another POST. dates: of the rows, oldest first."""
    # To each row in turn the POST that can wait least: no other way matches more of them.
    free = sorted(spans, key=lambda span: span[1])
    for date in dates:
        free_for = next((span for span in free if span[0] <= date <= span[1]), None)
        if free_for is not None:
            free.remove(free_for)
    return len(spans) - len(free)


def is_listed(sid: str) -> bool:
    """Tell whether the log will show a message under this id: whether it is Twilio's sid.

    A connector of the older model numbers messages by itself, and its log has Twilio's sids.
    """
    return re.fullmatch(r"(SM|MM)[0-9a-f]{32}", sid) is not None


def fingerprint(outbound: Outbound) -> str:
    """Return what replies of the same words in the same conversation have in common."""
    words = json.dumps([*outbound.conversation, outbound.reply.body])
    return sha256(words.encode()).hexdigest()[:32]
