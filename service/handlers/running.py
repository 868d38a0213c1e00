"""Runs one handler on one message and turns what it returns into replies."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import structlog

from service.core.splitting import split
from service.errors import HandlerFailed, HandlerMisbehaved, HandlerTimedOut, LeaseLost
from service.handlers.loop import HandlersLoop
from service.handlers.router import Choice
from service.handlers.steps import StartAnew, Work
from service.model import Message, Reply

log = structlog.get_logger()

BODY_LIMIT = 1_600
"""Characters of one message, the most Twilio accepts (its error 21617)."""

STILL_RUNNING_S = 60.0
"""Between two lines in the log about a handler that runs on after its time."""

LongReplies = Literal["split", "refuse"]
"""What becomes of a text of more than BODY_LIMIT characters: several replies, or an error."""

HALF = re.compile("[\ud800-\udfff]")
"""Half of a character, a lone surrogate: it has no UTF-8, so it can be neither stored nor sent."""


async def run_handler(
    choice: Choice,
    message: Message,
    place: HandlersLoop,
    timeout_s: float,
    *,
    long_replies: LongReplies = "split",
    expired: Callable[[], bool] = lambda: False,
) -> tuple[Reply, ...]:
    """Run the chosen handler; returns its replies in order.

    place: where handlers run. timeout_s: longest it may take, seconds.
    long_replies: what becomes of a text that is too long for one message.
    expired: whether the lease may have run out; then an `async def` is cancelled at its next step.
        Called in any thread.
    Raises HandlerFailed when it raised (the cause is chained), HandlerTimedOut, HandlerMisbehaved;
        LeaseLost when it was cancelled because the lease may have run out.
    Returns or raises only once the handler runs no more: one that ignores its cancellation, or a
        thread, which can't be stopped, is waited for, so that no second one starts beside it.
        Only a stop of the process does not wait for ever: see HandlersLoop.let_go_of_all.
    """
    while True:
        try:
            outcome = await _outcome(choice, message, place, timeout_s, expired)
        except StartAnew:
            continue
        return _read(choice, outcome, long_replies)


async def _outcome(
    choice: Choice,
    message: Message,
    place: HandlersLoop,
    timeout_s: float,
    expired: Callable[[], bool],
) -> object:
    call = partial(choice.handler, message, **choice.arguments)
    loop = asyncio.get_running_loop()
    work = Work(
        choice=choice,
        ended=loop.create_future(),
        deadline=loop.time() + timeout_s,
        timeout_s=timeout_s,
        context=contextvars.copy_context(),
        expired=expired,
        call=call,
    )
    if inspect.iscoroutinefunction(choice.handler):
        place.start(work)
    else:
        place.start_thread(work)
    outcome = await _finish(work, place)
    if inspect.isawaitable(outcome):
        # From a callable object, or a `def` that a decorator put around an `async def`.
        work.ended, work.outcome = loop.create_future(), None
        work.call, work.once = lambda: outcome, True
        place.start(work)
        outcome = await _finish(work, place)
    return outcome


async def _finish(work: Work, place: HandlersLoop) -> object:
    """Wait for a handler until its time is up, and return what it returned."""
    loop = asyncio.get_running_loop()
    while work.outcome is None:
        timer = loop.call_at(work.deadline, _time_is_up, work)
        try:
            await work.ended
        except asyncio.CancelledError:
            await _end(work, place)
            raise
        finally:
            timer.cancel()
        if work.outcome is None:
            work.ended = loop.create_future()
            if loop.time() >= work.deadline and not place.start_over(work):
                place.leave(work)
                await _end(work, place)
                raise HandlerTimedOut(_too_long(work))
    error = work.outcome.error
    if isinstance(error, StartAnew):
        raise error
    if error is not None:
        if work.cut:
            raise LeaseLost("the lease ran out while a handler was under way") from error
        raise HandlerFailed(f"{work.choice.route}: {describe(error)}") from error
    return work.outcome.value


def _time_is_up(work: Work) -> None:
    if not work.ended.done():
        work.ended.set_result(None)


def _too_long(work: Work) -> str:
    said = f"{work.choice.route}: took longer than {work.timeout_s:g} s"
    if work.blocked_at:
        said += (
            f" and blocked the event loop at {work.blocked_at}: write it as a plain def, "
            "or call what blocks by asyncio.to_thread"
        )
    return said


async def _end(work: Work, place: HandlersLoop) -> None:
    """Cancel a handler and wait until it has really ended, whoever else asks for the end."""
    interrupted: asyncio.CancelledError | None = None
    while work.outcome is None:
        if work.ended.done():  # Its time was up, or who waited for it was cancelled.
            work.ended = asyncio.get_running_loop().create_future()
        place.cancel(work)
        try:
            wait_s = min(max(work.timeout_s, 1), STILL_RUNNING_S)
            ends = (work.ended, place.let_go)
            await asyncio.wait(ends, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            interrupted = error
            continue
        if work.outcome is None:
            if place.let_go.done():
                log.warning("a handler is left running: it ends with us", route=work.choice.route)
                raise interrupted or asyncio.CancelledError
            log.warning("a handler is still running after its time", route=work.choice.route)
    if inspect.iscoroutine(work.outcome.value):
        work.outcome.value.close()  # Never begun; asyncio would report that nobody awaited it.
    if interrupted is not None:
        raise interrupted


def _read(choice: Choice, outcome: object, long_replies: LongReplies) -> tuple[Reply, ...]:
    several = isinstance(outcome, Sequence) and not isinstance(outcome, str | bytes | bytearray)
    parts = list(outcome) if several else [outcome]  # type: ignore[call-overload]
    replies = [_reply(choice, part) for part in parts if part is not None and part != ""]
    return tuple(piece for reply in replies for piece in _pieces(choice, reply, long_replies))


def _pieces(choice: Choice, reply: Reply, long_replies: LongReplies) -> list[Reply]:
    """Split a text that is too long for one message; pictures go with the first piece."""
    if len(reply.body) <= BODY_LIMIT:
        return [reply]
    if long_replies == "refuse":
        raise HandlerMisbehaved(
            f"{choice.route}: returned {len(reply.body)} characters, Twilio takes {BODY_LIMIT}; "
            "return a list of shorter texts, or set LONG_REPLIES=split"
        )
    first, *others = split(reply.body, BODY_LIMIT)
    return [Reply(first, reply.media), *map(Reply, others)]


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
    return reply


def _are_texts(values: object) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(value, str) and not HALF.search(value) for value in values
    )


def describe(error: BaseException) -> str:
    """Name an error and what it says, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
