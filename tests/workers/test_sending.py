"""Replies through a whole worker, to a connector that answers, refuses, fails and falls silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.core.breaker import FAILURES, Breaker
from service.core.delivery import Logged
from service.core.retry import Schedule
from service.errors import LeaseLost
from service.handlers.router import Router
from service.model import Conversation, EntryId, Message, Outbound
from service.operate.dead_letters import say_error
from service.store.keys import PartitionKeys
from service.store.opt_outs import list_opt_outs
from service.workers.clock import ticks_ms
from service.workers.replies import SendingConnector
from service.workers.sending import FRESH_S, Sender
from tests.present import as_a, present
from tests.store.pieces import outbound
from tests.workers.pieces import (
    ACCEPTED,
    FAILED_AFTER,
    KEYS,
    LOST,
    ONLY,
    QUICK,
    RESET,
    Desk,
    Phone,
    at_work,
    echo,
    text,
    unexpected,
    until,
    ways,
)

pytestmark = pytest.mark.anyio

ASKED = text("SM1")
TOLD = "told before the crash"

LONG_AGO = timedelta(minutes=10)


async def marked_so_long_ago(client: Any, reply: EntryId, ago: timedelta) -> None:
    """Have a mark lie so long ago, by Redis's clock."""
    marks = PartitionKeys(ONLY).outbox_marked
    ms = int(await client.hget(marks, reply)) - ago // timedelta(milliseconds=1)
    await client.hset(marks, reply, ms)


async def leave_in_doubt(desk: Desk, ago: timedelta = timedelta(), asked: Message = ASKED) -> None:
    """Leave what a worker leaves that dies so long ago between its POST and the record of it."""
    (entry,) = await desk.take_in(asked)
    async with desk.owned() as earlier:
        (reply,) = present(await earlier.settle(entry, [outbound(asked, body=TOLD)], mark=True))
        await marked_so_long_ago(desk.client, reply, ago)


class Slow:
    """A connector whose log is told only once it may be."""

    def __init__(self, connector: SendingConnector) -> None:
        self._connector = connector
        self.send = connector.send
        self.moment = connector.moment
        self.asked, self.told = asyncio.Event(), asyncio.Event()

    async def sent_to(self, conversation: Conversation, since: datetime) -> Sequence[Logged]:
        self.asked.set()
        await self.told.wait()
        return await self._connector.sent_to(conversation, since)


async def hold_one(desk: Desk, phone: Phone, *, gone_out: bool, ago: timedelta = LONG_AGO) -> None:
    """Have a reply held as a dead letter, its POST in doubt."""
    await leave_in_doubt(desk, ago)
    if gone_out:
        phone.take(ASKED.from_, TOLD, ago)
    phone.log_status = 503
    async with ways(echo(), phone.url, in_doubt="hold") as how, at_work(desk, how):
        await until(desk.empty)
    phone.log_status = 200
    assert len(await desk.dead()) == 1


async def test_a_reply_in_doubt_that_the_log_shows_is_not_sent_again(
    desk: Desk, phone: Phone
) -> None:
    """A crash after the POST would send the text twice."""
    await leave_in_doubt(desk)
    sid = phone.take(ASKED.from_, TOLD)
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert (phone.posts, phone.texts) == ([], [TOLD])
    assert await desk.client.exists(PartitionKeys(ONLY).sent(sid))


@pytest.mark.parametrize("ahead_s", [-7_200, -600, 600, 7_200])
async def test_a_reply_in_doubt_is_found_by_the_connectors_own_clock(
    desk: Desk, phone: Phone, ahead_s: int
) -> None:
    """A log dated by another clock would not show it where it is looked for, and it goes twice."""
    phone.ahead_s = ahead_s
    await leave_in_doubt(desk)
    phone.take(ASKED.from_, TOLD)
    # So much came since that the log is not all on its first page.
    for _ in range(150):
        phone.take("+15005550199", "another")
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.posts == []


