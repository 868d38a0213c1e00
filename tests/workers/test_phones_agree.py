"""The phones that authors test with, beside a whole worker: the same texts, the same outcome."""

from __future__ import annotations

import pytest
import uvloop

from service.core.twilio import opt_out
from service.handlers.router import Router
from service.handlers.testing import Engine, Phones
from service.model import Message, Outbound
from tests.connector.pieces import OURS
from tests.present import as_a
from tests.workers.pieces import Desk, Phone, at_work, text, until, ways

pytestmark = pytest.mark.anyio

PHONE = "+15005550123"

TEXTS = [
    *("hello", "LONG", "two", "nothing", "boom", "stumble", "YES"),
    *("stop", "hello", "end it", "YES", "YES", "HELP", "Start", "QUIT", "boom", "start", "hello"),
]
"""What one person texts, in this order."""


def make_router() -> Router:
    """Make handlers that answer, split, fail, stumble, and ask for some of Twilio's words."""
    router, stumbles = Router(), [ConnectionError("not yet")]
    router.keyword("LONG")(lambda _: "word " * 700)
    router.keyword("TWO")(lambda _: ["one", None, "two"])  # type: ignore[type-var]  # None is no reply  # type: ignore[type-var]  # None is no reply
    router.keyword("NOTHING")(lambda _: None)
    router.keyword("QUIT", "START")(lambda message: f"asked for {message.body}")

    @router.keyword("BOOM")
    async def boom(message: Message) -> str:
        raise LookupError("no such thing")

    @router.keyword("STUMBLE")
    def stumble(message: Message) -> str:
        if stumbles:
            raise stumbles.pop()
        return "there"

    router.default(lambda message: f"you said {message.body}")
    return router


async def test_phones_and_a_worker_make_the_same_of_the_same_texts(
    desk: Desk, phone: Phone
) -> None:
    """A test that passes says nothing of what the service does."""
    with Engine(uvloop.new_event_loop, 4) as engine:
        phones = Phones(
            make_router(),
            engine,
            sender=OURS,
            timeout_s=5,
            attempts=3,
            long_replies="split",
            opt_out_words=opt_out.WORDS,
        )
        said: list[str] = []
        for body in TEXTS:
            refused = len(phones.dead_letters)
            try:
                said += phones(PHONE).send(body)
            except LookupError:
                continue
            # Twilio refuses these; the worker's connector here takes whatever is sent.
            letters = [letter.value for letter in phones.dead_letters[refused:]]
            said += [value.reply.body for value in letters if isinstance(value, Outbound)]
        given_up = [each for each in phones.dead_letters if isinstance(each.value, Message)]

    await desk.take_in(*(text(f"SM{place}", body) for place, body in enumerate(TEXTS)))
    async with ways(make_router(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    left = await desk.dead()

    assert phone.texts == said
    assert len(said) == 15
    assert [(as_a(Message, each.value).body, each.route) for each in left] == [
        (as_a(Message, each.value).body, each.route) for each in given_up
    ]
    assert [each.error.partition("\n")[0] for each in left] == [
        each.error.partition("\n")[0] for each in given_up
    ]
