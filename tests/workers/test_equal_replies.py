"""Replies of the same words in one conversation, told apart in a log that names few of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.core.retry import Schedule
from service.handlers.router import Router
from tests.workers.pieces import (
    ACCEPTED,
    FAILED_AFTER,
    LOST,
    RESET,
    UNNAMED,
    Desk,
    Phone,
    at_work,
    echo,
    text,
    until,
    ways,
)
from tests.workers.test_sending import ASKED, LONG_AGO, TOLD, hold_one, leave_in_doubt

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("second", [ACCEPTED, RESET, LOST, FAILED_AFTER, UNNAMED])
async def test_a_reply_sent_without_a_sid_is_told_apart_from_the_next_of_its_words(
    desk: Desk, phone: Phone, second: str
) -> None:
    """Answered 200 with nothing, the first one's row is taken for the second's."""
    router = Router()
    router.default(lambda _: ["same", "same"])
    phone.plan = [UNNAMED, second]
    async with ways(router, phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1"), text("SM2"))
        await until(desk.empty)
    assert (await desk.dead(), phone.texts) == ([], ["same"] * 4)
    assert len(phone.posts) == 4 + (second == RESET)


@pytest.mark.parametrize("does", [ACCEPTED, RESET, LOST])
@pytest.mark.parametrize("gone_out", [True, False], ids=["gone out", "not gone out"])
async def test_after_a_held_reply_the_next_of_its_words_is_sent_once(
    desk: Desk, phone: Phone, gone_out: bool, does: str
) -> None:
    """The row of the one held is taken for that of the next, which is lost."""
    await hold_one(desk, phone, gone_out=gone_out)
    phone.plan = [does]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM2", TOLD))
        await until(desk.empty)
    assert len(await desk.dead()) == 1
    assert phone.texts == [TOLD] * (1 + gone_out)
    assert len(phone.posts) == 1 + (does == RESET)


async def test_a_held_reply_that_is_replayed_is_not_taken_for_its_own_first_post(
    desk: Desk, phone: Phone
) -> None:
    """The operator saw that it had to go out again, and the connection broke: it is lost."""
    await hold_one(desk, phone, gone_out=True)
    (letter,) = await desk.dead()
    phone.plan = [RESET]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        assert await desk.letters.replay(letter.id)
        await until(desk.empty)
    assert (await desk.dead(), phone.texts, len(phone.posts)) == ([], [TOLD, TOLD], 2)


@pytest.mark.parametrize("does", [RESET, LOST])
async def test_a_row_that_times_can_not_tell_of_leaves_the_next_reply_in_doubt(
    desk: Desk, phone: Phone, does: str
) -> None:
    """Of two equal replies in doubt one went out: taken for the second, that may be lost."""
    await hold_one(desk, phone, gone_out=does == RESET, ago=timedelta(seconds=1))
    phone.plan = [does]
    async with ways(echo(), phone.url, in_doubt="hold") as how, at_work(desk, how):
        await desk.take_in(text("SM2", TOLD))
        await until(desk.empty)
    _, letter = await desk.dead()
    assert "an earlier reply of the same words" in letter.error
    assert (phone.texts, len(phone.posts)) == ([TOLD], 1)


@pytest.mark.parametrize("does", [RESET, LOST])
@pytest.mark.parametrize("ahead_s", [-7_200, 7_200])
async def test_rows_are_counted_by_the_connectors_own_clock(
    desk: Desk, phone: Phone, ahead_s: int, does: str
) -> None:
    """The row of the one held would be too old, or too new, to be its own: the next one is lost."""
    phone.ahead_s = ahead_s
    await hold_one(desk, phone, gone_out=True)
    phone.plan = [ACCEPTED, does]
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM2", "an answer that tells the time", theirs="+15005550124"))
        await until(desk.empty)
        await desk.take_in(text("SM3", TOLD))
        await until(desk.empty)
    assert len(await desk.dead()) == 1
    assert (phone.texts.count(TOLD), len(phone.posts)) == (2, 2 + (does == RESET))


async def test_rows_are_counted_by_a_clock_that_only_the_log_tells(
    desk: Desk, phone: Phone
) -> None:
    """By this machine's clock the row of the one held is that of the next, which is lost."""
    phone.ahead_s = -7_200
    await hold_one(desk, phone, gone_out=True, ago=timedelta(seconds=1))
    await leave_in_doubt(desk, asked=text("SM2"))
    async with ways(echo(), phone.url, in_doubt="hold") as how, at_work(desk, how):
        await until(desk.empty)
    assert (len(await desk.dead()), phone.texts, phone.posts) == (2, [TOLD], [])