@pytest.mark.parametrize("redis_s", [-7_200, 600])
async def test_a_mark_that_redis_has_set_its_clock_since_leaves_a_doubt_all_the_same(
    desk: Desk, phone: Phone, redis_s: int
) -> None:
    """After a fail-over to a server with another clock the text would go out twice."""
    await leave_in_doubt(desk)
    (reply,) = await desk.client.hkeys(PartitionKeys(ONLY).outbox_marked)
    phone.take(ASKED.from_, TOLD)
    await marked_so_long_ago(desk.client, reply, timedelta(seconds=-redis_s))
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.posts == []


async def test_a_connector_that_tells_no_time_is_taken_to_have_ours(
    desk: Desk, phone: Phone
) -> None:
    """Without a Date no doubt could be settled."""
    phone.dated = False
    await leave_in_doubt(desk)
    phone.take(ASKED.from_, TOLD)
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.posts == []


async def test_a_reply_in_doubt_that_the_log_does_not_show_is_sent(
    desk: Desk, phone: Phone
) -> None:
    """A crash before the POST would lose the text."""
    await leave_in_doubt(desk)
    phone.take("+15005550199", TOLD)  # Somebody else got the same words.
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.accepted[1:] == [(ASKED.from_, TOLD)]
    assert phone.looks > 0


async def test_a_reply_whose_doubt_takes_long_to_settle_holds_up_no_other(
    desk: Desk, phone: Phone
) -> None:
    """After a crash a slow log would keep every reply of the process from leaving."""
    await leave_in_doubt(desk)
    async with ways(echo(), phone.url) as how:
        slow = Slow(how.sending.connector)
        sending = replace(how.sending, connector=slow, slots=asyncio.Semaphore(1))
        async with at_work(desk, replace(how, sending=sending)):
            async with asyncio.timeout(5):
                await slow.asked.wait()
            await desk.take_in(text("SM2", "another", theirs="+15005550177"))
            await until(lambda: phone.texts == ["another"])
            slow.told.set()
            await until(desk.empty)
    assert phone.texts == ["another", TOLD]


async def test_a_mark_that_has_waited_is_made_anew_before_the_post_leaves(
    desk: Desk, phone: Phone
) -> None:
    """A text that arrives late would not be found where the log is read, and go out twice."""
    (entry,) = await desk.take_in(ASKED)
    phone.always = (500, {})
    patient = Schedule(first_ms=60_000, longest_ms=60_000, attempts=9)
    async with desk.owned() as store, ways(echo(), phone.url, sends=patient) as how:
        (reply,) = present(await store.settle(entry, [outbound(ASKED)], mark=True))
        await marked_so_long_ago(desk.client, reply, LONG_AGO)
        sender = Sender(store, how.sending, lambda: None, list[BaseException]().append)
        how.sending.provisioned.clear()
        sender.offer(reply, outbound(ASKED), accepted_ms=0, fresh_mark=True)
        await asyncio.sleep(FRESH_S + 0.1)
        how.sending.provisioned.set()
        await until(lambda: len(phone.posts) == 1)
        marked = (await store.backlog()).marked[reply]
        await sender.lanes.close(1)
    assert marked == pytest.approx(phone.posts[0], abs=0.5)


async def test_with_hold_a_doubt_the_log_can_not_settle_becomes_a_dead_letter_saying_so(
    desk: Desk, phone: Phone
) -> None:
    """The text would go out twice, or nobody would learn that it may not have gone out."""
    await leave_in_doubt(desk)
    phone.log_status = 503
    async with ways(echo(), phone.url, in_doubt="hold") as how, at_work(desk, how):
        await until(desk.empty)
    (letter,) = await desk.dead()
    assert phone.posts == []
    assert phone.looks == 3
    assert (letter.kind, as_a(Outbound, letter.value).reply.body) == ("reply", TOLD)
    assert "in doubt" in letter.error


