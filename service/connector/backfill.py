"""Reads back what no callback brought: inbound texts of the connector's message log.

Twilio repeats a callback for seconds, and then never again; an outage of ours loses what came
meanwhile. The log still has it. It is read from where nothing is missing, with an overlap, and
every inbound row is offered to the inbox like a callback: whatever was accepted before is a
duplicate, by its MessageSid, and changes nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Protocol

import structlog

from service.core.open_connectors.wire import LoggedMessage
from service.core.twilio.callback import with_media
from service.errors import ConnectorError, ConnectorGone, ConnectorRefused, ParleyError, StoreFull
from service.model import Conversation, Media, Message, MessageSid

log = structlog.get_logger()

GAP_POLL_S = 5.0
"""How often it is looked whether callbacks were refused since the last run."""

TURNING = timedelta(seconds=10)
"""Longer than it takes from the moment another number is applied until every process knows it."""

UNLISTABLE = frozenset({400, 404, 405, 406, 501})
"""Statuses of a connector that can't list messages at all."""

FULL_PAUSE_S = 1.0

SETTLING = timedelta(seconds=20)
"""By itself, no text younger than this is accepted: its callback may be on its way, and says more
of it than the log does. Twilio's attempts end within 15 s."""


class Log(Protocol):
    """The connector: `service.connector.client.Connector`."""

    def log_between(self, since: datetime) -> AsyncGenerator[Sequence[LoggedMessage]]:
        """Yield pages of the log, newest first, back to a moment."""

    async def media_of(self, sid: str) -> tuple[Media, ...]:
        """Return the attachments of a message."""

    def moment(self, at: float) -> datetime:
        """Tell what its clock showed at a time of ours (time.monotonic)."""


class TextSink(Protocol):
    """Where texts go: `service.store.inbox.Inbox`. Both raise StoreUnavailable."""

    async def accept(self, arrival: Message) -> bool:
        """Take a message; True when it is new. Raises StoreFull, too."""

    async def had(self, texts: Sequence[tuple[Conversation, MessageSid]]) -> list[bool]:
        """Tell of each text whether it was accepted."""


class WatermarkStore(Protocol):
    """Where the moment, by the log's clock, is kept: `service.store.watermark.Watermark`."""

    async def load(self) -> datetime | None:
        """Return it, None at first."""

    async def save(self, covered: datetime) -> None:
        """Keep it."""

    async def first(self, now: datetime) -> datetime:
        """Return when this deployment first began; `now`, if it does so now."""

    async def numbers(self) -> frozenset[str]:
        """Return the numbers that are known as ours."""

    async def learn(self, numbers: Collection[str]) -> None:
        """Keep numbers as ours."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Let one process at a time read the log."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found. since: from when on it read; None when there was nothing to begin with.

    read: inbound texts in the log. known: those accepted before. recovered: those that were
    missing, accepted now (or, in a dry run, missing). young: left to their callbacks. foreign:
    missing, but to numbers that are not known as ours.
    """

    since: datetime | None
    read: int = 0
    known: int = 0
    recovered: int = 0
    young: int = 0
    foreign: int = 0


