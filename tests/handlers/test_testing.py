"""Phones for an author's tests: over the real router, rules and loop, at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import uvloop

from service import Media, Message, Reply, Router
from service.core.twilio import opt_out
from service.errors import HandlerFailed, HandlerMisbehaved, HandlerTimedOut
from service.handlers.testing import Engine, Phones
from service.model import Outbound

OURS = "+15005550100"
ANN, BEN = "+15551230001", "+15551230002"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Where handlers run, as the plugin makes it."""
    with Engine(uvloop.new_event_loop, 8) as engine:
        yield engine


@pytest.fixture
def router() -> Router:
    """For the test's own routes."""
    return Router()


@pytest.fixture
def phones(engine: Engine, router: Router) -> Phones:
    """Phones with the settings' defaults, but for the time-out."""
    return Phones(
        router,
        engine,
        sender=OURS,
        timeout_s=5,
        attempts=5,
        long_replies="split",
        opt_out_words=opt_out.WORDS,
    )


def echo(message: Message) -> str:
    """Answer with the text."""
    return message.body


# --- what comes back -------------------------------------------------------------------------


def test_a_text_is_answered_at_once_and_the_phone_keeps_what_it_received(
    phones: Phones, router: Router
) -> None:
    """An author's first test does not work."""
    router.keyword("BALANCE")(lambda _: "5 credits")
    router.pattern(r"order (?P<number>\d+)")(lambda _, number: ["Thanks.", f"{number}!"])
    phone = phones(ANN)

    assert phone.send("Balance?") == ["5 credits"]
    assert phone.send("order 7") == ["Thanks.", "7!"]
    assert phone.send("anything else") == []
    assert phone.received == ["5 credits", "Thanks.", "7!"]
    assert phones(ANN) is phone
    assert phones(BEN).received == []


def test_a_handler_sees_a_whole_message(phones: Phones, router: Router) -> None:
    """What works in a test fails on a real text, as a field of it is missing."""
    seen: list[Message] = []
    router.default(seen.append)

    phones(ANN).send(
        "look",
        to="+15005550199",
        media=["https://example.com/a.jpg", Media("https://example.com/b", "image/png")],
        recovered=True,
        parameters={"FromCountry": "US"},
    )
    phones(BEN).send()

    first, second = seen
    assert first.conversation == ("+15005550199", ANN)
    assert first.media == (
        Media("https://example.com/a.jpg", "image/jpeg"),
        Media("https://example.com/b", "image/png"),
    )
    assert (first.body, first.recovered, first.raw["FromCountry"]) == ("look", True, "US")
    assert first.sid.startswith("MM")
    assert first.received_at.tzinfo is not None
    assert (second.body, second.to, second.media, second.recovered) == ("", OURS, (), False)
    assert first.sid != second.sid


def test_pictures_are_seen_in_replies(phones: Phones, router: Router) -> None:
    """A test can't tell whether the picture was sent."""
    picture = Reply(media=("https://example.com/map.png",))
    answer: list[str | Reply] = ["Here:", picture]
    router.default(lambda _: answer)
    phone = phones(ANN)

    assert phone.send("map") == ["Here:", ""]
    assert phone.replies == [Reply("Here:"), picture]


def test_a_text_of_attachments_is_refused(phones: Phones, router: Router) -> None:
    """Each letter of the URL becomes an attachment."""
    router.default(echo)
    with pytest.raises(TypeError, match="write a list of URLs"):
        phones(ANN).send("x", media="https://example.com/a.jpg")


@pytest.mark.parametrize("plain", [True, False], ids=["def", "async def"])
def test_handlers_run_where_the_service_runs_them(
    phones: Phones, router: Router, *, plain: bool
) -> None:
    """What depends on its thread or loop behaves otherwise in the service."""
    names = []

    def note() -> None:
        names.append(threading.current_thread().name)

    async def slow(message: Message) -> None:
        await asyncio.sleep(0)
        note()

    router.default((lambda _: note()) if plain else slow)
    phones(ANN).send("x")

    (name,) = names
    assert name.startswith("handler ") if plain else name == "handlers"


@pytest.mark.anyio
async def test_an_async_test_texts_as_well(phones: Phones, router: Router) -> None:
    """Authors whose other tests are async can't use it."""

    async def later(message: Message) -> str:
        await asyncio.sleep(0)
        return "later"

    router.default(later)

    assert phones(ANN).send("x") == ["later"]
    assert await asyncio.to_thread(phones(ANN).send, "x") == ["later"]


# --- long texts ------------------------------------------------------------------------------


def test_a_long_text_arrives_in_pieces_or_fails_its_handler(phones: Phones, router: Router) -> None:
    """LONG_REPLIES means something else in tests."""
    text = "word " * 500
    router.default(lambda _: text)

    pieces = phones(ANN).send("x")
    assert len(pieces) == 2
    assert " ".join(pieces) == text.strip()

    phones.long_replies = "refuse"
    with pytest.raises(HandlerMisbehaved, match="2500 characters"):
        phones(ANN).send("x")


# --- handlers that fail ----------------------------------------------------------------------


def test_a_handler_that_fails_is_tried_again_without_waiting(
    phones: Phones, router: Router
) -> None:
    """A handler that stumbles once fails its test, or the test takes minutes."""
    calls = []

    @router.default
    async def stumble(message: Message) -> str:
        calls.append(message.sid)
        if len(calls) < 5:
            raise ConnectionError("not yet")
        return "at last"

    assert phones(ANN).send("x") == ["at last"]
    assert len(calls) == 5
    assert len(set(calls)) == 1
    assert phones.dead_letters == []


