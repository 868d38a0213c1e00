"""The event loop of the handlers, in a thread of its own, and what happens when one blocks it.

The engine (the door, the leases, the senders) runs on another loop, which no handler can hold up.
A handler that blocks its loop holds up those beside it: it is told in the log while it does, and
whatever has not begun goes on on another loop. Handlers that had begun wait for the first to turn
again, or, if they have waited until their time was up, start anew elsewhere.

Called by `running`, on the engine's loop. What runs in the handlers' thread says so.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Self

import structlog

from service.handlers.places import line_of_stack
from service.handlers.steps import (
    CLOSE_S,
    RUN,
    CallResult,
    HandOver,
    Home,
    Run,
    StartAnew,
    Work,
)

log = structlog.get_logger()

TICK_S = 0.1
"""How often a loop at work is asked whether it turns."""

STANDS_TICKS = 4
"""Ticks without an answer after which it stands still: noticed within half a second. Ticks are
counted, not seconds: a process that was frozen as a whole has blocked nothing."""

LOOPS_LIMIT = 64
"""Loops there may be. Each one that stands still has code of an author's that blocks it."""


class HandlersLoop:
    """Runs handlers apart from the engine. Made on the engine's loop.

    executor: where a plain `def` runs. new_loop: makes the loop for `async def`.
    let_go: done once nobody waits any more for what can't be ended; see `let_go_of_all`.
    """

    def __init__(
        self,
        executor: Executor,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self._executor = executor
        self._engine = asyncio.get_running_loop()
        self.let_go: asyncio.Future[None] = self._engine.create_future()
        self._new_loop = new_loop
        self._lock = threading.Lock()
        self._finished = HandOver(self._engine, self._finish)
        self._homes: list[Home] = []
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def start(self, work: Work) -> None:
        """Call a work's code on a loop that turns."""
        home = self._turning()
        context = work.context.copy()  # Its own: an earlier start may still be inside the other.
        work.run = run = Run(work, home)
        context.run(RUN.set, run)
        home.runs.add(run)
        home.put((run, context))
        if self._timer is None:
            self._look_later()

    def start_thread(self, work: Work) -> None:
        """Call a work's code in a thread of the executor."""
        self._executor.submit(self._in_thread, work)

    def cancel(self, work: Work) -> None:
        """Ask a work to end; `ended` says when it has."""
        work.ending = True
        run = work.run
        if run is None:
            return  # A thread can't be stopped.
        if (not run.begun or run.home.standing) and self._drop(run):
            work.end(CallResult(error=asyncio.CancelledError()))
        elif run.begun:
            run.home.tell(partial(_cancel, run))

    def start_over(self, work: Work) -> bool:
        """Start a work anew whose time went by while another's code blocked its loop.

        Returns False if it had its time: its own code blocks the loop, or none does.
        """
        run = work.run
        if run is None or (run.begun and not run.home.standing) or not self._drop(run):
            return False
        self._elsewhere(work)
        return True

    def leave(self, work: Work) -> None:
        """Start anew whatever waits beside a work that has blocked its loop for all of its time."""
        home = work.run.home if work.run is not None else None
        if home is None or not home.standing or home.inside is not work.run:
            return
        for run in list(home.runs):
            if run is not work.run and self._drop(run):
                self._elsewhere(run.work)

    def let_go_of_all(self) -> None:
        """Wait no more for calls that can't be ended: the process is about to, and they with it."""
        if not self.let_go.done():
            self.let_go.set_result(None)

    async def aclose(self) -> None:
        """End the loops, and cancel what is left on them. A blocked one ends with the process."""
        if self._timer is not None:
            self._timer.cancel()
        for home in self._homes:
            home.close()
        ends = self._engine.time() + CLOSE_S
        while any(home.thread.is_alive() for home in self._homes) and self._engine.time() < ends:
            await asyncio.sleep(0.005)

    def _turning(self) -> Home:
        """Return the oldest loop that turns: to it belongs what handlers keep between texts."""
        for home in self._homes:
            if not home.standing:
                return home
        if len(self._homes) >= LOOPS_LIMIT:
            return self._homes[0]
        home = Home(self._new_loop(), self._lock, self._finished)
        self._homes.append(home)
        return home

    def _drop(self, run: Run) -> bool:
        """Part with a start, if no code of it runs now or ever will but its clean-up."""
        with self._lock:
            if run.over:
                return False
            if run.begun:
                if not run.home.stepping or run.home.inside is run:
                    return False
                # Cancelled when the step under way ends, before any other: see `Home._leave`.
                run.home.dropped += run.tasks
            run.over = run.dropped = True
        run.home.runs.discard(run)
        return True

    def _elsewhere(self, work: Work) -> None:
        begun = work.run is not None and work.run.begun
        if work.ending:
            work.end(CallResult(error=asyncio.CancelledError()))
            return
        if begun:
            log.warning("a handler starts anew on another event loop", route=work.choice.route)
            if work.once:
                work.end(CallResult(error=StartAnew()))
                return
        # Its own time, of which others took some; with no loop that turns, until it is asked again.
        work.deadline = self._engine.time() + work.timeout_s
        self.start(work)

    def _in_thread(self, work: Work) -> None:
        self._finished.put((work, work.context.run(_call, work.call)))

    def _finish(self, item: tuple[Work, CallResult]) -> None:
        work, outcome = item
        if work.run is not None:
            work.run.home.runs.discard(work.run)
        work.end(outcome)

    def _look(self) -> None:
        """Ask each loop at work whether it turns; tell of one that does not."""
        self._timer = None
        busy = False
        for home in list(self._homes):
            if home.answered == home.asked:
                if home.standing:
                    home.standing = False
                    stood_s = round(time.monotonic() - home.since, 1)
                    log.info("the handlers' event loop turns again", blocked_s=stood_s)
                home.since = time.monotonic()
                home.silent = 0
                if home.runs:
                    home.ask()
            else:
                home.silent += 1
                if home.silent == STANDS_TICKS:
                    self._stands(home)
            busy = busy or bool(home.runs) or home.standing
        if busy and self._timer is None:
            self._look_later()

    def _look_later(self) -> None:
        # In no message's context: its log lines would carry what that one's are bound to.
        self._timer = self._engine.call_later(TICK_S, self._look, context=contextvars.Context())

    def _stands(self, home: Home) -> None:
        home.standing = True
        run = home.inside
        work = run.work if run is not None else None
        frame = sys._current_frames().get(home.thread.ident or 0)  # noqa: SLF001  (documented)
        at = line_of_stack(frame, work.choice.handler if work else None)
        if work is not None:
            work.blocked_at = at
        log.warning(
            "a handler blocks the handlers' event loop",
            route=work.choice.route if work else "none: a callback or a task of an author's",
            at=at,
            advice="write it as a plain def, or call what blocks by asyncio.to_thread; "
            "other texts go on on another event loop",
        )
        for run in list(home.runs):
            if (run.work.ending or not run.begun) and self._drop(run):
                self._elsewhere(run.work)


def _call(call: Callable[[], object]) -> CallResult:
    try:
        return CallResult(call())
    except BaseException as error:  # noqa: BLE001  (as above)
        return CallResult(error=error)


def _cancel(run: Run) -> None:
    for task in run.tasks[:1]:
        task.cancel()
