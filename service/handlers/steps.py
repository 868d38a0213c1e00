"""A thread and the event loop it turns, step by step of an author's code. Used by `loop` alone."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from types import coroutine
from typing import Any, Generic, TypeVar, cast

import structlog

from service.core.causes import kind_of
from service.handlers.router import Choice
from service.handlers.threads import DaemonThreads

log = structlog.get_logger()

T = TypeVar("T")

CLOSE_S = 1.0
"""What tasks that handlers left behind get at the end to be cancelled."""

THREADS = min(32, (os.cpu_count() or 1) + 4)
"""Threads of a loop for `asyncio.to_thread`, as many as asyncio's own would be."""

DROPPED_AWAITS = 100
"""Awaits that a dropped start is refused, one after another, before it is closed for good."""


class StartAnew(Exception):
    """A start was dropped and can't be repeated on its own: the handler is to be called again."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a handler returned or raised.

    Held as a value: as an exception, SystemExit would end the event loop, and StopIteration is
    more than a future can hold.
    """

    value: object = None
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class Work:
    """A call of an author's code under way.

    outcome: once it has ended. ended: done then, on the engine's loop, or when somebody waits no
        more; then another takes its place.
    deadline: of the engine's clock. timeout_s: what each start gets.
    expired: whether the lease may have run out, so that no further step may be taken.
    once: it can't be called again. ending: it has been asked to end.
    cut: it was cancelled as the lease may have run out.
    blocked_at: the line that blocks its loop, once one was seen to.
    run: its present start on a handlers' loop; None in a thread.
    """

    choice: Choice
    ended: asyncio.Future[None]
    deadline: float
    timeout_s: float
    context: contextvars.Context
    expired: Callable[[], bool]
    call: Callable[[], object]
    once: bool = False
    ending: bool = False
    cut: bool = False
    outcome: CallResult | None = None
    blocked_at: str = ""
    run: Run | None = None

    def end(self, outcome: CallResult) -> None:
        """Note the outcome, and tell who waits for it."""
        self.outcome = outcome
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass(slots=True, eq=False)
class Run:
    """One start of a work on a loop.

    over: it has ended, or its outcome is wanted no more. dropped: its handler starts anew, so no
        more of it may run than its clean-up. tasks: its own, and those it began.
    """

    work: Work
    home: Home
    begun: bool = False
    over: bool = False
    dropped: bool = False
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)


RUN: contextvars.ContextVar[Run | None] = contextvars.ContextVar("parley_run", default=None)
"""Whose task it is: tasks that a handler begins inherit it."""


