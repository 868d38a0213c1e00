"""Pages through the connector's message log, newest first: for replies in doubt and for backfill.

Rows keep coming while the log is read. They move the others to later pages, so that a row may be
met twice, but none is passed over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import structlog

from service.core.open_connectors.wire import LoggedMessage
from service.errors import ConnectorFailed, ConnectorOverLimit, ConnectorRefused, ConnectorThrottled

log = structlog.get_logger()

FEW = 100
MANY = 1_000
"""Rows asked for: in the first page, which is mostly enough, and in those after it. Twilio gives
1,000 at most; a connector that gives fewer decides the size of its pages itself."""

PAGES = 500
"""Most pages read at once: of 1,000 rows, two minutes of 4,000 messages a second. If that does not
reach back far enough the log can't tell; guessing could send a text twice."""

ReadPage = Callable[[int, int, date | None], Awaitable[Sequence[LoggedMessage]]]
"""Fetches a page: its number, from 1; its most rows; the one day (UTC) of DateSent that is wanted,
or None for all. An empty page ends the log."""


class LogPages:
    """Reads one connector's log, and remembers what that connector turned out to understand."""

    def __init__(self, read_page: ReadPage) -> None:
        self._read_page = read_page
        self._many = MANY
        self._by_day: bool | None = None

    async def between(
        self, since: datetime, until: datetime | None = None
    ) -> AsyncGenerator[Sequence[LoggedMessage]]:
        """Yield pages, newest first, until one begins before `since` or the log ends.

        until: rows sent later are not wanted, though they may come. Where it lies days back, the
            log is asked by day of DateSent. A row without a date is then left out, so give it only
            for messages that must have been sent by now. Both aware.
        Raises ConnectorError; ConnectorFailed when the log can't be read back that far.
        """
        newest = await self._read_page(1, FEW, None)
        if not newest:
            return
        yield newest
        oldest = _oldest(newest)
        if oldest is not None and oldest < since:
            return
        first, count = frozenset(newest), 1
        for day in await self._days(since, until, oldest):
            page, before = 0, None
            # A short page ends nothing: the connector may have a bound of its own on pages.
            while rows := await self._page(page := page + 1, day):
                if rows == before:
                    raise ConnectorFailed("the message log gives the same page again and again")
                if count == PAGES:
                    raise ConnectorFailed(f"the message log has over {PAGES} pages since {since}")
                count += 1
                # The first page of many begins with the one of few.
                yield [row for row in rows if row not in first] if page == 1 else rows
                oldest = _oldest(rows)
                if oldest is not None and oldest < since:
                    return
                before = rows

    async def _days(
        self, since: datetime, until: datetime | None, oldest: datetime | None
    ) -> Sequence[date | None]:
        """Return the days to ask for, newest first; (None,) for the whole log."""
        if until is None or oldest is None or _day(until) >= _day(oldest):
            return (None,)
        if self._by_day is None:
            self._by_day = await self._understands(_day(oldest))
            if not self._by_day:
                log.info("the connector does not give its message log by day; all of it is read")
        if not self._by_day:
            return (None,)
        days = range((_day(until) - _day(since)).days + 1)
        return [_day(until) - timedelta(days=n) for n in days]

    async def _understands(self, day: date) -> bool:
        """Try `where` with a day that has rows and with one to come, which has none.

        Taken on trust, a filter that matches nothing would look like a day without messages.
        """
        try:
            rows = await self._read_page(1, FEW, day)
            none = await self._read_page(1, FEW, day + timedelta(days=7))
        except ConnectorRefused:
            return False
        of_day = all(row.date_sent is not None and _day(row.date_sent) == day for row in rows)
        return bool(rows) and of_day and not none

    async def _page(self, page: int, day: date | None) -> Sequence[LoggedMessage]:
        try:
            return await self._read_page(page, self._many, day)
        except (ConnectorRefused, ConnectorOverLimit, ConnectorThrottled) as error:
            # A 429 may be for the size of the answer, or for the time it takes.
            if self._many == FEW or error.retry_after_s is not None:
                raise
            rows = await self._read_page(page, FEW, day)
            self._many = FEW
            return rows


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _oldest(rows: Sequence[LoggedMessage]) -> datetime | None:
    return min((row.date_sent for row in rows if row.date_sent is not None), default=None)
