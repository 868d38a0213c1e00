# ruff: noqa: ARG005  (these handlers are looked at, seldom called)
"""Registering handlers, and everything that can be wrong with one."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from service import Message, Router
from service.errors import HandlersError
from service.model import MessageSid

HERE = re.escape(__file__)


def text(body: str, to: str = "+15005550100") -> Message:
    """Make an inbound text."""
    return Message(
        sid=MessageSid("SM1"),
        from_="+15005550123",
        to=to,
        body=body,
        media=(),
        account="AC1",
        received_at=datetime(2026, 5, 4, tzinfo=UTC),
        raw={},
    )


async def answer(message: Message) -> str:
    """Be a handler of any route without arguments."""
    return "yes"


def routes() -> Router:
    """Make one route of each kind."""
    router = Router()
    router.keyword("Balance", "what's left?")(answer)
    router.pattern(r"order (?P<number>\d+)")(lambda message, number: number)
    router.pattern(re.compile("Exactly"))(answer)
    router.to(" +15005550199 ")(answer)
    router.default(answer)
    return router


@pytest.mark.parametrize(
    ("message", "route", "arguments"),
    [
        pytest.param(text("BALANCE!"), "keyword BALANCE WHATSLEFT", {}, id="keyword"),
        pytest.param(text("Whats left"), "keyword BALANCE WHATSLEFT", {}, id="second keyword"),
        pytest.param(
            text("My Order 7"), r"pattern order (?P<number>\d+)", {"number": "7"}, id="pattern"
        ),
        pytest.param(text("exactly"), "default", {}, id="a compiled pattern keeps its flags"),
        pytest.param(text("Exactly"), "pattern Exactly", {}, id="compiled pattern"),
        pytest.param(text("x", to="+15005550199"), "to +15005550199", {}, id="number"),
        pytest.param(text("x"), "default", {}, id="default"),
    ],
)
def test_a_message_is_given_to_the_route_that_matches(
    message: Message, route: str, arguments: dict[str, str]
) -> None:
    """A text is answered by the wrong handler, or logs name the wrong one."""
    choice = routes().choose(message)
    assert choice is not None
    assert (choice.route, choice.arguments) == (route, arguments)


def test_without_a_match_there_is_no_choice() -> None:
    """A deployment that only knows keywords would fail on every other text."""
    router = Router()
    assert router.choose(text("x")) is None
    router.keyword("A")(answer)
    assert router.choose(text("x")) is None


def test_a_decorated_handler_stays_the_function_it_was() -> None:
    """Authors could not call their own handler in a test, or register it twice."""
    router = Router()
    assert router.keyword("A")(answer) is answer
    assert router.pattern("b")(answer) is answer
    assert router.to("+1")(answer) is answer
    assert router.default(answer) is answer
    assert len(router) == 4
    assert Router().default()(answer) is answer


def generate(message: Message) -> Iterator[str]:
    """Yield, as a handler can't."""
    yield "a"


async def generate_async(message: Message) -> AsyncIterator[str]:
    """Yield, as a handler can't."""
    yield "a"


Registration = Callable[[Router], Any]


@pytest.mark.parametrize(
    ("register", "reason"),
    [
        pytest.param(lambda r: r.keyword()(answer), "keyword needs its words", id="no words"),
        pytest.param(lambda r: r.keyword(answer), "keyword needs its words", id="bare keyword"),
        pytest.param(lambda r: r.keyword(7)(answer), "keyword needs its words", id="a number"),
        pytest.param(lambda r: r.keyword(["A"])(answer), "keyword needs its words", id="a list"),
        pytest.param(
            lambda r: r.keyword("A", "?!")(answer),
            "keyword '?!' has no letter or digit",
            id="a keyword of punctuation",
        ),
        pytest.param(
            lambda r: r.pattern("(")(answer),
            "pattern '(' does not compile: missing ), unterminated subpattern at position 0",
            id="a malformed expression",
        ),
        pytest.param(
            lambda r: r.pattern(answer), "pattern needs its expression", id="bare pattern"
        ),
        pytest.param(
            lambda r: r.pattern(re.compile(b"a"))(answer),
            "pattern needs its expression",
            id="an expression of bytes, which would fail on every text",
        ),
        pytest.param(lambda r: r.to(answer), "to needs a number", id="bare to"),
        pytest.param(lambda r: r.to("  ")(answer), "to needs a number", id="a blank number"),
        pytest.param(
            lambda r: r.default("text"), "a route decorates a function, not str", id="a text"
        ),
        pytest.param(
            lambda r: r.default(None),
            "a route decorates a function, not NoneType",
            id="a default below a decorator that returns nothing",
        ),
        pytest.param(
            lambda r: r.default(answer, answer), "default takes one handler", id="two defaults"
        ),
        pytest.param(
            lambda r: r.keyword("A")(None),
            "a route decorates a function, not NoneType",
            id="below a decorator that returns nothing",
        ),
    ],
)
def test_a_wrong_registration_is_refused_where_it_is_written(
    register: Registration, reason: str
) -> None:
    """The route is silently missing, or the author has to look for the line."""
    line = register.__code__.co_firstlineno
    with pytest.raises(HandlersError) as caught:
        register(Router())
    found = re.match(rf"{HERE}:(\d+): (.*)", str(caught.value))
    assert found is not None
    # A call that spreads over lines stands on any of them.
    assert line <= int(found[1]) <= line + 3
    assert found[2].startswith(reason)


