"""The example handlers that ship, answered as a phone would see it."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import Message, Reply, Router
from service.handlers.loading import load_router
from service.handlers.loop import HandlersLoop
from service.handlers.running import run_handler
from service.lab.demo import SCRIPT
from service.model import MessageSid

pytestmark = pytest.mark.anyio

CONFIG = Path(__file__).parents[2] / "config"
HELLO = "Hi! This is Parley. Text ECHO and some words, or ORDER A-1001."
HELP = "I did not get that. Text HELLO, ECHO and some words, or ORDER and its number."


@pytest.fixture(scope="module")
def router() -> Router:
    """The example, loaded as a deployment loads it."""
    return load_router("handlers.py", CONFIG)


@pytest.fixture(scope="module")
async def threads() -> AsyncIterator[HandlersLoop]:
    """Where handlers run."""
    with ThreadPoolExecutor(1) as executor:
        async with HandlersLoop(executor) as place:
            yield place


def text(body: str, **raw: str) -> Message:
    """Make an inbound text."""
    return Message(
        sid=MessageSid("SM1"),
        from_="+15005550123",
        to="+15005550100",
        body=body,
        media=(),
        account="AC1",
        received_at=datetime(2026, 5, 4, tzinfo=UTC),
        raw=raw,
    )


async def answers(router: Router, message: Message, threads: HandlersLoop) -> tuple[Reply, ...]:
    """Route a text, run its handler and return the replies."""
    choice = router.choose(message)
    return () if choice is None else await run_handler(choice, message, threads, 5)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param("hello", HELLO, id="a greeting"),
        pytest.param("Hi!", HELLO, id="another, with punctuation"),
        pytest.param("HELLO ...", HELLO, id="shouted, with dots"),
        pytest.param("Hi 👋🏽", HELLO, id="with an emoji"),
        pytest.param("echo good morning", "good morning", id="an echo"),
        pytest.param("  Echo  What's 50% of 1+1? ", "What's 50% of 1+1? ", id="an echo, verbatim"),
        pytest.param("ECHO one\ntwo", "one\ntwo", id="an echo of two lines"),
        pytest.param("echo 你好 😊", "你好 😊", id="an echo of other scripts"),
        pytest.param("echo order A-1001", "order A-1001", id="an echo of an order"),
        pytest.param("echo", HELP, id="an echo of nothing"),
        pytest.param("echo  \n", HELP, id="an echo of blanks, which Twilio would refuse"),
        pytest.param("echoes", HELP, id="another word"),
        pytest.param(
            "order A-1001", "Order A-1001 left our warehouse this morning.", id="an order"
        ),
        pytest.param(
            "Where is my order a-1002?",
            "Order A-1002 is waiting for its parts.",
            id="in a sentence",
        ),
        pytest.param("ORDER B-7", "I know no order B-7. Try A-1001.", id="an unknown order"),
        pytest.param("order", HELP, id="an order without a number"),
        pytest.param("reorder A-1001", HELP, id="another word before a number"),
        pytest.param("hello there", HELP, id="anything else"),
        pytest.param("", HELP, id="a picture alone"),
    ],
)
async def test_every_route_answers_as_its_docstring_says(
    body: str, answer: str, router: Router, threads: HandlersLoop
) -> None:
    """The first thing a newcomer tries does something else than the file they read."""
    assert await answers(router, text(body), threads) == (Reply(answer),)


@pytest.mark.parametrize(("body", "expected"), SCRIPT, ids=[body for body, _ in SCRIPT])
async def test_the_demo_gets_the_replies_it_expects(
    body: str, expected: str, router: Router, threads: HandlersLoop
) -> None:
    """`parley demo` ends in red."""
    (reply,) = await answers(router, text(body), threads)
    assert expected in reply.body


async def test_each_text_of_the_demo_shows_another_route(router: Router) -> None:
    """The demo leaves a route out, and nobody sees that it works."""
    choices = [router.choose(text(body)) for body, _ in SCRIPT]
    assert len({choice.route for choice in choices if choice}) == len(router)


async def test_who_opted_out_gets_no_second_answer(router: Router) -> None:
    """Twilio has answered STOP already; a help text after it is forbidden."""
    assert router.choose(text("STOP"), answered=True) is None


@given(body=st.text(max_size=1_600))
async def test_every_text_gets_one_answer_that_can_be_sent(
    body: str, router: Router, threads: HandlersLoop
) -> None:
    """Some text that a person sends ends as a dead letter."""
    (reply,) = await answers(router, text(body), threads)
    assert reply.body.strip()
    assert len(reply.body) <= 1_600


def test_the_example_imports_nothing_but_the_public_api() -> None:
    """Copies of the example break with the next version."""
    tree = ast.parse((CONFIG / "handlers.py").read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"service", "__future__"}