def test_the_authors_own_error_is_raised_after_the_last_attempt(
    phones: Phones, router: Router
) -> None:
    """A broken handler passes its test, or what broke it is hidden by ours."""
    calls = []

    @router.keyword("BOOM")
    def boom(message: Message) -> str:
        calls.append(message.sid)
        raise LookupError(f"attempt {len(calls)}")

    phones.attempts = 3
    phone = phones(ANN)
    with pytest.raises(LookupError, match=r"^attempt 3$") as caught:
        phone.send("boom")

    assert len(calls) == 3
    assert [entry.name for entry in caught.traceback][-1] == "boom"
    (letter,) = phones.dead_letters
    assert isinstance(letter.value, Message)
    assert (letter.value.body, letter.route) == ("boom", "keyword BOOM")
    assert letter.error.startswith("keyword BOOM: LookupError: attempt 3\nTraceback")
    assert phone.received == []


def test_a_handler_that_ends_the_program_ends_no_test_run(phones: Phones, router: Router) -> None:
    """One handler that calls exit() ends the author's whole run of tests."""

    @router.default
    async def leave(message: Message) -> None:
        raise SystemExit(3)

    with pytest.raises(HandlerFailed, match="SystemExit: 3"):
        phones(ANN).send("x")


def test_a_handler_gets_its_time_and_no_more(phones: Phones, router: Router) -> None:
    """A hang is found in production alone."""

    @router.default
    async def hang(message: Message) -> None:
        await asyncio.sleep(60)

    phones.timeout_s, phones.attempts = 0.05, 2
    began = time.monotonic()
    with pytest.raises(HandlerTimedOut, match=r"default: took longer than 0\.05 s"):
        phones(ANN).send("x")
    assert time.monotonic() - began >= 0.1
    assert len(phones.dead_letters) == 1


def test_what_is_no_reply_is_refused_with_the_handlers_place(
    phones: Phones, router: Router
) -> None:
    """A wrong answer passes its test, or nobody knows whose it was."""
    router.default(lambda _: 7)  # type: ignore[type-var]  # what is wrong

    with pytest.raises(HandlerMisbehaved, match="returned int") as caught:
        phones(ANN).send("x")
    assert f"the handler is at {__file__}:" in caught.value.__notes__[0]


# --- opt-out ---------------------------------------------------------------------------------


def test_who_texts_stop_receives_nothing_until_they_text_start(
    phones: Phones, router: Router
) -> None:
    """A test says that people who opted out are answered, which Twilio refuses."""
    router.default(echo)
    ann, ben = phones(ANN), phones(BEN)

    assert ann.send(" stop ") == []
    assert phones.dead_letters == []  # Left to Twilio: no handler was asked.
    assert ann.send("hello") == []
    (letter,) = phones.dead_letters
    assert isinstance(letter.value, Outbound)
    assert letter.value.reply == Reply("hello")
    assert letter.error.startswith("21610: ")
    assert ben.send("hello") == ["hello"]
    assert ann.send("hello", to="+15005550199") == ["hello"]  # Another number of ours.
    assert ann.send("START") == []
    assert ann.send("hello") == ["hello"]


def test_yes_is_a_text_like_any_other_from_somebody_who_is_in(
    phones: Phones, router: Router
) -> None:
    """A dialog that asks for a YES can't be tested."""
    router.default(echo)
    phone = phones(ANN)

    assert phone.send("YES") == ["YES"]
    phone.send("STOP")
    assert phone.send("YES") == []
    assert phone.send("YES") == ["YES"]


def test_a_keyword_route_gets_stop_and_its_reply_is_refused(phones: Phones, router: Router) -> None:
    """An author believes that their goodbye arrives."""
    asked = []

    @router.keyword("STOP")
    def stop(message: Message) -> str:
        asked.append(message.body)
        return "Goodbye"

    assert phones(ANN).send("STOP") == []
    assert asked == ["STOP"]
    assert len(phones.dead_letters) == 1


def test_opt_out_words_and_what_twilio_marks_count(phones: Phones, router: Router) -> None:
    """OPT_OUT_WORDS and a messaging service mean something else in tests."""
    router.default(echo)
    service = {"MessagingServiceSid": "MG1"}

    assert phones(ANN).send("STOP", parameters=service) == ["STOP"]
    assert phones(ANN).send("arrêt", parameters={**service, "OptOutType": "STOP"}) == []
    assert phones(ANN).send("hello") == []
    phones.opt_out_words = frozenset()
    assert phones(BEN).send("STOP") == ["STOP"]


def test_a_start_whose_handler_fails_opts_in_all_the_same(phones: Phones, router: Router) -> None:
    """The service notes it, as Twilio has."""

    @router.keyword("START")
    def start(message: Message) -> None:
        raise LookupError

    router.default(echo)
    phone = phones(ANN)
    phone.send("STOP")
    with pytest.raises(LookupError):
        phone.send("START")
    assert phone.send("hello") == ["hello"]


# --- order -----------------------------------------------------------------------------------


def test_texts_of_a_conversation_are_handled_one_at_a_time_and_others_beside_them(
    phones: Phones, router: Router
) -> None:
    """A test that texts from several threads sees what never happens in the service."""
    spans: list[tuple[str, float, float]] = []

    @router.default
    async def slow(message: Message) -> None:
        began = time.monotonic()
        await asyncio.sleep(0.05)
        spans.append((message.from_, began, time.monotonic()))

    began = time.monotonic()
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda number: phones(number).send("x"), [ANN, BEN] * 3))
    took = time.monotonic() - began

    for number in (ANN, BEN):
        own = sorted(span for span in spans if span[0] == number)
        assert len(own) == 3
        assert all(end <= start for (_, _, end), (_, start, _) in pairwise(own))
    assert took < sum(end - start for _, start, end in spans)
