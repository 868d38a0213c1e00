# ruff: noqa: ARG005  (handlers take a message, whether they look at it or not)
"""One handler on one message: its time, its errors, and what it may return."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from service import Message, Reply
from service.errors import HandlerFailed, HandlerMisbehaved, HandlerTimedOut
from service.handlers.loop import HandlersLoop
from service.handlers.router import Choice
from service.handlers.running import describe, run_handler
from service.model import MessageSid

pytestmark = pytest.mark.anyio

TEXT = Message(
    sid=MessageSid("SM1"),
    from_="+15005550123",
    to="+15005550100",
    body="hello",
    media=(),
    account="AC1",
    received_at=datetime(2026, 5, 4, tzinfo=UTC),
    raw={},
)


@pytest.fixture
async def threads() -> AsyncIterator[HandlersLoop]:
    """Where handlers run."""
    with ThreadPoolExecutor(4) as executor:
        async with HandlersLoop(executor) as place:
            yield place


async def run(
    handler: Callable[..., Any], threads: HandlersLoop, timeout_s: float = 5, **groups: str
) -> tuple[Reply, ...]:
    """Run a handler on one text."""
    return await run_handler(Choice("default", handler, groups), TEXT, threads, timeout_s)


def as_def(outcome: Callable[[], Any]) -> Callable[[Message], Any]:
    """Make a plain handler of what it does."""
    return lambda message: outcome()


def as_async(outcome: Callable[[], Any]) -> Callable[[Message], Any]:
    """Make an asynchronous handler of what it does."""

    async def handler(message: Message) -> Any:
        await asyncio.sleep(0)
        return outcome()

    return handler


KINDS = pytest.mark.parametrize("kind", [as_def, as_async], ids=["def", "async def"])
Kind = Callable[[Callable[[], Any]], Callable[[Message], Any]]

PICTURE = "https://x.example/1.png"


@KINDS
@pytest.mark.parametrize(
    ("outcome", "replies"),
    [
        pytest.param(None, (), id="nothing"),
        pytest.param("", (), id="an empty text"),
        pytest.param("hi", (Reply("hi"),), id="a text"),
        pytest.param(Reply("hi", (PICTURE,)), (Reply("hi", (PICTURE,)),), id="a reply"),
        pytest.param(Reply(media=(PICTURE,)), (Reply("", (PICTURE,)),), id="a picture alone"),
        pytest.param([], (), id="an empty list"),
        pytest.param(
            ["a", Reply("b"), None, "", "c"],
            (Reply("a"), Reply("b"), Reply("c")),
            id="a list, in order, without what is empty",
        ),
        pytest.param(("a", "b"), (Reply("a"), Reply("b")), id="a tuple"),
        pytest.param("x" * 1_600, (Reply("x" * 1_600),), id="the longest text"),
    ],
)
async def test_every_shape_of_answer_becomes_replies(
    kind: Kind, outcome: Any, replies: tuple[Reply, ...], threads: HandlersLoop
) -> None:
    """A handler written as the documentation says gets no answer out, or the wrong one."""
    assert await run(kind(lambda: outcome), threads) == replies


@KINDS
@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        pytest.param(7, "returned int", id="a number"),
        pytest.param(False, "returned bool", id="a truth value"),
        pytest.param(b"hi", "returned bytes", id="bytes"),
        pytest.param({"body": "hi"}, "returned dict", id="a dictionary"),
        pytest.param({"hi"}, "returned set", id="a set, which has no order"),
        pytest.param(["a", ["b"]], "returned list", id="a list in a list"),
        pytest.param(["a", 7], "returned int", id="a number in a list"),
        pytest.param(TEXT, "returned Message", id="the message"),
        pytest.param("\ud83d", "no whole texts", id="half a character"),
        pytest.param(
            Reply(None, (PICTURE,)),  # type: ignore[arg-type]
            "no whole texts",
            id="None for a body",
        ),
        pytest.param(Reply(7), "no whole texts", id="a number for a body"),  # type: ignore[arg-type]
        pytest.param(
            Reply("a", (None,)),  # type: ignore[arg-type]
            "no whole texts",
            id="None for a picture",
        ),
    ],
)
async def test_what_is_no_answer_is_refused_by_name(
    kind: Kind, outcome: Any, reason: str, threads: HandlersLoop
) -> None:
    """Somebody is texted "{'body': 'hi'}", or the whole partition stops at what can't be stored."""
    with pytest.raises(HandlerMisbehaved, match=reason) as caught:
        await run(kind(lambda: outcome), threads)
    assert str(caught.value).startswith("default: returned ")


def failing(error: BaseException) -> Callable[[], None]:
    """Make something that raises."""

    def fail() -> None:
        raise error

    return fail