class Home:
    """A thread and the event loop it turns.

    runs, standing, asked, silent, since: the engine's. inside: whose step is under way, in so far
    as it is a handler's; stepping: whether one is; dropped: what to cancel when it ends; these and
    what is in a `Run` change under the lock.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lock: threading.Lock,
        finished: HandOver[tuple[Work, CallResult]],
    ) -> None:
        self.runs: set[Run] = set()
        self.standing = False
        self.asked = self.answered = self.silent = 0
        self.since = 0.0
        self.inside: Run | None = None
        self.stepping = False
        self.dropped: list[asyncio.Task[Any]] = []
        self._loop = loop
        self._lock = lock
        self._finished = finished
        self._closed = False
        self.put = HandOver(loop, self._begin).put
        loop.set_task_factory(self._make_task)
        loop.set_exception_handler(_tell_of_uncaught)
        # Asyncio's own threads are waited for when Python ends, for ever if one hangs.
        loop.set_default_executor(DaemonThreads(THREADS, "handler's own"))
        self.thread = threading.Thread(target=self._turn, name="handlers", daemon=True)
        self.thread.start()

    def ask(self) -> None:
        """Ask whether the loop turns."""
        self.asked += 1
        self.tell(self._answer)

    def tell(self, callback: Callable[[], object]) -> None:
        """Have something called in the handlers' thread."""
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            self._loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """End the loop at its next turn."""
        self._closed = True
        self.tell(self._loop.stop)

    # From here on, in the handlers' thread.

    def _answer(self) -> None:
        self.answered = self.asked

    def _turn(self) -> None:
        while not self._closed:
            try:
                self._loop.run_forever()
            except BaseException as error:  # noqa: BLE001  (SystemExit of a task of an author's)
                log.error("a task in the handlers' event loop tried to end it", **kind_of(error))
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(BaseException):
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=CLOSE_S))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _begin(self, item: tuple[Run, contextvars.Context]) -> None:
        run, context = item
        if not run.over:
            task = asyncio.Task(self._run(run), loop=self._loop, context=context)
            run.tasks.append(task)

    async def _run(self, run: Run) -> None:
        with self._lock:
            if run.over:
                return
            run.begun = True
        try:
            if run.work.expired():
                run.work.cut = True
                raise asyncio.CancelledError
            outcome = CallResult(await self._steps(run, _calling(run.work.call)))
        except BaseException as error:  # noqa: BLE001  (a handler may raise anything, SystemExit too)
            outcome = CallResult(error=error)
        with self._lock:
            dropped, run.over = run.over, True
            run.tasks.clear()
        if not dropped:  # Else it was started anew elsewhere, and this outcome is nobody's.
            self._finished.put((run.work, outcome))

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any
    ) -> asyncio.Task[Any]:
        if not asyncio.iscoroutine(work):
            raise TypeError(f"a coroutine was expected, got {work!r}")
        context = options.get("context")
        run = RUN.get() if context is None else context.get(RUN)
        watched: Any = self._watched(run, work)
        watched.__qualname__ = getattr(work, "__qualname__", "?")  # For asyncio's own complaints.
        task = asyncio.Task(watched, loop=loop, **options)
        if run is not None and not run.over:
            run.tasks.append(task)
        return task

    async def _watched(self, run: Run | None, work: Coroutine[Any, Any, T]) -> T:
        return cast("T", await self._steps(run, work))

    @coroutine
    def _steps(
        self, run: Run | None, work: Coroutine[Any, Any, object]
    ) -> Generator[Any, Any, object]:
        """Take the steps of a task one by one, so that it is known whose step is under way."""
        error: BaseException | None = None
        cut = False
        while True:
            if not cut and run is not None and run.begun and not run.over and run.work.expired():
                # Frozen longer than the lease, perhaps: another worker may have begun the message.
                cut = run.work.cut = True
                error = asyncio.CancelledError()
            outer = self._enter(run)
            try:
                if run is not None and run.dropped:
                    _refuse_all_awaits(work)
                awaited = work.send(None) if error is None else work.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                self._leave(outer)
            try:
                yield awaited
            except BaseException as raised:  # noqa: BLE001  (the task's, for the work to see)
                error = raised
            else:
                error = None

    def _enter(self, run: Run | None) -> tuple[bool, Run | None]:
        with self._lock:
            outer = self.stepping, self.inside
            self.stepping, self.inside = True, run
        return outer

    def _leave(self, outer: tuple[bool, Run | None]) -> None:
        with self._lock:
            self.stepping, self.inside = outer
            dropped, self.dropped = self.dropped, []
        for task in dropped:
            task.cancel()


def _refuse_all_awaits(work: Coroutine[Any, Any, object]) -> None:
    """End what was dropped within this step: each await of it, in its clean-up too, is cancelled.

    Else a handler that goes on after its cancellation would run on beside its new start.
    """
    for _ in range(DROPPED_AWAITS):
        work.throw(asyncio.CancelledError())
    with contextlib.suppress(RuntimeError):  # It awaits even so; it never goes on from there.
        work.close()
    raise asyncio.CancelledError


def _tell_of_uncaught(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of an error in a task or callback in the background, without what it says.

    Nobody knows which message it belongs to, and asyncio's own line quotes values.
    """
    error = context.get("exception")
    future = context.get("task", context.get("future"))
    task = (
        getattr(future.get_coro(), "__qualname__", "?")
        if isinstance(future, asyncio.Task)
        else None
    )
    known = kind_of(error) if error is not None else {}
    log.error("an error in the background of handlers was not caught", task=task, **known)


async def _calling(call: Callable[[], object]) -> object:
    return await cast("Awaitable[object]", call())


class HandOver(Generic[T]):
    """Hands items to another thread's event loop; many at once wake it once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[T], None]) -> None:
        self._loop = loop
        self._take = take
        self._items: deque[T] = deque()
        self._woken = False

    def put(self, item: T) -> None:
        """Hand over one item."""
        self._items.append(item)
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # Its loop is closed: nobody is there.
                self._loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        # Before the first is taken: what comes from here on wakes it again.
        self._woken = False
        while self._items:
            self._take(self._items.popleft())