@pytest.mark.parametrize(
    ("expression", "handler", "reason"),
    [
        pytest.param("a", lambda: "x", "must take (message)", id="no argument"),
        pytest.param("a", lambda message, more: "x", "must take (message)", id="one too many"),
        pytest.param(
            "(?P<n>a)(?P<m>b)?", lambda message, n: "x", "must take (message, n, m)", id="a group"
        ),
        pytest.param(
            "(?P<message>a)",
            lambda message: "x",
            "multiple values",
            id="a group called like the message",
        ),
        pytest.param("a", generate, "yields; return a list", id="a generator"),
        pytest.param("a", generate_async, "yields; return a list", id="an asynchronous one"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused_at_its_own_line(
    expression: str, handler: Callable[..., Any], reason: str
) -> None:
    """Every text that takes the route ends as a dead letter, the first one in production."""
    with pytest.raises(HandlersError) as caught:
        Router().pattern(expression)(handler)
    assert str(caught.value).startswith(f"{__file__}:{handler.__code__.co_firstlineno}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "handler"),
    [
        pytest.param("(?P<n>a)", lambda message, **groups: "x", id="any groups"),
        pytest.param("a", lambda message, more=1: "x", id="an argument with a default"),
        pytest.param("(?P<n>a)", lambda message, /, *, n: "x", id="kinds of arguments"),
        pytest.param("(a)", lambda message: "x", id="a group without a name"),
        pytest.param("a", functools.partial(lambda more, message: "x", 1), id="a partial"),
        pytest.param("a", str, id="a class"),
    ],
)
def test_whatever_can_be_called_with_the_arguments_is_taken(
    expression: str, handler: Callable[..., Any]
) -> None:
    """A working handler keeps the service from starting."""
    router = Router()
    router.pattern(expression)(handler)
    assert router.choose(text("a")) is not None


def test_a_decorator_may_add_arguments_of_its_own() -> None:
    """Handlers that are given a database by a decorator would be refused."""

    def with_database(handler: Callable[[Message, str], str]) -> Callable[[Message], str]:
        @functools.wraps(handler)
        def given(message: Message) -> str:
            return handler(message, "database")

        return given

    router = Router()

    @router.default
    @with_database
    def look_up(message: Message, database: str) -> str:
        return database

    assert router.choose(text("x")) is not None
    assert look_up(text("x")) == "database"


def test_a_conflict_names_both_places() -> None:
    """The author has to search the file for the other route."""
    router = Router()

    @router.keyword("BALANCE")
    def first(message: Message) -> None: ...

    line = first.__code__.co_firstlineno
    with pytest.raises(HandlersError) as caught:

        @router.keyword("hello", "balance!")
        def second(message: Message) -> None: ...

    assert str(caught.value) == (
        f"{__file__}:{line + 6}: keyword HELLO BALANCE can never be reached: "
        f"keyword BALANCE is taken (keyword BALANCE at {__file__}:{line})"
    )


Place = Callable[[Router], object]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            lambda r: r.keyword("A")(answer), lambda r: r.keyword("a.")(answer), id="keyword"
        ),
        pytest.param(
            lambda r: r.pattern("a")(answer), lambda r: r.pattern("a")(answer), id="pattern"
        ),
        pytest.param(lambda r: r.to("+1")(answer), lambda r: r.to("+1")(answer), id="number"),
        pytest.param(lambda r: r.default(answer), lambda r: r.default(answer), id="default"),
        pytest.param(
            lambda r: r.default()(answer), lambda r: r.default()(answer), id="called default"
        ),
    ],
)
def test_two_routes_of_one_handler_are_told_apart_by_their_lines(
    first: Place, second: Place
) -> None:
    """Both places are the handler's, so the author can't see which two of its routes are meant."""
    router = Router()
    first(router)
    with pytest.raises(HandlersError) as caught:
        second(router)
    lines = [place.__code__.co_firstlineno for place in (second, first)]
    said = re.fullmatch(rf"{HERE}:(\d+): .* at {HERE}:(\d+)\)", str(caught.value))
    assert said is not None
    assert [int(line) for line in said.groups()] == lines


def test_stacked_routes_are_told_apart_by_their_lines() -> None:
    """A function with a column of decorators is named instead of the two that quarrel."""
    router = Router()

    def before() -> None: ...

    with pytest.raises(HandlersError) as caught:

        @router.keyword("BALANCE")
        @router.keyword("CREDIT")
        @router.keyword("balance")
        def after(message: Message) -> None: ...

    line = before.__code__.co_firstlineno
    assert str(caught.value).startswith(f"{__file__}:{line + 4}: ")
    assert str(caught.value).endswith(f" at {__file__}:{line + 6})")


def test_spellings_of_one_keyword_in_one_route_are_one_keyword() -> None:
    """An author who writes two spellings to be safe can't start the service."""
    router = Router()
    router.keyword("What's up", "WHATS UP")(answer)
    choice = router.choose(text("whats up?"))
    assert choice is not None
    assert choice.route == "keyword WHATSUP"


def test_a_refused_route_leaves_the_others_alone() -> None:
    """A test that expects the refusal would find a broken router afterwards."""
    router = routes()
    before = len(router)
    with pytest.raises(HandlersError, match="it comes after the default"):
        router.keyword("LATE")(answer)
    choice = router.choose(text("late"))
    assert len(router) == before
    assert choice is not None
    assert choice.route == "default"
