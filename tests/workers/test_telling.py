"""The log's line for each text handled and each reply sent, and what is counted of both."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.handlers.router import Router
from service.model import Message
from tests.workers.pieces import Desk, Phone, Ways, at_work, echo, text, until, ways

pytestmark = pytest.mark.anyio

THEIRS = "+15005550123"


def telling(how: Ways) -> list[dict[str, Any]]:
    """Have both kinds of lines told; returns what comes of it: events with their facts."""
    told: list[dict[str, Any]] = []

    def tell(event: str, /, **facts: str | float) -> None:
        told.append({"event": event, **facts})

    how.handling = dataclasses.replace(how.handling, tell=tell)
    how.sending = dataclasses.replace(how.sending, tell=tell)
    return told


async def test_a_text_that_is_answered_leaves_two_lines_and_neither_says_what_was_written(
    desk: Desk, phone: Phone
) -> None:
    """Nobody could tell from the log whether a text came, or was answered."""
    await desk.take_in(text("SM1", "a secret of theirs"))
    with capture_logs() as lines:
        async with ways(echo(), phone.url) as how:
            told = telling(how)
            async with at_work(desk, how):
                await until(desk.empty)
                await until(lambda: how.sending.counts.replies["sent"] == 1)
    (handled,) = [line for line in told if line["event"] == "text handled"]
    (sent,) = [line for line in told if line["event"] == "reply sent"]
    lines += told
    assert handled.pop("ms") >= 0
    assert sent.pop("ms") > 0
    assert handled == {
        "event": "text handled",
        "sid": "SM1",
        "sender": "+1•••0123",
        "route": "default",
        "attempt": 1,
        "replies": 1,
    }
    assert sent == {"event": "reply sent", "sid": "SMout0", "reply_to": "SM1"}
    assert "secret of theirs" not in str(lines)
    assert THEIRS not in str(lines)


async def test_texts_leave_no_line_when_they_are_not_to(desk: Desk, phone: Phone) -> None:
    """LOG_TEXTS=false would still fill the disk of a busy deployment."""
    router = Router()
    router.keyword("ANSWER")(lambda _: "yes")
    await desk.take_in(text("SM1", "answer"), text("SM2", "no route"), text("SM3", "stop"))
    with capture_logs() as lines:
        async with ways(router, phone.url) as how:
            how.handling = dataclasses.replace(how.handling, tell=None)
            how.sending = dataclasses.replace(how.sending, tell=None)
            async with at_work(desk, how):
                await until(desk.empty)
    assert [line["event"] for line in lines if line["log_level"] != "debug"] == []
    assert phone.texts == ["yes"]


async def test_a_text_that_no_handler_answers_leaves_a_line_that_says_why(
    desk: Desk, phone: Phone
) -> None:
    """Whoever looks for an answer that never came would find no trace of its text."""
    router = Router()
    router.keyword("ANSWER")(lambda _: "yes")
    await desk.take_in(text("SM1", "no route"), text("SM2", "stop"))
    async with ways(router, phone.url) as how:
        told = telling(how)
        async with at_work(desk, how):
            await until(desk.empty)
            await until(lambda: len(told) == 2)
    sender = "+1•••0123"
    what = "left to Twilio, which has answered it"
    assert told == [
        {"event": "no route matched", "sid": "SM1", "sender": sender},
        {"event": what, "sid": "SM2", "sender": sender, "kind": "STOP"},
    ]


async def test_every_text_and_reply_is_counted_once_by_what_became_of_it(
    desk: Desk, phone: Phone
) -> None:
    """The sums of /metrics would not add up, and an alert on a share would lie."""
    router = Router()
    router.keyword("ANSWER")(lambda _: ["one", "two"])
    router.keyword("SILENT")(lambda _: None)

    @router.keyword("FAIL")
    def fail(message: Message) -> None:
        raise KeyError("A-9")

    phone.plan = [(400, {})]
    bodies = ["answer", "silent", "fail", "no route", "stop"]
    await desk.take_in(*(text(f"SM{i}", b, f"+1500555012{i}") for i, b in enumerate(bodies)))
    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(desk.empty)
        await until(lambda: sum(how.sending.counts.replies.values()) == 2)
        counts = how.handling.counts
        await until(lambda: counts.texts["dead_letter"] == 1)
    assert counts.texts == {
        "answered": 1,
        "silent": 1,
        "unrouted": 1,
        "left_to_twilio": 1,
        "dead_letter": 1,
    }
    assert counts.handler_failures == 3
    assert sum(counts.handler.counts) == 1 + 1 + 3
    sent = how.sending.counts
    assert sent.replies == {"sent": 1, "found_sent": 0, "dead_letter": 1}
    assert sum(sent.send.counts) == 2
    assert sum(sent.callback_to_reply.counts) == 1
    assert 0 < sent.callback_to_reply.total < 10


async def test_a_reply_that_was_put_off_is_counted_and_sent_in_the_end(
    desk: Desk, phone: Phone
) -> None:
    """A connector that throttles for hours would look like one that is well."""
    phone.plan = [(503, {}), (503, {})]
    await desk.take_in(text("SM1"))
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
        await until(lambda: how.sending.counts.replies["sent"] == 1)
    assert how.sending.counts.postponed == 2
    assert sum(how.sending.counts.send.counts) == 3