async def test_with_resend_a_doubt_the_log_can_not_settle_is_sent_again(
    desk: Desk, phone: Phone
) -> None:
    """The operator chose a text twice over a text lost."""
    await leave_in_doubt(desk)
    phone.log_status = 503
    async with ways(echo(), phone.url, in_doubt="resend") as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.texts == [TOLD]
    assert await desk.dead() == []


async def test_open_connectors_fact_15_a_log_mapped_by_a_common_resource_settles_no_doubt(
    desk: Desk, phone: Phone
) -> None:
    """Its rows show nothing of the reply, which would go out twice."""
    await leave_in_doubt(desk)
    phone.take(ASKED.from_, TOLD)
    phone.mapped = True
    async with ways(echo(), phone.url, in_doubt="hold") as how, at_work(desk, how):
        await until(desk.empty)
        # What can be sent is not held up by a log that can't be read.
        assert how.sending.breaker.closed
    (letter,) = await desk.dead()
    assert (phone.posts, phone.texts) == ([], [TOLD])
    assert "in doubt" in letter.error
    assert '"direction"' in letter.error


async def test_a_refused_reply_is_a_dead_letter_at_once_and_the_next_one_goes_out(
    desk: Desk, phone: Phone
) -> None:
    """A text that Twilio will never take would block its conversation."""
    phone.plan = [(400, {})]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1", "refused"), text("SM2", "fine"))
        await until(desk.empty)
    (letter,) = await desk.dead()
    assert (as_a(Outbound, letter.value).reply.body, letter.tries) == ("refused", 1)
    assert "400" in letter.error
    assert phone.texts == ["fine"]
    assert len(phone.posts) == 2


async def test_a_throttled_reply_waits_as_long_as_it_is_told_and_so_do_the_others(
    desk: Desk, phone: Phone
) -> None:
    """Hammering a connector that says "later" gets the account blocked."""
    phone.plan = [(429, {"Retry-After": "1"})]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1", "first"))
        await until(lambda: len(phone.posts) == 1)
        await until(lambda: not how.sending.breaker.closed)
        await desk.take_in(text("SM2", "other", theirs="+15005550124"))
        await until(desk.empty)
    assert sorted(phone.texts) == ["first", "other"]
    assert min(phone.posts[1:]) - phone.posts[0] >= 0.95


@pytest.mark.parametrize(("does", "posts"), [(RESET, 3), (LOST, 2), (FAILED_AFTER, 2)])
async def test_open_connectors_fact_19_equal_replies_are_told_apart_without_the_logs_sids(
    desk: Desk, phone: Phone, does: str, posts: int
) -> None:
    """Recorded by a number the log does not show, the first is taken for the second, or twice."""
    phone.numbered = True
    phone.plan = [ACCEPTED, does]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1", "OK"), text("SM2", "OK"))
        await until(desk.empty)
    assert await desk.dead() == []
    assert (phone.texts, len(phone.posts)) == (["OK", "OK"], posts)


async def test_open_connectors_fact_21_a_reply_over_a_limit_of_its_own_ends_as_a_dead_letter(
    desk: Desk, phone: Phone
) -> None:
    """Answered 429 like a rate, it would be tried for ever, and nobody told why."""
    phone.limits = {"large": "Request size limit exceeded"}
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1", "large"), text("SM2", "after it"))
        await until(desk.empty)
    (letter,) = await desk.dead()
    assert (phone.over, phone.texts) == (["large"] * 3, ["after it"])
    assert "size limit" in letter.error
    assert phone.looks >= 3, "it may have been sent when it took too long"


