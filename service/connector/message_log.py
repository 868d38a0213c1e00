"""Looks for replies in doubt in the connector's message log, once for everybody who asks meanwhile.

After a crash dozens of replies are in doubt at once; each reading the log for itself would be
hundreds of requests to a connector that may just be recovering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.connector.log_pages import LogPages
from service.core.open_connectors.wire import LoggedMessage

QUEUED = timedelta(hours=10)
"""How long Twilio keeps a message before it sends it or gives it up; until then its row may be
without a date. Source: Twilio, error 30001."""

SPARE = timedelta(hours=2)
"""Added to that, for clocks and time-outs."""


@dataclass(frozen=True, slots=True)
class _Question:
    """Who asks: messages to `theirs` since a moment."""

    theirs: str
    since: datetime
    answer: asyncio.Future[Sequence[LoggedMessage]]


class MessageLog:
    """Answers what was sent to a number of theirs lately. now: by the log's own clock."""

    def __init__(self, pages: LogPages, now: Callable[[], datetime]) -> None:
        self._pages = pages
        self._now = now
        self._waiting: list[_Question] = []
        self._reader: asyncio.Task[None] | None = None

    async def sent_to(self, theirs: str, since: datetime) -> Sequence[LoggedMessage]:
        """Return the messages to a number that were sent in the 10 h since a moment, and others.

        since: aware. The reading begins after this call: whatever was logged by now is in it.
        Raises ConnectorError; ConnectorFailed when the log can't be read back that far.
        """
        loop = asyncio.get_running_loop()
        question = _Question(theirs, since, loop.create_future())
        self._waiting.append(question)
        if self._reader is None:
            self._reader = loop.create_task(self._serve())
        return await question.answer

    async def aclose(self) -> None:
        """End a reading under way."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,))

    async def _serve(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                sent_by_now = self._now() - QUEUED - SPARE
                # Apart, as what is old may be found without reading all that was sent since.
                await self._answer([each for each in waiting if each.since > sent_by_now], None)
                old = [each for each in waiting if each.since <= sent_by_now]
                newest = max((each.since for each in old), default=sent_by_now)
                await self._answer(old, newest + QUEUED + SPARE)
        finally:
            self._reader = None

    async def _answer(self, asking: Sequence[_Question], until: datetime | None) -> None:
        """Read the log once for several questions; until: when the last must have been sent."""
        if not asking:
            return
        try:
            rows = await self._read(
                {each.theirs for each in asking}, min(each.since for each in asking), until
            )
        except Exception as error:  # noqa: BLE001  (whoever asked gets it)
            for each in asking:
                if not each.answer.done():
                    each.answer.set_exception(error)
        else:
            for each in asking:
                if not each.answer.done():
                    each.answer.set_result(rows[each.theirs])

    async def _read(
        self, numbers: Collection[str], since: datetime, until: datetime | None
    ) -> Mapping[str, Sequence[LoggedMessage]]:
        """Return the rows by number; of the others, which may be very many, none is kept."""
        found: dict[str, list[LoggedMessage]] = {number: [] for number in numbers}
        async with aclosing(self._pages.between(since, until)) as pages:
            async for rows in pages:
                for row in rows:
                    if row.to in found:
                        found[row.to].append(row)
        return found
