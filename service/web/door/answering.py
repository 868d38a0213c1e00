"""What answers: keeps what a judged callback announces, and owes its caller one answer for it.

Both ways in share this from the judgement on. The inbox tells us later; until then an answer is
owed, for so long at most. What is announced by one callback is kept one after another, as texts of
one conversation may be among it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from service.core.masking import mask_number
from service.core.metrics import ACKNOWLEDGEMENT_BOUNDS
from service.core.tally import Histogram
from service.errors import StoreError
from service.host.answers import Answer
from service.model import DeliveryStatus, Message
from service.web.door import answers
from service.web.door.judging import Arrival
from service.web.door.limits import Deadlines
from service.web.door.refusals import Refusals

UNDELIVERED = frozenset({"failed", "undelivered"})

Respond = Callable[[Answer], None]
"""Sends an answer; must not raise."""


class CallbackSink(Protocol):
    """Where accepted messages go: `service.store.inbox.Inbox`."""

    def offer(self, arrival: Arrival, done: Callable[[bool, StoreError | None], None], /) -> None:
        """Keep what arrived, and call `done` once, later: whether it is new, or the error.

        Raises StoreUnavailable, of which StoreFull is one; `done` is not called then.
        """


class Owed:
    """An answer that is owed for a callback.

    respond: sends it; None once it is sent. by: who owes it. new: what of it was new.
    began: since when it is owed, time.monotonic().
    """

    __slots__ = ("began", "by", "new", "respond")

    def __init__(self, respond: Respond, by: Answering, began: float) -> None:
        self.respond: Respond | None = respond
        self.by = by
        self.began = began
        self.new: Arrival | None = None

    def expire(self) -> None:
        """Stop waiting for the inbox."""
        self.by.give_up(self)


class Answering:
    """Keeps what was announced, and answers.

    inbox: where messages go. refusals: what is said when it can't be kept.
    deadlines: how long an answer may be owed. in_flight_limit: answers owed at once.
    in_flight: answers that are owed. acknowledged: seconds from a callback's arrival to its 200.
    """

    def __init__(
        self, inbox: CallbackSink, refusals: Refusals, deadlines: Deadlines, in_flight_limit: int
    ) -> None:
        self.in_flight = 0
        self.acknowledged = Histogram(ACKNOWLEDGEMENT_BOUNDS)
        self._inbox = inbox
        self._refuse = refusals
        self._deadlines = deadlines
        self._in_flight_limit = in_flight_limit

    @property
    def full(self) -> bool:
        """Whether no more answers may be owed."""
        return self.in_flight >= self._in_flight_limit

    def owe(self, respond: Respond, began: float) -> Owed | None:
        """Begin to owe an answer; None when too many are owed, and the caller has heard it.

        Whoever calls this sees to it that `keep` or `answer` is called. began: time.monotonic().
        """
        if self.in_flight >= self._in_flight_limit:
            respond(self._refuse.crowd())
            return None
        self.in_flight += 1
        return Owed(respond, self, began)

    def keep(self, owed: Owed, arrivals: Sequence[Arrival]) -> None:
        """Keep what a callback announces, at least one thing, and answer once that is done.

        Raises what the inbox raises for the first of it; no answer is given then.
        """
        self._deadlines.begin(owed)
        self._inbox.offer(arrivals[0], partial(self._hear, owed, arrivals))

    def answer(self, owed: Owed, answer: Answer) -> None:
        """Give the answer that is owed."""
        respond, owed.respond = owed.respond, None
        self._deadlines.end(owed)
        self.in_flight -= 1
        if answer is answers.ACCEPTED:
            self.acknowledged.observe(time.monotonic() - owed.began)
        if respond is not None:
            respond(answer)

    def accept_event(self, news: Sequence[tuple[Arrival, bool]], began: float) -> Answer:
        """Answer an event by what was taken of it, each with whether it is new. Counted once.

        began: when it began to arrive, time.monotonic().
        """
        counters = self._refuse.counters
        new = [arrival for arrival, is_new in news if is_new]
        reports = [arrival for arrival in new if isinstance(arrival, DeliveryStatus)]
        for report in reports:
            self._tell_of(report)
        if len(new) > len(reports):
            counters.accepted += 1
        elif reports:
            counters.statuses += 1
        elif news:
            counters.duplicates += 1
        else:
            counters.not_ours += 1
        self.acknowledged.observe(time.monotonic() - began)
        return answers.ACCEPTED

    def _hear(
        self,
        owed: Owed,
        arrivals: Sequence[Arrival],
        new: bool,  # noqa: FBT001
        error: StoreError | None,
    ) -> None:
        """Hear from the inbox what became of the first; too late, it is nothing new to Twilio."""
        if owed.respond is None:
            return
        if error is not None:
            self.answer(owed, self._refuse.error(error))
            return
        if new and owed.new is None:
            owed.new = arrivals[0]
        following = arrivals[1:]
        if not following:
            self.answer(owed, self._accept(owed.new))
            return
        try:
            self._inbox.offer(following[0], partial(self._hear, owed, following))
        except Exception as failure:  # noqa: BLE001  a defect must not look like an answer to Twilio
            self.answer(owed, self._refuse.error(failure))

    def give_up(self, owed: Owed) -> None:
        """Answer that the inbox has not confirmed in time."""
        self.answer(owed, self._refuse.lateness())

    def _accept(self, new: Arrival | None) -> Answer:
        """Count a callback by the first new thing it announced, None when there was none."""
        counters = self._refuse.counters
        if new is None:
            counters.duplicates += 1
        elif isinstance(new, Message):
            counters.accepted += 1
        else:
            counters.statuses += 1
            self._tell_of(new)
        return answers.ACCEPTED

    def _tell_of(self, report: DeliveryStatus) -> None:
        """Tell of a reply that was lost on its way to the phone."""
        if report.status in UNDELIVERED:
            self._refuse.warn(
                "a reply did not reach its phone",
                sid=report.sid,
                status=report.status,
                twilio_error=report.error_code,
                to=mask_number(report.to),
            )
