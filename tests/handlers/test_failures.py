"""What is said of a handler that failed: the author's line, and no word of the message."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from service import Message, Reply
from service.core.splitting import split
from service.errors import HandlerError
from service.handlers.failures import frames_of, full_text, outline, quotes
from service.handlers.loop import HandlersLoop
from service.handlers.router import Choice
from service.handlers.running import run_handler
from tests.handlers.test_running import TEXT

pytestmark = pytest.mark.anyio


def line_of(mark: str) -> str:
    """Find a marked line of this file."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"{__file__}:{next(n for n, line in enumerate(lines, 1) if line.endswith(mark))}"


async def failure(handler: Any, **more: Any) -> tuple[HandlerError, str]:
    """Run a handler that fails; returns the error and what the log says of it."""
    choice = Choice("default", handler, {})
    with ThreadPoolExecutor(1) as executor:
        async with HandlersLoop(executor) as place:
            with pytest.raises(HandlerError) as caught:
                await run_handler(choice, TEXT, place, 5, **more)
    return caught.value, outline(caught.value, choice, TEXT)


async def one_text_for_pictures(message: Message) -> Any:
    """Forget the tuple."""
    return Reply("x", media="https://x.example/1.png")  # type: ignore[arg-type]  # pictures


def through_a_library(message: Message) -> Any:
    """Fail inside the standard library."""
    return json.loads("{")  # json


async def no_reply(message: Message) -> Any:  # no reply
    """Return what is none."""
    return 7


@pytest.mark.parametrize(
    ("handler", "said", "mark"),
    [
        pytest.param(
            one_text_for_pictures,
            'ValueError: media is one text; write a tuple of URLs: media=("https://...",)',
            "# pictures",
            id="a text for the media",
        ),
        pytest.param(
            through_a_library,
            "JSONDecodeError: Expecting property name",
            "# json",
            id="an error in a library",
        ),
        pytest.param(no_reply, "default: returned int", "# no reply", id="no reply"),
    ],
)
async def test_a_failure_is_told_with_the_authors_own_line(
    handler: Callable[..., Any], said: str, mark: str
) -> None:
    """The log names a line of ours, and the author does not know which of theirs to mend."""
    _, told = await failure(handler)
    assert told.startswith(said)
    assert told.endswith(f" at {line_of(mark)}")


async def test_the_whole_failure_is_kept_for_the_dead_letter_and_its_frames_for_debugging() -> None:
    """A failure that happens once a week is never understood."""
    error, _ = await failure(one_text_for_pictures)
    first, _, trace = full_text(error).partition("\n")
    assert first.startswith("default: ValueError: media is one text")
    assert trace.startswith("Traceback")
    assert "one_text_for_pictures" in trace
    frames = frames_of(error)
    assert "one_text_for_pictures" in frames
    assert "media is one text" not in frames, "what an error says may be somebody's text"


MESSAGE = replace(
    TEXT,
    body="Is order A-9 on its way? Gr\u00fc\u00dfe an Zo\u00eb 555017",
    raw={"City": "SPRINGFIELD", "FromCity": "ULM", "NumMedia": "0"},
)


@pytest.mark.parametrize(
    "said",
    [
        MESSAGE.body,
        "no such key: 'order'",
        "nothing ON  ITS list",
        "A 9",
        "9",
        "xr a-9 on ix",
        json.dumps("Gr\u00fc\u00dfe an"),
        repr("Gr\u00fc\u00dfe an".encode("latin-1")),
        f"GET https://x.example/?q={quote_plus('order A-9 on')}: 404",
        "no user +15005550123",
        "no user (500) 555-0123",
        "no such sender: 1 500 555 0100",
        "weather of Springfield not found",
        "no such town: Ulm",
        "Gru\u0308ße",
        "ＧＲÜẞE",
        repr("Gr\u00fc\u00dfe".encode()),
        "no order 55 50 17",
        "no order 5.5.5.0.1.7",
        "٥٥٥٠١٧",
        "no number +1 (500)5550123",
    ],
)
def test_what_repeats_the_message_is_seen(said: str) -> None:
    """Somebody's text or number is in the log of the whole company."""
    assert quotes(said, MESSAGE)


@pytest.mark.parametrize(
    "said", ["connection refused", "'NoneType' object has no attribute 'x'", "timed out after 30 s"]
)
def test_what_does_not_is_told(said: str) -> None:
    """Every log line says nothing but the name of the error."""
    assert not quotes(said, MESSAGE)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("y", "invalid literal: 'Y'"),
        ("no", "'no' is no number"),
        ("東京", "没有東京駅"),
        ("東京に行きたい", "no such place: 東京"),
        ("\U0001f600", json.dumps("\U0001f600")),
        ("東", "not found: 東京"),
        ("call 555-0199", "bad number 5550199"),
        ("5550199", "bad number 555 01 99"),
    ],
)
def test_a_short_text_and_one_without_blanks_are_seen(body: str, said: str) -> None:
    """A one-word answer, or all of what people write in Japanese, is in the log."""
    message = replace(TEXT, body=body)
    assert quotes(said, message)
    assert not quotes("connection refused after 30 s", message)


async def test_a_url_in_an_error_is_told_by_its_host_alone() -> None:
    """The key of the author's weather service is in the log of the whole company."""

    def fail(message: Message) -> None:
        raise ConnectionError(
            "401 for 'https://me:pass@x.example/bot/s3cret?key=k3y' and redis://:pw/1@db:6379/0"
        )

    _, told = await failure(fail)
    assert told.startswith("ConnectionError: 401 for 'https://x.example' and redis://db:6379 at ")


async def test_an_error_that_quotes_the_message_is_told_without_its_text() -> None:
    """Somebody's text is in the log."""

    def fail(message: Message) -> None:
        raise KeyError(message.body)

    error, told = await failure(fail)
    assert told.startswith("KeyError at ")
    assert "hello" not in told
    assert "hello" in full_text(error), "which Redis holds, as it does the message"


async def test_a_long_text_becomes_several_replies_its_pictures_with_the_first() -> None:
    """A text of two thousand characters ends, after five attempts, as a dead letter."""
    words = " ".join(f"word{n}" for n in range(400))

    async def handler(message: Message) -> Any:
        return [Reply(words, ("https://x.example/1.png",)), "short"]

    with ThreadPoolExecutor(1) as executor:
        async with HandlersLoop(executor) as place:
            replies = await run_handler(Choice("default", handler, {}), TEXT, place, 5)
    assert [reply.body for reply in replies] == [*split(words, 1_600), "short"]
    assert [len(reply.media) for reply in replies] == [1, 0, 0]


async def test_a_long_text_is_refused_where_it_is_to_be() -> None:
    """A price list that must not arrive in pieces does."""

    def handler(message: Message) -> str:  # refused
        return "x" * 1_601

    _, told = await failure(handler, long_replies="refuse")
    assert "returned 1601 characters" in told
    assert told.endswith(f" at {line_of('# refused')}")
