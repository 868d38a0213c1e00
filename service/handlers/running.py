"""Runs one handler on one message and turns what it returns into replies."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import cast

import structlog

from service.errors import HandlerFailed, HandlerMisbehaved, HandlerTimedOut
from service.handlers.router import Choice
from service.model import Message, Reply

log = structlog.get_logger()

BODY_LIMIT = 1_600
"""Characters of one message, the most Twilio accepts (its error 21617)."""


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
    work: asyncio.Future[object]
    if inspect.iscoroutinefunction(inspect.unwrap(choice.handler)):
        work = asyncio.ensure_future(cast("Awaitable[object]", call()))
    else:
        context = contextvars.copy_context()
        work = asyncio.get_running_loop().run_in_executor(executor, context.run, call)
    try:
        done, _ = await asyncio.wait((work,), timeout=timeout_s)
        if not done:
            await _end(work, choice, timeout_s)
            raise HandlerTimedOut(f"{choice.route}: took longer than {timeout_s:g} s")
    except asyncio.CancelledError:
        await _end(work, choice, timeout_s)
        raise
    error = work.exception() if not work.cancelled() else asyncio.CancelledError()
    if error is not None:
        raise HandlerFailed(f"{choice.route}: {describe(error)}") from error
    return _read(choice, work.result())


async def _end(work: asyncio.Future[object], choice: Choice, timeout_s: float) -> None:
    """Cancel a handler and wait until it has really ended."""
    while not work.done():
        if isinstance(work, asyncio.Task):
            work.cancel()
        # A thread's future is left alone: cancelled, it would only pretend to have ended.
        await asyncio.wait((work,), timeout=max(timeout_s, 1))
        if not work.done():
            log.warning("a handler is still running after its time", route=choice.route)
    if not work.cancelled():
        work.exception()  # Looked at, so that asyncio does not report it a second time.


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
    if len(reply.body) > BODY_LIMIT:
        raise HandlerMisbehaved(
            f"{choice.route}: returned {len(reply.body)} characters, Twilio takes {BODY_LIMIT}; "
            "return a list of shorter texts"
        )
    return reply


def describe(error: BaseException) -> str:
    """Name an error and what it says, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
