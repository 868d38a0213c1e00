"""Inbox -> handler -> settle: takes the messages of one partition through their handlers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import structlog

from service.core.entries import EntryUnreadable
from service.core.masking import mask_number
from service.core.retry import Schedule
from service.core.twilio import opt_out
from service.errors import HandlerError, LeaseLost
from service.handlers.failures import frames_of, full_text, outline
from service.handlers.loop import HandlersLoop
from service.handlers.router import Choice, Router
from service.handlers.running import LongReplies, run_handler
from service.model import Conversation, EntryId, Message, Outbound, Reply
from service.store.backlog import Entry, Later
from service.store.partition import Begun, PartitionStore
from service.workers.clock import due_by, entered_ms
from service.workers.counts import Counts
from service.workers.lanes import WIDTH, Lanes, held
from service.workers.sending import Sender
from service.workers.telling import Tell

log = structlog.get_logger()

READ_AHEAD = 64
"""Messages of one partition that wait for a lane with their texts in memory: as long as there are
more, no more are read. What waits for its time or behind another is not among them."""

APART_S = 0.1
"""Pause before a message that has to run apart from others like it asks again."""


@dataclass(frozen=True, slots=True)
class Handling:
    """How a process handles messages; shared by all of its partitions.

    slots: bounds handlers running at once. place: where they run.
    timeout_s: longest a handler may take. schedule: its retries.
    long_replies: what becomes of a text that is too long for one message.
    counts: what is counted of texts. tell: logs a line for each text; None for no lines.
    opt_out_words: words that Twilio answers itself, in upper case.
    width: messages of one partition under way at once, no fewer than there are slots.
    last_attempt: held by a message with one attempt left whose earlier ones never ended. Whichever
        of them killed its process, the others were under way as well: now each runs without them,
        or all would become dead letters together.
    """

    router: Router
    slots: asyncio.Semaphore
    place: HandlersLoop
    timeout_s: float
    schedule: Schedule
    counts: Counts = field(default_factory=Counts)
    tell: Tell | None = None
    opt_out_words: frozenset[str] = opt_out.WORDS
    long_replies: LongReplies = "split"
    width: int = WIDTH
    last_attempt: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class _Waiting:
    entry: EntryId
    unended: int


class Processor:
    """Handles one partition's messages, each conversation in order.

    failed: told when the partition can't go on (lease lost, Redis away).
    expired: whether the lease may have run out by our own clock. Called in any thread.
    left_running: a handler that can't be ended was left behind, as the process is about to end.
    """

    def __init__(
        self,
        store: PartitionStore,
        sender: Sender,
        handling: Handling,
        failed: Callable[[BaseException], None],
        expired: Callable[[], bool] = lambda: False,
    ) -> None:
        self._expired = expired
        self.left_running = False
        self._store = store
        self._sender = sender
        self._handling = handling
        self._counts = handling.counts
        self._ahead: dict[EntryId, Message | Outbound] = {}
        self._unended: dict[EntryId, int] = {}
        self.lanes = Lanes(self._work, failed, handling.width)

    @property
    def room(self) -> bool:
        """Whether more of the inbox should be read."""
        return len(self._ahead) < READ_AHEAD

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
        if tries and later is None:
            self._unended[entry.id] = tries
        self._ahead[entry.id] = value
        # One after another, as they were accepted.
        due = due_by(later.due, self._handling.schedule.longest_ms) if later else time.monotonic()
        if not self.lanes.put(value.conversation, entry.id, due):
            # It is read again when it begins: there is no telling how many are like it.
            del self._ahead[entry.id]

    async def _work(self, entry: EntryId) -> float | None:
        item = _Waiting(entry, self._unended.pop(entry, 0))
        read = self._ahead.pop(entry, None)
        while True:
            if self._sender.full:
                with self.lanes.pausing():
                    await self._sender.room()
            apart = self._apart(item)
            if apart is not None and apart.locked():
                self._unended[entry] = item.unended
                return time.monotonic() + APART_S
            async with apart or nullcontext(), held(self._handling.slots, self.lanes):
                if self._sender.full:
                    continue  # Others had the slots meanwhile.
                value = read or await self._read_again(entry)
                conversation = value.conversation
                if isinstance(value, Outbound):
                    # Replayed: its text was answered, and counted, long ago.
                    await self._settle(entry, conversation, [value], entered_ms(entry))
                    return None
                error = await self._attempt(conversation, item, value)
            if error is None:
                return None
            return await self._put_off(item, *error)

    def _apart(self, item: _Waiting) -> asyncio.Lock | None:
        """Return what the message holds while it runs, if it has to run apart."""
        left = self._handling.schedule.attempts - item.unended
        return self._handling.last_attempt if item.unended and left == 1 else None

    async def _read_again(self, entry: EntryId) -> Message | Outbound:
        found = await self._store.fetch(entry)
        # It could be read when it came in.
        if found is None or isinstance(found.value, EntryUnreadable):
            raise SettledUnseen(entry)
        return found.value

    async def _attempt(
        self, conversation: Conversation, item: _Waiting, message: Message
    ) -> tuple[int, HandlerError] | None:
        """Run the handler once and settle; returns the attempt's number and error if it failed.

        What a stop or a hand-over cuts short is no attempt of the message's own, and is taken back.
        What is cut short because the lease was lost can't be: only the owner may count, and a
        handler that keeps the interpreter to itself for longer than a lease is found by its count.
        The others that were under way then have their last attempt apart, see `Handling`.
        """
        kind = opt_out.kind_of(message, self._handling.opt_out_words)
        asked = conversation if kind == opt_out.START_IF_OUT else None
        begun = await self._store.begin(item.entry, asked)
        if begun is None:
            raise SettledUnseen(item.entry)
        try:
            return await self._answer(conversation, item, message, kind, begun)
        except asyncio.CancelledError:
            await self._store.abandon(item.entry)
            raise

    async def _answer(
        self,
        conversation: Conversation,
        item: _Waiting,
        message: Message,
        kind: str,
        begun: Begun,
    ) -> tuple[int, HandlerError] | None:
        schedule = self._handling.schedule
        attempt = begun.number
        kind = opt_out.judge(kind, opted_out=begun.opted_out)
        choice = self._handling.router.choose(message, answered=opt_out.is_answered(kind))
        if opt_out.opts_out(kind):
            # Before anything is committed: done again after a crash, it changes nothing more.
            await self._store.note_opt_out(conversation, out=True)
        if attempt > schedule.attempts:
            error = f"attempt {schedule.attempts} of {schedule.attempts} was begun and never ended"
            route = choice.route if choice else ""
            await self._bury(item, message, error, route, opted_in=opt_out.opts_in(kind))
            return None
        replies: tuple[Reply, ...] = ()
        began = time.monotonic()
        if choice is not None:
            try:
                replies = await self._run(choice, message, began)
            except HandlerError as error:
                said = outline(error, choice, message)
                log.warning(
                    "handler failed",
                    sid=message.sid,
                    route=choice.route,
                    attempt=attempt,
                    of=schedule.attempts,
                    error=said,
                )
                log.debug("where the handler failed", sid=message.sid, frames=frames_of(error))
                if attempt < schedule.attempts:
                    return attempt, error
                await self._bury(
                    item,
                    message,
                    full_text(error),
                    choice.route,
                    opted_in=opt_out.opts_in(kind),
                    logged=said,
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
            opted_in=opt_out.opts_in(kind),
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
            replies = await run_handler(
                choice,
                message,
                handling.place,
                handling.timeout_s,
                long_replies=handling.long_replies,
                expired=self._expired,
            )
        except asyncio.CancelledError:
            self.left_running = self.left_running or handling.place.let_go.done()
            raise
        except HandlerError as error:
            if self._expired():
                # Cut short by us, perhaps; whatever it is, it is the next owner's to find.
                raise LeaseLost("the lease ran out while a handler was under way") from error
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

    async def _put_off(self, item: _Waiting, attempt: int, error: HandlerError) -> float:
        """Put a message off; returns when it is due again, time.monotonic."""
        wait_ms = self._handling.schedule.wait_ms(attempt, random.random())  # noqa: S311
        due = time.monotonic() + wait_ms / 1000
        await self._store.put_off_message(item.entry, wait_ms, str(error))
        return due

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