class Backfill:
    """Fills the gap an outage left.

    account: our AccountSid. sender: our number.
    overlap: read again before the moment known to be covered, for texts that reach the log late.
    longest: furthest it looks back by itself; below the de-duplication window, or texts would be
        answered twice.
    now: when a text that it accepts counts as received; aware.
    state: how it stands, a sentence; "" when there is nothing to say.
    recovered: texts it has accepted.
    """

    def __init__(
        self,
        log_: Log,
        inbox: TextSink,
        watermark: WatermarkStore,
        *,
        account: str,
        sender: str,
        overlap: timedelta,
        longest: timedelta,
        settling: timedelta = SETTLING,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log = log_
        self._inbox = inbox
        self._watermark = watermark
        self._account = account
        self._sender = sender
        self._since: dict[str, datetime] = {}
        self._overlap = overlap
        self._longest = longest
        self._settling = settling
        self._now = now
        self._told_of_foreign = False
        self.state = ""
        self.recovered = 0

    def turn_to(self, account: str, sender: str) -> None:
        """Fill this account's gap from the next run on; the one under way ends as it began.

        What came to a number before it took another one's place was another system's to answer.
        """
        if self._sender not in {"", sender}:
            self._since[sender] = self._now() - TURNING
        self._account = account
        self._sender = sender

    async def run(
        self,
        since: datetime | None = None,
        *,
        numbers: Collection[str] = (),
        dry: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Summary:
        """Read the log back and accept what is missing, oldest first.

        since: aware; from the watermark on if None. The first run of a deployment only sets the
            watermark: what came before was not sent to us.
        numbers: of ours, besides the sender and those that texts were accepted for.
        dry: accept nothing. progress: told how many of how many are done.
        Raises ConnectorError (ConnectorUnreadable for a log whose rows tell nothing),
            StoreUnavailable; the watermark then stays. LockLost when another process may be
            reading the log as well; what was accepted twice by that is a duplicate.
        """
        account, sender = self._account, self._sender
        async with self._watermark.lock():
            began = self._log.moment(time.monotonic())
            start = since or await self._start(began)
            if start is None:
                await self._watermark.save(began)
                return Summary(None)
            # Whoever asks by hand wants all there is.
            settled = began if since else began - self._settling
            found = await self._missing(start, settled)
            # The log is the whole account's: others may answer its other numbers.
            ours = {sender, *numbers, *await self._watermark.numbers(), *found.numbers}
            texts = [row for row in found.texts if row.to in ours]
            recovered = 0
            for place, row in enumerate(texts, start=1):
                if dry or await self._take(await self._message(row, account)):
                    recovered += 1
                if progress is not None:
                    progress(place, len(texts))
            if not dry:
                self.recovered += recovered
                await self._watermark.learn(found.numbers)
                if since is None:
                    await self._watermark.save(settled)
            return Summary(
                since=start,
                read=found.read,
                known=found.known + len(texts) - recovered,
                recovered=recovered,
                young=found.young,
                foreign=len(found.texts) - len(texts),
            )

    async def keep_filling(
        self, ready: asyncio.Event, every_s: float, refused: Callable[[], int]
    ) -> None:
        """Run at the start, on a timer, and after callbacks were refused, until cancelled.

        ready: set while there is an instance to ask. refused: how many callbacks we have refused
            for our own or Redis's sake so far.
        """
        loop = asyncio.get_running_loop()
        attempt, followed = 0, False
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
                # Once more, when the callbacks that may have been on their way have come.
                followed = summary.young > 0 and not followed
                if followed:
                    pause_s = min(every_s, self._settling.total_seconds() * 1.2)
                self._tell_of_foreign(summary.foreign)
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

    def _tell_of_foreign(self, count: int) -> None:
        if count and not self._told_of_foreign:
            log.info(
                "texts to numbers not known as ours were left alone; see `parley backfill --to`",
                count=count,
            )
        self._told_of_foreign = self._told_of_foreign or count > 0

    def _report(self, error: ParleyError) -> None:
        said = f"missed texts can't be read back: {error}"
        if said != self.state:
            advice = {"advice": error.advice} if isinstance(error, ConnectorError) else {}
            log.warning(
                "missed texts can't be read back from the connector", error=str(error), **advice
            )
        self.state = said

    async def _start(self, now: datetime) -> datetime | None:
        covered = await self._watermark.load()
        first = await self._watermark.first(now)
        if covered is None:
            return None
        # The overlap must not reach back to before anybody asked us to answer.
        start = max(covered - self._overlap, first)
        if start < now - self._longest:
            log.error(
                "the outage was longer than is read back; older texts: parley backfill --since",
                covered=covered.isoformat(),
                longest_s=self._longest.total_seconds(),
            )
            start = now - self._longest
        return start

    async def _missing(self, since: datetime, settled: datetime) -> _Found:
        """Read the log; keep of it what was never accepted."""
        found = _Found()
        before: frozenset[str] = frozenset()
        async with aclosing(self._log.log_between(since)) as pages:
            async for page in pages:
                # A row that new ones moved on comes again with the next page.
                dated = [
                    (row.date_sent, row)
                    for row in page
                    if row.direction == "inbound"
                    if row.date_sent is not None
                    if row.date_sent >= self._since.get(row.to, since) and row.date_sent >= since
                    if row.sid not in before
                ]
                before = frozenset(row.sid for row in page)
                had = await self._inbox.had(
                    [(Conversation(row.to, row.from_), MessageSid(row.sid)) for _, row in dated]
                )
                found.read += len(dated)
                found.known += sum(had)
                for (sent, row), known in zip(dated, had, strict=True):
                    if known:
                        found.numbers.add(row.to)
                    elif sent > settled:
                        found.young += 1
                    else:
                        found.missing.append((sent, row))
        return found

    async def _take(self, message: Message) -> bool:
        while True:
            try:
                return await self._inbox.accept(message)
            except StoreFull:
                # The workers are behind; there is no hurry here that may cost a text its place.
                await asyncio.sleep(FULL_PAUSE_S)

    async def _message(self, row: LoggedMessage, account: str) -> Message:
        media = await self._media(row.sid) if row.num_media else ()
        raw = {
            "MessageSid": row.sid,
            "AccountSid": account,
            "From": row.from_,
            "To": row.to,
            "Body": row.body,
            "NumMedia": str(row.num_media),
            "SmsStatus": "received",
        }
        return Message(
            sid=MessageSid(row.sid),
            from_=row.from_,
            to=row.to,
            body=row.body,
            media=media,
            account=account,
            received_at=self._now(),
            raw=with_media(raw, media),
            recovered=True,
        )

    async def _media(self, sid: str) -> tuple[Media, ...]:
        try:
            return await self._log.media_of(sid)
        except (ConnectorGone, ConnectorRefused) as error:
            log.warning("a recovered text comes without its pictures", sid=sid, error=str(error))
            return ()


@dataclass(slots=True)
class _Found:
    """What the log told. missing: with dates, newest first. numbers: of ours, by what is known."""

    read: int = 0
    known: int = 0
    young: int = 0
    missing: list[tuple[datetime, LoggedMessage]] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)

    @property
    def texts(self) -> list[LoggedMessage]:
        """What is missing, oldest first."""
        # Dates have whole seconds: within one, the log's own order stands, turned around.
        oldest_first = self.missing[::-1]
        return [row for _, row in sorted(oldest_first, key=itemgetter(0))]