@pytest.mark.parametrize("does", [RESET, LOST])
async def test_a_held_reply_that_redis_has_set_its_clock_since_is_not_taken_for_the_next(
    desk: Desk, phone: Phone, does: str
) -> None:
    """After a fail-over to a server with another clock the next of its words would be lost."""
    await hold_one(desk, phone, gone_out=False, ago=timedelta(hours=-2))
    if does == RESET:
        phone.take(ASKED.from_, TOLD)
    phone.plan = [does]
    async with ways(echo(), phone.url, in_doubt="hold") as how, at_work(desk, how):
        await desk.take_in(text("SM2", TOLD))
        await until(desk.empty)
    assert [len(await desk.dead()), phone.texts, len(phone.posts)] == [2, [TOLD], 1]


async def test_a_reply_given_up_that_goes_out_after_all_is_not_taken_for_the_next(
    desk: Desk, phone: Phone
) -> None:
    """Its attempts were used up, the log did not show it: then it comes, and the next is lost."""
    phone.plan = [*[(500, {})] * 3, RESET]
    async with ways(echo(), phone.url, in_doubt="hold") as how, at_work(desk, how):
        await desk.take_in(text("SM1", TOLD))
        await until(desk.empty)
        phone.take(ASKED.from_, TOLD)
        await desk.take_in(text("SM2", TOLD))
        await until(desk.empty)
    assert [len(await desk.dead()), phone.texts, len(phone.posts)] == [2, [TOLD], 4]


@pytest.mark.parametrize("ago", [LONG_AGO, timedelta(seconds=1)], ids=["long ago", "just now"])
async def test_a_reply_sent_again_in_doubt_has_a_row_for_each_of_its_posts(
    desk: Desk, phone: Phone, ago: timedelta
) -> None:
    """The row of its first POST is taken for that of the next reply of its words."""
    await leave_in_doubt(desk, ago)
    phone.take(ASKED.from_, TOLD, ago)
    phone.log_status = 503
    async with ways(echo(), phone.url, in_doubt="resend") as how, at_work(desk, how):
        await until(desk.empty)
        phone.log_status = 200
        phone.plan = [RESET]
        await desk.take_in(text("SM2", TOLD))
        await until(desk.empty)
    assert (await desk.dead(), phone.texts, len(phone.posts)) == ([], [TOLD] * 3, 3)


async def test_a_reply_sent_again_in_doubt_is_found_by_the_row_of_its_first_post(
    desk: Desk, phone: Phone
) -> None:
    """It would go out a third time, although the log works again and shows it."""
    await leave_in_doubt(desk, LONG_AGO)
    phone.take(ASKED.from_, TOLD, LONG_AGO)
    phone.log_status, phone.plan = 405, [RESET] * 1_000
    patient = Schedule(first_ms=20, longest_ms=20, attempts=10_000)
    async with ways(echo(), phone.url, in_doubt="resend", sends=patient) as how, at_work(desk, how):
        await until(lambda: len(phone.posts) >= 2)
        phone.log_status, phone.plan = 200, [RESET]  # One may be on its way.
        await until(desk.empty)
    assert (await desk.dead(), phone.texts) == ([], [TOLD])