async def test_open_connectors_fact_21_a_429_without_a_cause_is_the_replys_own_while_others_leave(
    desk: Desk, phone: Phone
) -> None:
    """The connector's wording is not documented: a limit it names in other words holds for ever."""
    phone.limits = {"large": "no"}
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM0", "large"))
        await until(lambda: bool(phone.over))
        await desk.take_in(*(text(f"SM{n}", "fine", theirs=f"+1500555{n:04}") for n in range(1, 6)))
        await until(desk.empty, timeout_s=20)
    (letter,) = await desk.dead()
    assert (len(phone.over), phone.texts) == (3, ["fine"] * 5)
    assert "while others were taken" in letter.error
    assert "size or time limit" in letter.error


async def test_open_connectors_fact_21_refusals_of_others_do_not_make_a_429_the_replys_own(
    desk: Desk, phone: Phone
) -> None:
    """Others are refused, none is taken: a connector out of order turns a reply into a letter."""
    phone.limits, phone.plan = {"patience": "no"}, [(400, {})] * 5
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM0", "patience"))
        await until(lambda: bool(phone.over))
        await desk.take_in(*(text(f"SM{n}", "bad", theirs=f"+1500555{n:04}") for n in range(1, 6)))
        await until(lambda: len(phone.over) > 6, timeout_s=20)
        phone.limits = {}
        await until(desk.empty)
    assert [as_a(Outbound, letter.value).reply.body for letter in await desk.dead()] == ["bad"] * 5
    assert phone.texts == ["patience"]


async def test_open_connectors_fact_21_a_429_for_everybody_is_said_and_waited_for(
    desk: Desk, phone: Phone
) -> None:
    """Throttled for long, replies would become dead letters, or wait without a word."""
    phone.limits = {"patience": "no"}
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        with capture_logs() as lines:
            await desk.take_in(text("SM1", "patience"))
            await until(lambda: len(phone.over) > 3, timeout_s=20)
        phone.limits = {}
        await until(desk.empty)
    assert (await desk.dead(), phone.texts) == ([], ["patience"])
    (said,) = [line for line in lines if "again and again" in line["event"]]
    assert (said["times"], said["log_level"]) == (3, "error")
    assert "size or time limit" in said["advice"]


@pytest.mark.parametrize(
    ("does", "posts"),
    [(FAILED_AFTER, 1), ((500, {}), 2), (LOST, 1), (RESET, 2)],
    ids=["500 after sending", "500 without sending", "reset after sending", "reset before"],
)
async def test_after_a_failed_post_the_log_decides_whether_there_is_a_second_one(
    desk: Desk, phone: Phone, does: str | tuple[int, dict[str, Any]], posts: int
) -> None:
    """A 500 says nothing about whether the text went out: it would come twice, or never."""
    phone.plan = [does]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1", "once"))
        await until(desk.empty)
    assert phone.texts == ["once"]
    assert len(phone.posts) == posts
    assert phone.looks > 0


async def test_a_reply_that_never_goes_out_is_a_dead_letter_after_its_attempts(
    desk: Desk, phone: Phone
) -> None:
    """A text the connector always fails on would block its conversation for ever."""
    phone.plan = [(500, {})] * 3
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1", "cursed"), text("SM2", "next"))
        await until(desk.empty)
    (letter,) = await desk.dead()
    assert (as_a(Outbound, letter.value).reply.body, letter.tries) == ("cursed", 3)
    assert phone.texts == ["next"]