@KINDS
@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(ValueError("a\n  b"), "ValueError: a b", id="an exception, on one line"),
        pytest.param(KeyError(), "KeyError", id="an exception without words"),
        pytest.param(SystemExit(3), "SystemExit: 3", id="SystemExit"),
        pytest.param(KeyboardInterrupt(), "KeyboardInterrupt", id="KeyboardInterrupt"),
        pytest.param(StopIteration(), "", id="StopIteration, as of next() of nothing"),
        pytest.param(asyncio.CancelledError(), "CancelledError", id="CancelledError of its own"),
        pytest.param(GeneratorExit(), "GeneratorExit", id="GeneratorExit"),
        pytest.param(TimeoutError("db"), "TimeoutError: db", id="a time-out of its own"),
    ],
)
async def test_whatever_a_handler_raises_is_its_own_failure(
    kind: Kind, error: BaseException, said: str, threads: HandlersLoop
) -> None:
    """One handler takes the worker down with it, or hangs its conversation for ever."""
    async with asyncio.timeout(5):
        with pytest.raises(HandlerFailed) as caught:
            await run(kind(failing(error)), threads)
    assert str(caught.value).startswith("default: ")
    assert said in str(caught.value)
    assert caught.value.__cause__ is not None


async def test_an_asynchronous_handler_that_takes_too_long_is_cancelled(
    threads: HandlersLoop,
) -> None:
    """A handler that hangs blocks its conversation for ever."""
    cleaned_up = False

    async def handler(message: Message) -> None:
        nonlocal cleaned_up
        try:
            await asyncio.sleep(60)
        finally:
            cleaned_up = True

    with pytest.raises(HandlerTimedOut, match=r"^default: took longer than 0\.05 s$"):
        await run(handler, threads, 0.05)
    assert cleaned_up


async def test_one_that_ignores_its_cancellation_is_waited_for(
    threads: HandlersLoop,
) -> None:
    """Its retry would run beside it: two handlers in one conversation at once."""
    ended = False

    async def handler(message: Message) -> str:
        nonlocal ended
        begun = time.monotonic()
        while time.monotonic() < begun + 0.3:
            try:
                await asyncio.sleep(0.3)
            except asyncio.CancelledError:
                continue
        ended = True
        return "too late"

    with pytest.raises(HandlerTimedOut):
        await run(handler, threads, 0.05)
    assert ended


async def test_one_that_fails_while_it_is_cancelled_has_timed_out(
    threads: HandlersLoop,
) -> None:
    """The log shows an accident of the clean-up instead of the time-out, or asyncio complains."""

    async def handler(message: Message) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError

    with pytest.raises(HandlerTimedOut):
        await run(handler, threads, 0.05)


async def test_a_thread_that_outlives_its_time_is_waited_for(threads: HandlersLoop) -> None:
    """Its retry would run beside it: two handlers in one conversation at once."""
    ended = threading.Event()

    def handler(message: Message) -> str:
        time.sleep(0.3)
        ended.set()
        return "too late"

    with pytest.raises(HandlerTimedOut):
        await run(handler, threads, 0.05)
    assert ended.is_set()


async def test_a_thread_that_fails_after_its_time_has_timed_out(
    threads: HandlersLoop,
) -> None:
    """The error of a thread nobody waited for shows up in the log without its message."""

    def handler(message: Message) -> None:
        time.sleep(0.2)
        raise ValueError

    with pytest.raises(HandlerTimedOut):
        await run(handler, threads, 0.05)


async def test_others_go_on_while_a_plain_handler_blocks(threads: HandlersLoop) -> None:
    """One slow database call stops every conversation."""
    let_go = threading.Event()
    slow = asyncio.create_task(run(lambda message: str(let_go.wait(5)), threads))
    assert await run(as_async(lambda: "quick"), threads) == (Reply("quick"),)
    assert await run(as_def(lambda: "quick"), threads) == (Reply("quick"),)
    assert not slow.done()
    let_go.set()
    assert await slow == (Reply("True"),)


@KINDS
async def test_who_is_cancelled_meanwhile_waits_for_the_handler_to_end(
    kind: Kind, threads: HandlersLoop
) -> None:
    """A clean stop would hand the conversation to another worker while its handler still runs."""
    running, ended = threading.Event(), threading.Event()

    def blocking() -> None:
        running.set()
        time.sleep(0.2)
        ended.set()

    task = asyncio.create_task(run(kind(blocking), threads))
    while not running.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    if kind is as_def:
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        # It blocked the loop itself, so it had ended before anybody could cancel.
        await asyncio.wait((task,))
    assert ended.is_set()


async def test_an_asynchronous_handler_is_cancelled_with_its_worker(
    threads: HandlersLoop,
) -> None:
    """A stop takes as long as the slowest handler, or leaves one running without a worker."""
    ended = False

    async def handler(message: Message) -> None:
        nonlocal ended
        try:
            await asyncio.sleep(60)
        finally:
            ended = True

    task = asyncio.create_task(run(handler, threads))
    asyncio.get_running_loop().call_later(0.05, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_a_second_cancellation_does_not_leave_a_thread_behind(
    threads: HandlersLoop,
) -> None:
    """A lost lease and then a stop: the next owner's handler runs beside the one left behind."""
    running, ended = threading.Event(), threading.Event()

    def handler(message: Message) -> None:
        running.set()
        time.sleep(0.3)
        ended.set()

    task = asyncio.create_task(run(handler, threads))
    while not running.is_set():
        await asyncio.sleep(0.01)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.02)
    assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_cancellation_after_the_time_out_waits_for_the_handler_too(
    threads: HandlersLoop,
) -> None:
    """A clean stop in just that moment leaves a handler running without a worker."""
    ended = threading.Event()

    def handler(message: Message) -> None:
        time.sleep(0.4)
        ended.set()

    task = asyncio.create_task(run(handler, threads, 0.05))
    await asyncio.sleep(0.15)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


