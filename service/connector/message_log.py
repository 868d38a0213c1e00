"""Reads the connector's message log back to a moment, once for everybody who asks meanwhile.

After a crash dozens of replies are in doubt at once; each reading the log for itself would be
hundreds of requests to a connector that may just be recovering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from service.core.connector_wire import LoggedMessage
from service.errors import ConnectorFailed

PAGES = 500
"""Most pages read at once. If that does not reach back far enough the log can't tell; guessing
could send a text twice."""


class MessageLog:
    """The log, newest first.

    read_page: fetches a page by its number, from 1; an empty one ends the log.
    """

    def __init__(self, read_page: Callable[[int], Awaitable[Sequence[LoggedMessage]]]) -> None:
        self._read_page = read_page
        self._waiting: list[tuple[datetime, asyncio.Future[Sequence[LoggedMessage]]]] = []
        self._reader: asyncio.Task[None] | None = None

    async def since(self, moment: datetime) -> Sequence[LoggedMessage]:
        """Return the messages sent since a moment, and some before; aware.

        The reading begins after this call: whatever was logged by now is in it.
        Raises ConnectorError; ConnectorFailed when the log can't be read back that far.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[LoggedMessage]] = loop.create_future()
        self._waiting.append((moment, answer))
        if self._reader is None:
            self._reader = loop.create_task(self._serve())
        return await answer

    async def aclose(self) -> None:
        """End a reading under way."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,))

    async def _serve(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                try:
                    rows = await self._read_back(min(moment for moment, _ in waiting))
                except Exception as error:  # noqa: BLE001  (whoever asked gets it)
                    for _, answer in waiting:
                        if not answer.done():
                            answer.set_exception(error)
                else:
                    for _, answer in waiting:
                        if not answer.done():
                            answer.set_result(rows)
        finally:
            self._reader = None

    async def _read_back(self, moment: datetime) -> list[LoggedMessage]:
        found: list[LoggedMessage] = []
        before: Sequence[LoggedMessage] = ()
        for page in range(1, PAGES + 1):
            rows = await self._read_page(page)
            # A short page ends nothing: the connector may have a bound of its own on pages.
            if not rows:
                return found
            if rows == before:
                raise ConnectorFailed("the message log gives the same page again and again")
            found += rows
            dates = [row.date_sent for row in rows if row.date_sent is not None]
            if dates and min(dates) < moment:
                return found
            before = rows
        raise ConnectorFailed(f"the message log has over {PAGES} pages since {moment}")
