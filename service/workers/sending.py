"""Outbox -> connector: sends one partition's replies, each once, each conversation in order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from service.core.delivery import Told, Verdict, judge, may_still_arrive, names_no_cause
from service.core.entries import EntryUnreadable
from service.core.open_connectors.error_answers import LONGEST_PAUSE_S
from service.core.twilio.error_codes import OPTED_OUT
from service.core.twilio.segments import count_segments
from service.errors import (
    ConnectorError,
    ConnectorFailed,
    ConnectorForbidden,
    ConnectorOverLimit,
    ConnectorThrottled,
    ConnectorUnanswered,
    ConnectorUnreachable,
    ConnectorUnreadable,
)
from service.model import Conversation, EntryId, Outbound
from service.store.backlog import Backlog
from service.store.partition import PartitionStore
from service.workers.clock import due_by, entered_ms, ticks_ms
from service.workers.doubts import Doubt, Doubts
from service.workers.lanes import Lanes, held
from service.workers.replies import (
    Sending,
    WaitingReply,
    advice_of,
    facts_of,
)

log = structlog.get_logger()

THROTTLED_S = 1.0
"""Pause after a 429 that does not say how long."""

AMBIGUOUS = "a row of it may be that of an earlier reply of the same words that was in doubt too"

OUTBOX_LIMIT = 1_000
"""Replies of one partition that may wait before its handlers pause."""

FRESH_S = 1.0
"""How old a mark made with the settling of its message may be when its POST leaves."""


class Sender:
    """Sends one partition's replies.

    check_lease: raises LeaseLost once the lease may have run out; asked as the bytes of a POST
        leave, since a worker frozen between its mark and its POST has lost the reply to another.
    failed: told when the partition can't go on (lease lost, Redis away).
    """

    def __init__(
        self,
        store: PartitionStore,
        sending: Sending,
        check_lease: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._sending = sending
        self._counts = sending.counts
        self._doubts = Doubts(store, sending.connector, sending.arrival_s)
        self._check_lease = check_lease
        self._below_limit = asyncio.Event()
        self._below_limit.set()
        self._items: dict[EntryId, WaitingReply] = {}
        self.lanes = Lanes(self._work, failed, sending.width)

    async def restore(self, backlog: Backlog) -> None:
        """Take over what earlier owners had not sent, marks and retry times included."""
        for entry in backlog.outbox:
            if not isinstance(entry.value, Outbound):
                error = entry.value if isinstance(entry.value, EntryUnreadable) else "no reply"
                log.error("outbox entry goes to the dead letters", entry=entry.id, error=str(error))
                if await self._store.bury_reply(entry.id, str(error)):
                    self._counts.replies["dead_letter"] += 1
                continue
            later = backlog.outbox_later.get(entry.id)
            # When its text was accepted is not kept with it.
            item = WaitingReply(entry.id, entry.value, entered_ms(entry.id))
            if later is not None:
                item.due = due_by(later.due, self._longest_wait_ms)
            if (marked := backlog.marked.get(entry.id)) is not None:
                item.doubt = self._doubts.found_marked(marked)
            self._put(item)

    def offer(
        self, entry: EntryId, outbound: Outbound, *, accepted_ms: int, fresh_mark: bool
    ) -> None:
        """Take in a reply just settled.

        accepted_ms: when its text was. fresh_mark: it was marked in the same step, not POSTed.
        """
        self._put(WaitingReply(entry, outbound, accepted_ms, fresh_mark=fresh_mark))

    def ready(self, conversation: Conversation) -> bool:
        """Tell whether a reply settled now would be POSTed at once."""
        return (
            self._sending.provisioned.is_set()
            and self._sending.pace is None
            and self._sending.breaker.closed
            and self.lanes.idle(conversation)
            and not self._sending.slots.locked()
        )

    @property
    def full(self) -> bool:
        """Whether the outbox is at its limit."""
        return not self._below_limit.is_set()

    async def room(self) -> None:
        """Wait until the outbox is below its limit."""
        await self._below_limit.wait()

    def _put(self, item: WaitingReply) -> None:
        self._items[item.entry] = item
        due = item.due or time.monotonic()
        self.lanes.put(item.outbound.conversation, item.entry, due)
        if self.lanes.pending >= OUTBOX_LIMIT:
            self._below_limit.clear()

    async def _work(self, entry: EntryId) -> float | None:
        item = self._items[entry]
        if not self._sending.provisioned.is_set():
            with self.lanes.pausing():
                await self._sending.provisioned.wait()
        while wait_ms := self._sending.breaker.wait_ms(ticks_ms()):
            with self.lanes.pausing():
                await asyncio.sleep(wait_ms / 1000)
        try:
            while (done := await self._attempt(item)) is None:
                pass
        except BaseException:
            self._sending.breaker.gave_up()
            raise
        if not done:
            return item.due
        del self._items[entry]
        # `pending` counts this item until it returns.
        if self.lanes.pending <= OUTBOX_LIMIT:
            self._below_limit.set()
        return None

    async def _turn(self, outbound: Outbound) -> bool:
        """Wait for the number's turn, where its rate is limited; False when none is given out."""
        pace = self._sending.pace
        if pace is None:
            return True
        parts = count_segments(outbound.reply.body).parts
        wait_s = await pace.turn(outbound.conversation.ours, parts)
        if wait_s is None:
            return False
        if wait_s > 0:
            with self.lanes.pausing():
                await asyncio.sleep(wait_s)
        return True

    def _report(self, error: ConnectorError) -> None:
        """Tell the breaker of a failure."""
        breaker = self._sending.breaker
        if isinstance(error, ConnectorUnreadable):
            breaker.gave_up()  # A log that can't be read says nothing of POSTs, either.
        elif isinstance(error, ConnectorThrottled):
            breaker.paused(ticks_ms(), error.retry_after_s or THROTTLED_S)
        elif isinstance(error, ConnectorUnreachable | ConnectorUnanswered | ConnectorFailed):
            if breaker.failed(ticks_ms(), random.random()):  # noqa: S311  (jitter)
                log.error("the connector is ailing; replies wait", error=str(error))
        else:
            breaker.succeeded()  # It refuses, so it works.

    async def _attempt(self, item: WaitingReply) -> bool | None:
        """Bring one reply a step further.

        Returns True when it is done with, False when it waits until `due`, None when it is now in
        doubt and the log is to be asked at once.
        """
        if item.doubt is None:
            if not await self._turn(item.outbound):
                self._sending.breaker.gave_up()
                # Spread, so that not everybody asks at once again.
                item.due = time.monotonic() + random.uniform(0.2, 1)  # noqa: S311
                return False
        else:
            # Without a slot: others must not wait while the log is read, which takes its time.
            answer = await self._look_up(item, item.doubt)
            if answer is not None:
                return answer
            if item.epitaph:
                self._sending.breaker.gave_up()
                await self._bury(item, item.epitaph, in_doubt=True)
                return True
        async with held(self._sending.slots, self.lanes):
            return await self._post(item)

    async def _post(self, item: WaitingReply) -> bool | None:
        """Mark and POST a reply of which no POST is in doubt, with a slot; returns as _attempt."""
        if item.fresh_mark and time.monotonic() - item.offered > FRESH_S:
            # It has waited: the log would be asked too early for a POST that leaves only now.
            item.fresh_mark = False
            item.repeats += 1
        if not item.fresh_mark:
            in_doubt = item.outbound if item.resent else None
            item.tries = await self._store.mark(item.entry, in_doubt)
        else:
            item.tries = 1
        item.fresh_mark = item.resent = False
        began = time.monotonic()
        began_at = self._sending.connector.moment(began)
        try:
            sid = await self._sending.connector.send(item.outbound, self._check_lease)
        except ConnectorError as error:
            self._counts.send.observe(time.monotonic() - began)
            self._report(error)
            return await self._failed_post(item, error, began, began_at)
        took_s = time.monotonic() - began
        self._counts.send.observe(took_s)
        self._sending.breaker.succeeded()
        await self._store.sent(item.entry, item.outbound, sid)
        self._done(item, "sent")
        if (tell := self._sending.tell) is not None:
            ms = round(took_s * 1000, 1)
            tell("reply sent", sid=sid, reply_to=item.outbound.reply_to, ms=ms)
        return True

    def _done(self, item: WaitingReply, outcome: str) -> None:
        self._counts.replies[outcome] += 1
        took_ms = max(0, self._sending.redis_now_ms() - item.accepted_ms)
        self._counts.callback_to_reply.observe(took_ms / 1000)

    async def _look_up(self, item: WaitingReply, doubt: Doubt) -> bool | None:
        """Settle a doubt by the connector's log.

        Returns True when the reply is done with, False when the log must be asked again later,
        None when the reply was not sent and may be POSTed.
        """
        asked = time.monotonic()
        try:
            told, mine = await self._doubts.told(
                item.entry, item.outbound, doubt, self.lanes.pausing
            )
        except ConnectorError as error:
            self._report(error)
            return await self._log_unavailable(item, error)
        if mine is None and asked < doubt.arrives_by:
            item.due = doubt.arrives_by
            self._sending.breaker.gave_up()
            return False
        if told is Told.NOTHING:
            self._sending.breaker.gave_up()
            return await self._untold(item, AMBIGUOUS)
        if mine is None:
            item.doubt = None
            return None
        log.info("a reply in doubt had been sent", **facts_of(item), connector_sid=mine.sid)
        await self._store.sent(item.entry, item.outbound, mine.sid)
        self._done(item, "found_sent")
        self._sending.breaker.gave_up()  # A log that can be read says nothing of POSTs.
        return True

    async def _log_unavailable(self, item: WaitingReply, error: ConnectorError) -> bool | None:
        schedule = self._sending.schedule
        if isinstance(error, ConnectorForbidden):
            self._sending.suspect()
            await self._put_off(item, error, 1, in_doubt=True)
            return False
        item.asked += 1
        if error.retry and item.asked < schedule.attempts:
            await self._put_off(item, error, item.asked, in_doubt=True)
            return False
        return await self._untold(item, str(error), error)

    async def _untold(
        self, item: WaitingReply, why: str, cause: ConnectorError | None = None
    ) -> bool | None:
        """Do with a doubt that the log can't settle as the operator chose; returns as _look_up."""
        if self._sending.in_doubt == "resend":
            log.warning("a reply in doubt is sent again", **facts_of(item), error=why)
            item.doubt = None
            item.resent = True
            return None
        reason = f"in doubt: it may have been sent, and the connector's log can't tell ({why})"
        await self._bury(item, reason, cause, in_doubt=True)
        return True

    async def _failed_post(
        self, item: WaitingReply, error: ConnectorError, began: float, began_at: datetime
    ) -> bool | None:
        verdict = self._doubt_the_cause(item, error, judge(error))
        if verdict is Verdict.BURY:
            if error.code == OPTED_OUT:
                await self._store.note_opt_out(item.outbound.conversation, out=True)
            await self._bury(item, str(error), error)
            return True
        if verdict is Verdict.ASK:
            arrival_s = self._sending.arrival_s if may_still_arrive(error) else 0
            item.doubt = Doubt(began, began_at, began + arrival_s)
            if item.tries - item.repeats >= self._sending.schedule.attempts:
                item.epitaph = f"{item.tries} attempts, the last: {error}"
            if item.epitaph:
                # The log tells whether the last POST arrived after all.
                return None
        else:
            # Through no fault of the reply: no attempt of its own.
            item.repeats += 1
        if isinstance(error, ConnectorForbidden):
            self._sending.suspect()
            # Once the instance is put right, it need not wait any longer.
            await self._put_off(item, error, 1, in_doubt=False)
        else:
            await self._put_off(item, error, item.tries, in_doubt=verdict is Verdict.ASK)
        return False

    def _doubt_the_cause(
        self, item: WaitingReply, error: ConnectorError, verdict: Verdict
    ) -> Verdict:
        """Find out whether a reply that is throttled again and again is so for its own sake.

        The connector answers 429 for limits of size and time as well. While as many others are
        taken, it is no matter of rate: the reply is looked up, and given up.
        """
        if not names_no_cause(error):
            item.throttled = 0
            return verdict
        # Sent, that is: a refusal shows the connector at work, but not that it takes anything.
        taken, attempts = self._counts.replies["sent"], self._sending.schedule.attempts
        if not item.throttled:
            item.taken = taken
        item.throttled += 1
        if item.throttled % attempts:
            return verdict
        if taken - item.taken < attempts:
            log.error(
                "a reply is throttled again and again",
                **facts_of(item),
                times=item.throttled,
                error=str(error),
                advice=f"if the connector takes nothing, {error.advice}; if it takes others, "
                f"{ConnectorOverLimit.advice}",
            )
            return verdict
        item.epitaph = (
            f"throttled {item.throttled} times while others were taken, so "
            f"{ConnectorOverLimit.advice} ({error})"
        )
        return Verdict.ASK

    @property
    def _longest_wait_ms(self) -> int:
        return max(self._sending.schedule.longest_ms, int(LONGEST_PAUSE_S * 1000))

    async def _put_off(
        self, item: WaitingReply, error: ConnectorError, attempt: int, *, in_doubt: bool
    ) -> None:
        wait_ms = self._sending.schedule.wait_ms(max(attempt, 1), random.random())  # noqa: S311
        if error.retry_after_s is not None:
            wait_ms = max(wait_ms, int(error.retry_after_s * 1000))
        item.due = time.monotonic() + wait_ms / 1000
        self._counts.postponed += 1
        log.warning(
            "a reply waits", **facts_of(item), wait_ms=wait_ms, error=str(error), **advice_of(error)
        )
        await self._store.put_off_reply(item.entry, wait_ms, str(error), in_doubt=in_doubt)

    async def _bury(
        self,
        item: WaitingReply,
        error: str,
        cause: ConnectorError | None = None,
        *,
        in_doubt: bool = False,
    ) -> None:
        """Make a dead letter; in_doubt: its last POST may have gone out, whatever the log said."""
        advice = advice_of(cause) if cause else {}
        log.error("a reply becomes a dead letter", **facts_of(item), error=error, **advice)
        posted = item.outbound if in_doubt else None
        if await self._store.bury_reply(item.entry, error, posted):
            self._counts.replies["dead_letter"] += 1
