"""Inbox -> handler -> settle: takes the messages of one partition through their handlers."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

import structlog

from service.core import opt_out
from service.core.entries import EntryUnreadable
from service.core.masking import mask_number
from service.core.retry import Schedule
from service.errors import HandlerError
from service.handlers.router import Choice, Router
from service.handlers.running import run_handler
from service.model import Conversation, EntryId, Message, Outbound, Reply
from service.store.partition import Entry, Later, PartitionStore
from service.workers.clock import due_by, entered_ms, sleep_until
from service.workers.counts import Counts
from service.workers.lanes import Lanes, held
from service.workers.sending import Sender
from service.workers.telling import Tell

log = structlog.get_logger()

READ_AHEAD = 256
"""Messages of one partition kept in memory; of those behind them only the ids are."""


@dataclass(frozen=True, slots=True)
class Handling:
    """How a process handles messages; shared by all of its partitions.

    slots: bounds handlers running at once. executor: runs plain `def` handlers.
    timeout_s: longest a handler may take. schedule: its retries.
    counts: what is counted of texts. tell: logs a line for each text; None for no lines.
    opt_out_words: words that Twilio answers itself, in upper case.
    last_attempt: held by a message with one attempt left whose earlier ones never ended. Whichever
        of them killed its process, the others were under way as well: now each runs without them,
        or all would become dead letters together.
    """

    router: Router
    slots: asyncio.Semaphore
    executor: Executor
    timeout_s: float
    schedule: Schedule
    counts: Counts = field(default_factory=Counts)
    tell: Tell | None = None
    opt_out_words: frozenset[str] = opt_out.WORDS
    last_attempt: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class _Waiting:
    entry: EntryId
    value: Message | Outbound | None
    due: float  # time.monotonic
    unended: int


class Handler:
    """Handles one partition's messages, each conversation in order.

    failed: told when the partition can't go on (lease lost, Redis away).
    """

    def __init__(
        self,
        store: PartitionStore,
        sender: Sender,
        handling: Handling,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._sender = sender
        self._handling = handling
        self._counts = handling.counts
        self.lanes: Lanes[_Waiting] = Lanes(self._work, failed)

    async def offer(self, entry: Entry, later: Later | None, *, tries: int = 0) -> None:
        """Take in the next entry of the inbox.

        later: the note of an earlier failed attempt. tries: attempts that earlier workers began.
        """
        value = entry.value
        if isinstance(value, EntryUnreadable):
            log.error(
                "inbox entry is unreadable and goes to the dead letters",
                entry=entry.id,
                error=str(value),
            )
            if await self._store.bury_message(entry.id, str(value)):
                self._counts.texts["dead_letter"] += 1
            return
        keep = value if self.lanes.pending < READ_AHEAD else None
        due = due_by(later.due, self._handling.schedule.longest_ms) if later else 0
        unended = 0 if later else tries
        self.lanes.put(value.conversation, _Waiting(entry.id, keep, due, unended))

    async def _work(self, conversation: Conversation, item: _Waiting) -> None:
        while True:
            if item.due > time.monotonic():
                with self.lanes.pausing():
                    await sleep_until(item.due)
            if self._sender.full:
                with self.lanes.pausing():
                    await self._sender.room()
            async with self._apart(item), held(self._handling.slots, self.lanes):
                # Read here and not before: only what has a slot is in memory.
                value = item.value or await self._read_again(item.entry)
                if isinstance(value, Outbound):
                    # Replayed: its text was answered, and counted, long ago.
                    await self._settle(item.entry, conversation, [value], entered_ms(item.entry))
                    return
                error = await self._attempt(conversation, item, value)
            if error is None:
                return
            await self._put_off(item, value, *error)

    def _apart(self, item: _Waiting) -> AbstractAsyncContextManager[None]:
        left = self._handling.schedule.attempts - item.unended
        return self._handling.last_attempt if item.unended and left == 1 else nullcontext()

    async def _read_again(self, entry: EntryId) -> Message | Outbound:
        found = await self._store.fetch(entry)
        # It could be read when it came in.
        if found is None or isinstance(found.value, EntryUnreadable):
            raise SettledUnseen(entry)
        return found.value

    async def _attempt(
        self, conversation: Conversation, item: _Waiting, message: Message
    ) -> tuple[int, HandlerError] | None:
        """Run the handler once and settle; returns the attempt's number and error if it failed."""
        schedule = self._handling.schedule
        kind = opt_out.kind_of(message, self._handling.opt_out_words)
        asked = conversation if kind == opt_out.START_IF_OUT else None
        begun = await self._store.begin(item.entry, asked)
        if begun is None:
            raise SettledUnseen(item.entry)
        attempt = begun.number
        kind = opt_out.judge(kind, opted_out=begun.opted_out)
        choice = self._handling.router.choose(message, answered=bool(kind))
        if kind == "STOP":
            # Before anything is committed: done again after a crash, it changes nothing more.
            await self._store.note_opt_out(conversation, out=True)
        if attempt > schedule.attempts:
            error = f"attempt {schedule.attempts} of {schedule.attempts} was begun and never ended"
            route = choice.route if choice else ""
            await self._bury(item, message, error, route, opted_in=kind == "START")
            return None
        replies: tuple[Reply, ...] = ()
        began = time.monotonic()
        if choice is not None:
            try:
                replies = await self._run(choice, message, began)
            except asyncio.CancelledError:
                # A stop or a hand-over: no fault of the message, and no attempt of its own.
                await self._store.abandon(item.entry)
                raise
            except HandlerError as error:
                log.warning(
                    "handler failed",
                    sid=message.sid,
                    route=choice.route,
                    attempt=attempt,
                    of=schedule.attempts,
                    error=outline(error),
                )
                if attempt < schedule.attempts:
                    return attempt, error
                await self._bury(
                    item,
                    message,
                    str(error),
                    choice.route,
                    opted_in=kind == "START",
                    logged=outline(error),
                )
                return None
        outbounds = [
            Outbound(conversation, reply, message.sid, index) for index, reply in enumerate(replies)
        ]
        took_ms = round((time.monotonic() - began) * 1000, 1)
        await self._settle(
            item.entry,
            conversation,
            outbounds,
            _accepted_ms(message),
            opted_in=kind == "START",
        )
        if choice is None:
            self._counts.texts["left_to_twilio" if kind else "unrouted"] += 1
        else:
            self._counts.texts["answered" if replies else "silent"] += 1
        if (tell := self._handling.tell) is not None:
            _tell_settled(
                tell, message, choice, kind, attempt=attempt, replies=len(replies), took_ms=took_ms
            )
        return None

    async def _run(self, choice: Choice, message: Message, began: float) -> tuple[Reply, ...]:
        """Run the handler; count how long it took, unless we cut it short ourselves."""
        handling = self._handling
        try:
            replies = await run_handler(choice, message, handling.executor, handling.timeout_s)
        except HandlerError:
            self._counts.handler_failures += 1
            self._counts.handler.observe(time.monotonic() - began)
            raise
        self._counts.handler.observe(time.monotonic() - began)
        return replies

    async def _settle(
        self,
        entry: EntryId,
        conversation: Conversation,
        outbounds: list[Outbound],
        accepted_ms: int,
        *,
        opted_in: bool = False,
    ) -> None:
        mark = bool(outbounds) and self._sender.ready(conversation)
        ids = await self._store.settle(
            entry, outbounds, mark=mark, opted_in=conversation if opted_in else None
        )
        if ids is None:
            # Settled by an attempt whose answer was lost: its replies are in Redis, unknown here.
            raise SettledUnseen(entry)
        for place, (id_, outbound) in enumerate(zip(ids, outbounds, strict=True)):
            fresh = mark and place == 0
            self._sender.offer(id_, outbound, accepted_ms=accepted_ms, fresh_mark=fresh)

    async def _put_off(
        self, item: _Waiting, message: Message, attempt: int, error: HandlerError
    ) -> None:
        wait_ms = self._handling.schedule.wait_ms(attempt, random.random())  # noqa: S311
        item.due = time.monotonic() + wait_ms / 1000
        item.value = message
        await self._store.put_off_message(item.entry, wait_ms, str(error))

    async def _bury(
        self,
        item: _Waiting,
        message: Message,
        error: str,
        route: str,
        *,
        opted_in: bool,
        logged: str = "",
    ) -> None:
        """Make a dead letter; `logged` is said in the log instead of the error."""
        said = logged or error
        if opted_in:
            # Before the letter: done again after a crash, the message has no attempts left either.
            await self._store.note_opt_out(message.conversation, out=False)
        log.error("message becomes a dead letter", sid=message.sid, route=route, error=said)
        if await self._store.bury_message(item.entry, error, route):
            self._counts.texts["dead_letter"] += 1


def _accepted_ms(message: Message) -> int:
    return int(message.received_at.timestamp() * 1000)


def outline(error: HandlerError) -> str:
    """Say what a handler raised and where, without its text: that may quote a message.

    The whole text is in the dead letter and the retry note, in Redis.
    """
    cause = error.__cause__
    if cause is None:
        return str(error)
    frames = traceback.extract_tb(cause.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(cause).__name__}{place}"


class SettledUnseen(Exception):
    """A message was found settled although this worker never heard so."""


def _tell_settled(
    tell: Tell,
    message: Message,
    choice: Choice | None,
    kind: str,
    *,
    attempt: int,
    replies: int,
    took_ms: float,
) -> None:
    """Log what became of a text that is settled. took_ms: its handler."""
    sender = mask_number(message.from_)
    if choice is not None:
        tell(
            "text handled",
            sid=message.sid,
            sender=sender,
            route=choice.route,
            attempt=attempt,
            replies=replies,
            ms=took_ms,
        )
    elif kind:
        tell("left to Twilio, which has answered it", sid=message.sid, sender=sender, kind=kind)
    else:
        tell("no route matched", sid=message.sid, sender=sender)
