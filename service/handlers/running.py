"""Runs one handler on one message and turns what it returns into replies."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import cast

import structlog

from service.errors import HandlerFailed, HandlerMisbehaved, HandlerTimedOut
from service.handlers.router import Choice
from service.model import Message, Reply

log = structlog.get_logger()

BODY_LIMIT = 1_600
"""Characters of one message, the most Twilio accepts (its error 21617)."""

HALF = re.compile("[\ud800-\udfff]")
"""Half of a character, a lone surrogate: it has no UTF-8, so it can be neither stored nor sent."""


async def run_handler(
    choice: Choice, message: Message, executor: Executor, timeout_s: float
) -> tuple[Reply, ...]:
    """Run the chosen handler; returns its replies in order.

    executor: where a plain `def` runs. timeout_s: longest it may take, seconds.
    Raises HandlerFailed when it raised (the cause is chained), HandlerTimedOut, HandlerMisbehaved.
    Returns or raises only once the handler runs no more: one that ignores its cancellation, or a
        thread, which can't be stopped, is waited for, so that no second one starts beside it.
    """
    call = partial(choice.handler, message, **choice.arguments)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    context = contextvars.copy_context()
    work: asyncio.Future[_Outcome]
    if inspect.iscoroutinefunction(choice.handler):
        work = loop.create_task(_await(call), context=context)
    else:
        work = loop.run_in_executor(executor, context.run, _call, call)
    outcome = await _finish(work, choice, deadline, timeout_s)
    if inspect.isawaitable(outcome):
        # From a callable object, or a `def` that a decorator put around an `async def`.
        work = loop.create_task(_await(partial(_same, outcome)), context=context)
        outcome = await _finish(work, choice, deadline, timeout_s)
    return _read(choice, outcome)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a handler returned or raised.

    Held as a value: as an exception, SystemExit would end the event loop, and StopIteration is
    more than a future can hold.
    """

    value: object = None
    error: BaseException | None = None


def _call(call: Callable[[], object]) -> _Outcome:
    try:
        return _Outcome(call())
    except BaseException as error:  # noqa: BLE001  (a handler may raise anything, SystemExit too)
        return _Outcome(error=error)


async def _await(call: Callable[[], object]) -> _Outcome:
    try:
        return _Outcome(await cast("Awaitable[object]", call()))
    except BaseException as error:  # noqa: BLE001  (as above; Ctrl+C is the loop's signal handler's)
        return _Outcome(error=error)


def _same(value: object) -> object:
    return value


async def _finish(
    work: asyncio.Future[_Outcome], choice: Choice, deadline: float, timeout_s: float
) -> object:
    """Wait for a handler until `deadline`, of the loop's clock, and return what it returned."""
    remaining_s = deadline - asyncio.get_running_loop().time()
    try:
        done, _ = await asyncio.wait((work,), timeout=max(remaining_s, 0))
        if not done:
            await _end(work, choice, timeout_s)
            raise HandlerTimedOut(f"{choice.route}: took longer than {timeout_s:g} s")
    except asyncio.CancelledError:
        await _end(work, choice, timeout_s)
        raise
    outcome = work.result()
    if outcome.error is not None:
        raise HandlerFailed(f"{choice.route}: {describe(outcome.error)}") from outcome.error
    return outcome.value


async def _end(work: asyncio.Future[_Outcome], choice: Choice, timeout_s: float) -> None:
    """Cancel a handler and wait until it has really ended, whoever else asks for the end."""
    interrupted: asyncio.CancelledError | None = None
    while not work.done():
        if isinstance(work, asyncio.Task):
            work.cancel()
        # A thread's future is left alone: cancelled, it would only pretend to have ended.
        try:
            await asyncio.wait((work,), timeout=max(timeout_s, 1))
        except asyncio.CancelledError as error:
            interrupted = error
            continue
        if not work.done():
            log.warning("a handler is still running after its time", route=choice.route)
    if not work.cancelled():
        late = work.result().value
        if inspect.iscoroutine(late):
            late.close()  # Never begun; asyncio would report that nobody awaited it.
    if interrupted is not None:
        raise interrupted


def _read(choice: Choice, outcome: object) -> tuple[Reply, ...]:
    several = isinstance(outcome, Sequence) and not isinstance(outcome, str | bytes | bytearray)
    parts = list(outcome) if several else [outcome]  # type: ignore[call-overload]
    return tuple(_reply(choice, part) for part in parts if part is not None and part != "")


def _reply(choice: Choice, part: object) -> Reply:
    reply = Reply(part) if isinstance(part, str) else part
    if not isinstance(reply, Reply):
        raise HandlerMisbehaved(
            f"{choice.route}: returned {type(part).__name__}; "
            "return None, a str, a Reply or a list of them"
        )
    if not _are_texts([reply.body]) or not _are_texts(reply.media):
        raise HandlerMisbehaved(
            f"{choice.route}: returned a Reply whose body or media are no whole texts; "
            'write Reply("text", media=("https://...",))'
        )
    if len(reply.body) > BODY_LIMIT:
        raise HandlerMisbehaved(
            f"{choice.route}: returned {len(reply.body)} characters, Twilio takes {BODY_LIMIT}; "
            "return a list of shorter texts"
        )
    return reply


def _are_texts(values: object) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(value, str) and not HALF.search(value) for value in values
    )


def describe(error: BaseException) -> str:
    """Name an error and what it says, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
