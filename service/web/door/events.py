"""The door's part that takes the platform's events: pages of rows, of which some are ours.

A verified event is answered 200 whatever it holds, but for what Redis or the connector can't do
now: the platform gives up an event that is refused again and again, and all events with it.

Rows tell how many pictures a text has, and not where they are. The connector is asked before the
text is accepted, as the backfill does: what is in an inbox is whole, whoever handles it. The
platform repeats over hours, so what can't be had within `PICTURES_S` is answered 503, and costs
neither the other conversations of the event nor any callback.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import structlog

from service.core.open_connectors.events import (
    Row,
    may_be_signed,
    read_event,
    sort_rows,
    verify_event,
)
from service.core.twilio.callback import parse_inbound, parse_status, with_media
from service.errors import (
    ConnectorError,
    ConnectorGone,
    ConnectorRefused,
    StoreUnavailable,
)
from service.host.answers import Receive
from service.host.seldom import SeldomLog
from service.model import Conversation, Media, MessageSid
from service.web.door.judging import Arrival
from service.web.door.request import Headers, read_body

log = structlog.get_logger()

EVENT_LIMIT_BYTES = 4 * 1024 * 1024
"""Body of an event. A page of 70 rows has 71 kB; one after an outage has thousands."""

LARGE_BYTES = 64 * 1024
LARGE_AT_ONCE = 8
"""Bodies above the first that are held at once before they are verified: 32 MiB, not gigabytes."""

PICTURES_S = 5.0
PICTURES_AT_ONCE = 4
"""For all pictures of an event, which is answered in 10 s; and requests of the connector at once,
as many as it has connections beside those for replies."""

RETRY_AFTER_S = 60
"""Said when pictures can't be had now."""


class ArrivalSink(Protocol):
    """Where texts and reports go: `service.store.inbox.Inbox`. Both raise StoreUnavailable."""

    async def accept(self, arrival: Arrival) -> bool:
        """Keep what arrived; True when it is new."""

    async def had(self, texts: Sequence[tuple[Conversation, MessageSid]]) -> list[bool]:
        """Tell of each text whether it was accepted."""


class Numbers(Protocol):
    """Our numbers: `service.store.watermark.Watermark`. Both raise StoreUnavailable."""

    async def numbers(self) -> frozenset[str]:
        """Return the numbers that are known as ours."""

    async def learn(self, numbers: Collection[str]) -> None:
        """Keep numbers as ours."""


class Pictures(Protocol):
    """Where pictures are: `service.connector.client.Connector`."""

    async def media_of(self, sid: str) -> tuple[Media, ...]:
        """Return the attachments of a message. Raises ConnectorError."""


