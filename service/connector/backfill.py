"""Reads back what no callback brought: inbound texts of the connector's message log.

Twilio repeats a callback for seconds, and then never again; an outage of ours loses what came
meanwhile. The log still has it. It is read from where nothing is missing, with an overlap, and
every inbound row is offered to the inbox like a callback: whatever was accepted before is a
duplicate, by its MessageSid, and changes nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Protocol

import structlog

from service.core.connector_wire import LoggedMessage
from service.errors import ConnectorError, ParleyError, StoreFull
from service.model import Message, MessageSid

log = structlog.get_logger()

GAP_POLL_S = 5.0
"""How often it is looked whether callbacks were refused since the last run."""

UNLISTABLE = frozenset({400, 404, 405, 406, 501})
"""Statuses of a connector that can't list messages at all."""

FULL_PAUSE_S = 1.0

LogBetween = Callable[[datetime], AsyncGenerator[Sequence[LoggedMessage]]]
"""Yields pages of the log, newest first, back to a moment."""

Accept = Callable[[Message], Awaitable[bool]]
"""Takes a message; True when it is new. Raises StoreUnavailable, of which StoreFull is one."""


class WatermarkStore(Protocol):
    """Where the moment is kept: `service.store.watermark.Watermark`."""

    async def load(self) -> datetime | None:
        """Return it, None at first."""

    async def save(self, covered: datetime) -> None:
        """Keep it."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Let one process at a time read the log."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found. since: from when on it read; None when there was nothing to begin with.

    read: inbound texts in the log. recovered: those that were missing, accepted now (or, in a dry
    run, all that were read). known: those accepted before.
    """

    since: datetime | None
    read: int = 0
    recovered: int = 0

    @property
    def known(self) -> int:
        """Texts that were there already."""
        return self.read - self.recovered


class Backfill:
    """Fills the gap an outage left.

    account: our AccountSid. overlap: read again before the moment known to be covered, for texts
    that reach the log late. longest: furthest it looks back by itself; below the de-duplication
    window, or texts would be answered twice.
    state: how it stands, a sentence; "" when there is nothing to say.
    """

    def __init__(
        self,
        log_between: LogBetween,
        accept: Accept,
        watermark: WatermarkStore,
        *,
        account: str,
        overlap: timedelta,
        longest: timedelta,
    ) -> None:
        self._log_between = log_between
        self._accept = accept
        self._watermark = watermark
        self._account = account
        self._overlap = overlap
        self._longest = longest
        self.state = ""

    async def run(
        self,
        since: datetime | None = None,
        *,
        dry: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Summary:
        """Read the log back and accept what is missing, oldest first.

        since: aware; from the watermark on if None. The first run of a deployment only sets the
            watermark: what came before was not sent to us.
        dry: accept nothing. progress: told how many of how many are done.
        Raises ConnectorError, StoreUnavailable; the watermark then stays.
        """
        async with self._watermark.lock():
            began = datetime.now(UTC)
            start = since or await self._start(began)
            if start is None:
                await self._watermark.save(began)
                return Summary(None)
            texts = await self._missing(start)
            recovered = 0
            for place, row in enumerate(texts, start=1):
                if dry or await self._take(self._message(row)):
                    recovered += 1
                if progress is not None:
                    progress(place, len(texts))
            if not dry and since is None:
                await self._watermark.save(began)
            return Summary(start, len(texts), recovered)

    async def keep_filling(
        self, ready: asyncio.Event, every_s: float, refused: Callable[[], int]
    ) -> None:
        """Run at the start, on a timer, and after callbacks were refused, until cancelled.

        ready: set while there is an instance to ask. refused: how many callbacks we have refused
            for our own or Redis's sake so far.
        """
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            await ready.wait()
            before = refused()
            try:
                summary = await self.run()
            except ParleyError as error:
                attempt += 1
                self._report(error)
                unlistable = isinstance(error, ConnectorError) and error.status in UNLISTABLE
                pause_s = 3600.0 if unlistable else min(300.0, 2.0**attempt)
            else:
                attempt, self.state, pause_s = 0, "", every_s
                if summary.recovered:
                    log.warning(
                        "texts that no callback brought were recovered",
                        recovered=summary.recovered,
                        read=summary.read,
                    )
            end = loop.time() + pause_s * random.uniform(0.9, 1.1)  # noqa: S311  (jitter)
            seen = before
            while loop.time() < end:
                await asyncio.sleep(min(GAP_POLL_S, max(0.0, end - loop.time())))
                now = refused()
                # Some were refused since the run, and none lately: whatever it was is over.
                if not attempt and now != before and now == seen:
                    break
                seen = now

    def _report(self, error: ParleyError) -> None:
        said = f"missed texts can't be read back: {error}"
        if said != self.state:
            log.warning("missed texts can't be read back from the connector", error=str(error))
        self.state = said

    async def _start(self, now: datetime) -> datetime | None:
        covered = await self._watermark.load()
        if covered is None:
            return None
        start = covered - self._overlap
        if start < now - self._longest:
            log.error(
                "the outage was longer than is read back; older texts: parley backfill --since",
                covered=covered.isoformat(),
                longest_s=self._longest.total_seconds(),
            )
            start = now - self._longest
        return start

    async def _missing(self, since: datetime) -> list[LoggedMessage]:
        """Return the inbound rows since then, oldest first, each once."""
        found: dict[str, tuple[datetime, LoggedMessage]] = {}
        async with aclosing(self._log_between(since)) as pages:
            async for rows in pages:
                for row in rows:
                    inbound = row.direction == "inbound" and row.sid and row.from_ and row.to
                    if inbound and row.date_sent is not None and row.date_sent >= since:
                        found.setdefault(row.sid, (row.date_sent, row))
        # Dates have whole seconds: within one, the log's own order stands, turned around.
        newest_last = list(found.values())[::-1]
        return [row for _, row in sorted(newest_last, key=itemgetter(0))]

    async def _take(self, message: Message) -> bool:
        while True:
            try:
                return await self._accept(message)
            except StoreFull:
                # The workers are behind; there is no hurry here that may cost a text its place.
                await asyncio.sleep(FULL_PAUSE_S)

    def _message(self, row: LoggedMessage) -> Message:
        return Message(
            sid=MessageSid(row.sid),
            from_=row.from_,
            to=row.to,
            body=row.body,
            media=(),
            account=self._account,
            received_at=datetime.now(UTC),
            raw={
                "MessageSid": row.sid,
                "AccountSid": self._account,
                "From": row.from_,
                "To": row.to,
                "Body": row.body,
                "NumMedia": str(row.num_media),
                "SmsStatus": "received",
            },
            recovered=True,
        )