TENANT = contextvars.ContextVar("TENANT", default="nobody")


@KINDS
async def test_context_variables_reach_the_handler_and_stay_with_it(
    kind: Kind, threads: HandlersLoop
) -> None:
    """Traces and log lines of a handler lose their message, or carry another's."""

    def look() -> str:
        seen = TENANT.get()
        TENANT.set("changed")
        return seen

    TENANT.set("ours")
    assert await run(kind(look), threads) == (Reply("ours"),)
    assert TENANT.get() == "ours"
    assert await run(kind(look), threads) == (Reply("ours"),)


@KINDS
async def test_groups_of_the_pattern_arrive_by_name(kind: Kind, threads: HandlersLoop) -> None:
    """A handler of a pattern could not see what was found."""

    def seen(message: Message, number: str) -> str:
        return f"{message.body} {number}"

    async def seen_async(message: Message, number: str) -> str:
        return f"{message.body} {number}"

    handler = seen if kind is as_def else seen_async
    assert await run(handler, threads, number="7") == (Reply("hello 7"),)


class Greeter:
    """A handler with something to remember."""

    async def __call__(self, message: Message) -> str:
        """Answer asynchronously."""
        return "from an object"

    async def method(self, message: Message) -> str:
        """Answer asynchronously."""
        return "from a method"


async def coroutine(message: Message, name: str = "nobody") -> str:
    """Answer asynchronously."""
    return f"from {name}"


def plain(message: Message) -> str:
    """Answer from a thread."""
    return "from a thread"


@functools.wraps(coroutine)
def def_around_async(message: Message) -> Any:
    """Return what the wrapped handler makes."""
    return coroutine(message, "a wrapped async def")


@functools.wraps(coroutine)
def def_instead_of_async(message: Message) -> str:
    """Answer from a thread although it wraps an asynchronous handler."""
    return "from a thread"


@functools.wraps(plain)
async def async_around_def(message: Message) -> str:
    """Answer asynchronously although it wraps a plain handler."""
    return plain(message)


@pytest.mark.parametrize(
    ("handler", "answer"),
    [
        pytest.param(Greeter(), "from an object", id="an object that is called"),
        pytest.param(Greeter().method, "from a method", id="a method"),
        pytest.param(functools.partial(coroutine, name="x"), "from x", id="a partial"),
        pytest.param(lambda m: coroutine(m, "x"), "from x", id="a lambda"),
        pytest.param(def_around_async, "from a wrapped async def", id="def around async def"),
        pytest.param(def_instead_of_async, "from a thread", id="def instead of async def"),
        pytest.param(async_around_def, "from a thread", id="async def around def"),
    ],
)
async def test_whatever_is_called_is_awaited_if_it_has_to_be(
    handler: Callable[..., Any], answer: str, threads: HandlersLoop
) -> None:
    """A decorated handler or a callable object ends as a dead letter: "returned coroutine"."""
    assert await run(handler, threads) == (Reply(answer),)


async def test_both_halves_of_a_def_around_an_async_def_share_one_time(
    threads: HandlersLoop,
) -> None:
    """A decorated handler may take twice as long as it is allowed."""

    async def rest() -> None:
        await asyncio.sleep(60)

    def handler(message: Message) -> Any:
        time.sleep(0.2)
        return rest()

    begun = time.monotonic()
    with pytest.raises(HandlerTimedOut):
        await run(handler, threads, 0.4)
    assert time.monotonic() < begun + 0.55


async def test_a_second_half_that_comes_too_late_is_never_begun(
    threads: HandlersLoop,
) -> None:
    """The reply's side effects happen after the message has been given up; or a warning is all."""
    begun = False

    async def rest() -> None:
        nonlocal begun
        begun = True

    def handler(message: Message) -> Any:
        time.sleep(0.2)
        return rest()

    with pytest.raises(HandlerTimedOut):
        await run(handler, threads, 0.05)
    await asyncio.sleep(0)
    assert not begun


async def test_a_wrapper_that_does_not_take_the_groups_fails_by_itself(
    threads: HandlersLoop,
) -> None:
    """The worker stops at a TypeError that belongs to the handler."""
    for handler in (plain, async_around_def):
        with pytest.raises(HandlerFailed, match=r"TypeError: .*unexpected keyword argument"):
            await run(handler, threads, number="7")


def test_an_error_without_words_is_named_without_a_colon() -> None:
    """Dead letters read "KeyError:" as if something had been cut off."""
    assert describe(KeyError()) == "KeyError"
    assert describe(ValueError("a: ")) == "ValueError: a"