class Events:
    """Takes events.

    key: what the platform signs them with; "" refuses them all. account, sender: ours.
    limit_bytes: of a body. pictures_s: longest wait for the pictures of one event.
    warnings_per_s: log lines of each kind.
    """

    def __init__(
        self,
        key: str,
        *,
        account: str,
        sender: str,
        inbox: ArrivalSink,
        numbers: Numbers,
        pictures: Pictures,
        limit_bytes: int = EVENT_LIMIT_BYTES,
        pictures_s: float = PICTURES_S,
        warnings_per_s: float = 1.0,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.turn_to(key, account=account, sender=sender)
        self._inbox = inbox
        self._numbers = numbers
        self._pictures = pictures
        self._pictures_s = pictures_s
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._say = SeldomLog(warnings_per_s)

    def turn_to(self, key: str, *, account: str, sender: str) -> None:
        """Take events signed so, for this account and number, from the next one on."""
        self._key = key
        self._account = account
        self._sender = sender

    def may_be_genuine(self, headers: Headers) -> bool:
        """Tell whether an event's body is worth reading; says in the log when it is not."""
        if self._key and may_be_signed(headers.event_signature):
            return True
        self._refuse(headers.length or 0)
        return False

    async def read(self, receive: Receive, headers: Headers, room: int) -> bytes | None:
        """Read an event's body; None when the caller left. Raises CallbackTooLarge."""
        large = headers.length is None or headers.length > LARGE_BYTES
        turn: AbstractAsyncContextManager[None] = self._large if large else nullcontext()
        async with turn:
            return await read_body(receive, room)

    async def take(
        self, body: bytes, headers: Headers, now: Callable[[], datetime]
    ) -> list[tuple[Arrival, bool]] | None:
        """Verify an event and accept what is ours of it, each conversation in order.

        Returns what was accepted, each with whether it is new; None for a forged event.
        Raises StoreUnavailable when Redis, or the connector, could not do its part for some: the
            others are accepted, and nothing changes for them when the event comes again.
        """
        # One event is one account's, whatever is turned to meanwhile.
        account, sender = self._account, self._sender
        if not verify_event(self._key, body, headers.event_signature):
            self._refuse(len(body))
            return None
        page = read_event(body)
        known = await self._known(page.rows)
        found = sort_rows(page.rows, account, await self._ours(known, sender))
        self._tell(found.foreign, page.unreadable, nothing=not page.rows)
        media = await self._media([row for row in found.texts if row.sid not in known])
        # Together for all conversations, one after another within each.
        rows = [*_by_conversation(found.texts).values(), *([row] for row in found.reports)]
        tasks = [self._accept(each, account, media, now) for each in rows]
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for each in ended:
            if isinstance(each, BaseException):
                raise each
        return [each for part in ended if isinstance(part, list) for each in part]

    async def _known(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Return the sids of texts that were accepted before, with the numbers of ours."""
        texts = [row for row in rows if row.kind != "report"]
        had = await self._inbox.had(
            [
                (Conversation(row.fields["To"], row.fields["From"]), MessageSid(row.sid))
                for row in texts
            ]
        )
        return {row.sid: row.fields["To"] for row, known in zip(texts, had, strict=True) if known}

    async def _ours(self, known: Mapping[str, str], sender: str) -> frozenset[str]:
        """Return our numbers by the backfill's rule: the sender, and those of texts accepted."""
        kept, met = await self._numbers.numbers(), frozenset(known.values())
        await self._numbers.learn(met - kept - {sender})
        return kept | met | {sender}

    async def _media(self, texts: Sequence[Row]) -> Mapping[str, Sequence[Media] | None]:
        """Ask for the pictures of texts, by sid; None for those that can't be had now."""
        loop = asyncio.get_running_loop()
        slots, end = asyncio.Semaphore(PICTURES_AT_ONCE), loop.time() + self._pictures_s
        found: dict[str, Sequence[Media] | None] = {}

        async def ask(sid: str) -> None:
            found[sid] = None
            try:
                async with asyncio.timeout_at(end), slots:
                    found[sid] = await self._pictures.media_of(sid)
            except (ConnectorGone, ConnectorRefused) as error:
                log.warning("a relayed text comes without its pictures", sid=sid, error=str(error))
                found[sid] = ()
            except (TimeoutError, ConnectorError) as error:
                log.warning(
                    "the pictures of a relayed text can't be had now; the event is asked for again",
                    sid=sid,
                    error=str(error) or f"no answer in {self._pictures_s:g} s",
                )

        async with asyncio.TaskGroup() as group:
            for row in texts:
                if row.pictures:
                    group.create_task(ask(row.sid))
        return found

    async def _accept(
        self,
        rows: Sequence[Row],
        account: str,
        media: Mapping[str, Sequence[Media] | None],
        now: Callable[[], datetime],
    ) -> list[tuple[Arrival, bool]]:
        accepted: list[tuple[Arrival, bool]] = []
        for row in rows:
            fields = {"AccountSid": account, **row.fields}
            pictures = media.get(row.sid, ())
            if pictures is None:
                # Those behind it would be answered before it.
                raise StoreUnavailable("the connector does not tell pictures", RETRY_AFTER_S)
            arrival: Arrival
            if row.kind == "report":
                arrival = parse_status(fields)
            else:
                text = parse_inbound(fields, now())
                arrival = text
                if pictures:
                    arrival = replace(text, media=tuple(pictures), raw=with_media(fields, pictures))
            accepted.append((arrival, await self._inbox.accept(arrival)))
        return accepted

    def _tell(self, foreign: int, unreadable: int, *, nothing: bool) -> None:
        if unreadable or nothing:
            self._say.warning(
                "an event holds rows that can't be read, or none; their texts are not taken",
                unreadable=unreadable,
            )
        elif foreign:
            self._say.info(
                "rows of an event that are not of our numbers were left alone", count=foreign
            )

    def _refuse(self, body_bytes: int) -> None:
        hint = (
            "EVENT_SIGNATURE_KEY is not the event.notification.signature.key of the instance, "
            "or the body was changed on its way."
            if self._key
            else "Set EVENT_SIGNATURE_KEY to the event.notification.signature.key of the instance."
        )
        self._say.warning("signature of an event refused", hint=hint, body_bytes=body_bytes)


def _by_conversation(rows: Sequence[Row]) -> Mapping[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.fields["To"], row.fields["From"]].append(row)
    return found