@pytest.mark.parametrize("second", [ACCEPTED, LOST, RESET, FAILED_AFTER])
@pytest.mark.parametrize("first", [ACCEPTED, LOST, RESET])
async def test_two_identical_replies_in_a_row_are_each_sent_once(
    desk: Desk, phone: Phone, first: str, second: str
) -> None:
    """The log shows the first one's row: mistaken for the second, a text is lost, or doubled."""
    router = Router()
    router.default(lambda _: ["same", "same"])
    phone.plan = [first, second] if first != RESET else [first, ACCEPTED, second]
    async with ways(router, phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1"))
        await until(desk.empty)
    assert phone.texts == ["same", "same"]
    assert len(phone.posts) == 2 + (first, second).count(RESET)
    assert await desk.dead() == []


async def test_a_worker_whose_lease_may_have_run_out_posts_nothing(
    desk: Desk, phone: Phone
) -> None:
    """A worker frozen before its POST would send what its successor has sent."""
    (entry,) = await desk.take_in(ASKED)
    async with desk.owned() as earlier, ways(echo(), phone.url) as how:
        await earlier.settle(entry, [outbound(ASKED)], mark=False)

        def check_lease() -> None:
            raise LeaseLost("it may have run out")

        failures: list[BaseException] = []
        stalled = Sender(earlier, how.sending, check_lease, failures.append)
        await stalled.restore(await earlier.backlog())
        await until(lambda: bool(failures))
        await stalled.lanes.close(0)
        assert isinstance(failures[0], LeaseLost)
        assert (phone.posts, phone.looks) == ([], 0)
        backlog = await earlier.backlog()
        assert [each.id for each in backlog.outbox] == list(backlog.marked)


@pytest.mark.parametrize(
    "ago", [timedelta(), timedelta(hours=-2)], ids=["", "Redis's clock was put back"]
)
async def test_a_reply_in_doubt_is_not_sent_again_while_it_may_still_arrive(
    desk: Desk, phone: Phone, ago: timedelta
) -> None:
    """A slow connector carries out what a dead worker asked of it: the text would come twice."""
    await leave_in_doubt(desk, ago)
    async with ways(echo(), phone.url, arrival_s=1) as how, at_work(desk, how):
        await until(lambda: phone.looks > 0)
        phone.take(ASKED.from_, TOLD)
        await until(desk.empty)
    assert (phone.posts, phone.texts) == ([], [TOLD])


@pytest.mark.parametrize("log_status", [200, 503], ids=["the log works", "the log fails too"])
async def test_five_failures_make_everything_wait_and_then_one_reply_at_a_time_tries(
    desk: Desk, phone: Phone, log_status: int
) -> None:
    """An ailing connector would be hammered by every conversation at once."""
    phone.always, phone.log_status = (503, {}), log_status
    patient = Schedule(first_ms=1, longest_ms=1, attempts=10_000)
    many = [text(f"SM{n}", str(n), theirs=f"+150055502{n:02}") for n in range(20)]
    async with ways(echo(), phone.url, sends=patient) as how, at_work(desk, how):
        await desk.take_in(*many)
        breaker = how.sending.breaker
        # A look into the log that fails counts as a POST that fails: it may open before the fifth.
        await until(lambda: len(phone.posts) + phone.looks >= 5 and not breaker.closed)
        begun = time.monotonic()
        early = len(phone.posts) + phone.looks
        await until(lambda: time.monotonic() - begun > 0.5)
        # What is under way as it opens ends: a slot each of eight, or as many waiting for one.
        # Then a try, of a look and a POST, after each of the pauses of at least 0.1, 0.2, 0.4 s.
        assert len(phone.posts) + phone.looks - early <= 20 + 3 * 2
        phone.always, phone.log_status = ACCEPTED, 200
        await until(desk.empty, 20)
    assert sorted(phone.texts, key=int) == [str(n) for n in range(20)]


@pytest.mark.parametrize(
    ("does", "gone_out"), [(None, True), ((500, {}), False)], ids=["found marked", "after a 500"]
)
async def test_a_reply_put_off_in_doubt_is_still_in_doubt_for_the_next_worker(
    desk: Desk, phone: Phone, does: tuple[int, dict[str, Any]] | None, gone_out: bool
) -> None:
    """The log can't be read and the worker dies meanwhile: the next one sends the text again."""
    if does is None:
        await leave_in_doubt(desk)
    else:
        await desk.take_in(text(ASKED.sid, TOLD))
        phone.plan = [does]
    if gone_out:
        phone.take(ASKED.from_, TOLD)
    phone.log_status = 503
    patient = Schedule(first_ms=10, longest_ms=10, attempts=10_000)
    async with ways(echo(), phone.url, sends=patient) as how, at_work(desk, how):
        await until(lambda: phone.looks > 2)
    phone.log_status, posts = 200, len(phone.posts)
    if not gone_out:
        phone.take(ASKED.from_, TOLD)  # The 500 was carried out after all.
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert (phone.texts, len(phone.posts)) == ([TOLD], posts)
    assert await desk.dead() == []


async def test_a_reply_put_off_through_no_fault_of_its_own_loses_no_attempt(
    desk: Desk, phone: Phone
) -> None:
    """A busy hour at Twilio and one hiccup after it would make a dead letter."""
    phone.refusal = {"message": "Request failed", "providerMessage": "[HTTP 400] queue full 21611"}
    phone.plan = [*[(400, {})] * 3, (500, {})]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1", "kept"))
        await until(desk.empty)
    assert (await desk.dead(), phone.texts, len(phone.posts)) == ([], ["kept"], 5)


def half_open(breaker: Breaker) -> Breaker:
    """Have it opened a minute ago: the next reply tries alone, all others wait for its end."""
    for _ in range(FAILURES):
        breaker.failed(ticks_ms() - 60_000, 0)
    assert not breaker.closed
    return breaker


@pytest.mark.parametrize("does", [ACCEPTED, (400, {})], ids=["takes", "refuses"])
async def test_a_connector_that_answers_the_reply_that_tries_is_used_by_all_again(
    desk: Desk, phone: Phone, does: str | tuple[int, dict[str, Any]]
) -> None:
    """After an outage one reply at a time would leave, for ever."""
    phone.plan = [does]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        half_open(how.sending.breaker)
        await desk.take_in(text("SM1"))
        await until(desk.empty)
        assert how.sending.breaker.closed


@pytest.mark.parametrize("end", ["found", "not yet", "unreadable", "not told", "given up"])
async def test_a_reply_that_tries_and_posts_nothing_lets_the_next_one_try(
    desk: Desk, phone: Phone, end: str
) -> None:
    """It ends by a look into the log, which tells nothing of POSTs: all would wait for ever."""
    if end == "not told":
        await hold_one(desk, phone, gone_out=True, ago=timedelta(seconds=1))
    if end == "given up":
        await desk.take_in(text("SM2", "given up"))
        phone.plan = [(504, {})]
    else:
        await leave_in_doubt(desk, asked=text("SM2"))
    if end in {"found", "unreadable"}:
        phone.take(ASKED.from_, TOLD)
    phone.mapped = end == "unreadable"
    looks, letters = phone.looks, len(await desk.dead())

    async def a_letter_more() -> bool:
        return len(await desk.dead()) > letters

    sends = Schedule(first_ms=1, longest_ms=1, attempts=1) if end == "given up" else QUICK
    async with ways(echo(), phone.url, arrival_s=0.1, sends=sends) as how:
        half_open(how.sending.breaker)
        async with at_work(desk, how):
            await until(lambda: phone.looks > looks)
            if end in {"unreadable", "not told", "given up"}:
                await until(a_letter_more)
            await desk.take_in(text("SM9", "another", theirs="+15005550177"))
            await until(desk.empty)
            assert how.sending.breaker.closed
    assert "another" in phone.texts


async def test_a_reply_whose_worker_ends_as_it_tries_lets_the_next_one_try(
    desk: Desk, phone: Phone
) -> None:
    """A lease lost at the wrong moment would keep all replies of the process waiting."""
    (entry,) = await desk.take_in(ASKED)
    async with desk.owned() as earlier, ways(echo(), phone.url) as how:
        await earlier.settle(entry, [outbound(ASKED)], mark=False)
        half_open(how.sending.breaker)

        def check_lease() -> None:
            raise LeaseLost("it may have run out")

        failures: list[BaseException] = []
        stalled = Sender(earlier, how.sending, check_lease, failures.append)
        await stalled.restore(await earlier.backlog())
        await until(lambda: bool(failures))
        assert how.sending.breaker.wait_ms(ticks_ms()) == 0


@pytest.mark.parametrize("kind", ["in doubt", "unreadable"])
async def test_a_reply_that_somebody_buried_before_is_counted_once(
    desk: Desk, phone: Phone, kind: str
) -> None:
    """A worker that starts over after a failure of Redis would count its dead letters twice."""
    (entry,) = await desk.take_in(ASKED)
    phone.log_status = 405
    async with desk.owned() as earlier, ways(echo(), phone.url) as how:
        await earlier.settle(entry, [outbound(ASKED)], mark=True)
        if kind == "unreadable":
            await desk.client.delete(KEYS.outbox)
            await desk.client.xadd(KEYS.outbox, {"v": "99"})
        backlog = await earlier.backlog()
        counted = how.sending.counts.replies
        for _ in range(2):
            sender = Sender(earlier, how.sending, lambda: None, unexpected)
            await sender.restore(backlog)
            await until(lambda: not sender.lanes.pending)  # noqa: B023  (called at once)
        assert (counted["dead_letter"], len(await desk.dead())) == (1, 1)


async def test_replies_of_a_conversation_keep_their_order_while_some_of_them_fail(
    desk: Desk, phone: Phone
) -> None:
    """A retried text would arrive after the one that follows it."""
    phone.plan = [(500, {}), ACCEPTED, RESET, LOST, ACCEPTED, (503, {}), FAILED_AFTER]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(*(text(f"SM{n}", f"number {n}") for n in range(8)))
        await until(desk.empty)
    assert phone.texts == [f"number {n}" for n in range(8)]
    assert await desk.dead() == []


async def test_a_connector_that_is_down_costs_no_reply_its_attempts(
    desk: Desk, phone: Phone
) -> None:
    """A night without a connector would leave nothing but dead letters."""
    await desk.take_in(text("SM1", "kept"))
    async with ways(echo(), "http://127.0.0.1:9/elements/api-v2") as how, at_work(desk, how):
        await until(lambda: not how.sending.breaker.closed)
        assert await desk.dead() == []
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.texts == ["kept"]


async def test_a_recipient_found_opted_out_is_noted_and_not_tried_again(
    desk: Desk, phone: Phone
) -> None:
    """Who opted out elsewhere would be tried with every retry, and nobody would know of it."""
    phone.plan = [(400, {})]
    phone.refusal = {"message": "Request failed", "providerMessage": "21610: unsubscribed"}
    await desk.take_in(text("SM1"))
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    (letter,) = await desk.dead()
    assert (letter.tries, "21610" in letter.error, len(phone.posts)) == (1, True, 1)
    (out,) = await list_opt_outs(desk.client, 1)
    assert out.conversation == text("SM1").conversation


async def test_a_full_queue_at_twilio_is_waited_for(desk: Desk, phone: Phone) -> None:
    """A busy hour would leave dead letters, although nothing is wrong with the texts."""
    phone.plan = [(400, {})] * 5  # More often than a reply has attempts.
    phone.refusal = {"message": "Request failed", "providerMessage": "[HTTP 400] queue full 21611"}
    await desk.take_in(text("SM1", "kept"))
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert (phone.texts, len(phone.posts)) == (["kept"], 6)
    assert await desk.dead() == []


async def test_a_dead_letter_says_what_the_code_of_twilio_means_and_what_to_do(
    desk: Desk, phone: Phone
) -> None:
    """The operator would have to look five digits up."""
    phone.plan = [(400, {})]
    phone.refusal = {"message": "no", "providerMessage": '{"code": 21211, "status": 400}'}
    await desk.take_in(text("SM1"))
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    (letter,) = await desk.dead()
    assert (letter.code, letter.means) == (21211, "the recipient's number is none")
    assert "check the number" in letter.advice
    assert letter.means in say_error(letter)
