"""The long-lived tasks of a process: one that fails is told of and started anew.

None ends unnoticed. Pauses grow from one failure to the next. A task that keeps failing is given
up, and with it the process, which then ends in good order: somebody outside may start it anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from service.core.causes import cause_of
from service.core.pauses import Pauses
from service.errors import KeepsFailing

log = structlog.get_logger()

FAILURES = 10
"""Failures in a row after which a task is given up: a minute and a half of ever longer pauses."""

CANCELLED_S = 0.5
"""What a task that hangs gets to end once it is cancelled."""


@dataclass(slots=True)
class State:
    """How a task stands that has failed lately.

    answers: texts are not answered without it. failures: in a row. last: the last error's class.
    again: when it starts again, or has started (time.monotonic). running: whether it has.
    """

    answers: bool
    failures: int
    last: str
    again: float
    running: bool = False

    def __str__(self) -> str:
        times = "once" if self.failures == 1 else f"{self.failures} times"
        left_s = max(0.0, self.again - time.monotonic())
        now = "it runs again" if self.running else f"starts again in {left_s:.1f} s"
        return f"failed {times}, the last: {self.last}; {now}"


class Tasks:
    """Keeps the tasks of a process running.

    given_up: told once, with the reason, when one keeps failing: the process has to end.
    pauses: makes the pauses of one task.
    """

    def __init__(
        self,
        given_up: Callable[[KeepsFailing], None] = lambda _: None,
        pauses: Callable[[], Pauses] = Pauses,
    ) -> None:
        self._given_up = given_up
        self._pauses = pauses
        self._failed: dict[str, State] = {}

    @property
    def failed(self) -> Mapping[str, State]:
        """The tasks that are down, or were and have not run well for long enough since, by name."""
        well_since = time.monotonic() - self._pauses().healthy_s
        self._failed = {
            name: state
            for name, state in self._failed.items()
            if not (state.running and state.again < well_since)
        }
        return self._failed

    def start(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        stop: asyncio.Event | None = None,
        answers: bool = False,
        alone: bool = False,
    ) -> asyncio.Task[None]:
        """Begin to `keep` a task, and return what can be waited for or cancelled."""
        kept = self.keep(name, run, stop=stop, answers=answers, alone=alone)
        return asyncio.create_task(kept, name=name)

    async def keep(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        stop: asyncio.Event | None = None,
        answers: bool = False,
        alone: bool = False,
    ) -> None:
        """Await `run()`, anew whenever it raises, until it returns or is cancelled.

        Returns, too, once the task is given up, or when it fails after `stop` was set.
        A cancellation out of something inside `run`, when nobody cancelled this task, is a failure.
        name: shown in the log and at /readyz. stop: ends a pause.
        answers: texts are not answered without it. alone: it is one of many of its kind, which
            must not end with it: it is never given up.
        """
        pauses = self._pauses()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (whoever awaits this is one)
        while True:
            began = time.monotonic()
            try:
                await run()
            except BaseException as error:
                if _is_meant(error, task):
                    raise
                pause_s = pauses.after(time.monotonic() - began)
                if pauses.in_a_row >= FAILURES and not alone:
                    self._give_up(name, error, pauses.in_a_row)
                    return
                log.error(
                    "a task failed and is started again",
                    task=name,
                    **cause_of(error),
                    failures=pauses.in_a_row,
                    in_s=pause_s,
                    exc_info=error,
                )
                again = time.monotonic() + pause_s
                state = State(answers, pauses.in_a_row, type(error).__name__, again)
            else:
                self._failed.pop(name, None)
                return
            self._failed[name] = state
            try:
                if await paused(pause_s, stop):
                    del self._failed[name]
                    return
            except asyncio.CancelledError:
                self._failed.pop(name, None)
                raise
            state.running = True

    def _give_up(self, name: str, error: BaseException, failures: int) -> None:
        reason = KeepsFailing(f"{name} failed {failures} times in a row: {type(error).__name__}")
        log.error(
            "a task keeps failing: the process ends",
            task=name,
            **cause_of(error),
            failures=failures,
            exc_info=error,
        )
        self._given_up(reason)


def _is_meant(error: BaseException, task: asyncio.Task[Any]) -> bool:
    """Whether the task is to end by this: it was cancelled, or thrown away, or the process ends."""
    if isinstance(error, asyncio.CancelledError):
        return task.cancelling() > 0
    if isinstance(error, GeneratorExit):
        # Thrown away, it is not what runs; raised inside `run`, it is.
        with suppress(RuntimeError):
            return asyncio.current_task() is not task
        return True
    return isinstance(error, KeyboardInterrupt | SystemExit)


async def end_all(tasks: Collection[asyncio.Task[None]], within_s: float) -> bool:
    """Wait for tasks to end; after `within_s` cancel those that hang, say which, and go on.

    Returns whether all have ended.
    """
    if not tasks:
        return True
    _, hanging = await asyncio.wait(tasks, timeout=within_s)
    if not hanging:
        return True
    for task in hanging:
        task.cancel()
    _, left = await asyncio.wait(hanging, timeout=CANCELLED_S)
    log.error(
        "not everything stopped in time",
        cut_short=sorted(task.get_name() for task in hanging - left),
        left=sorted(task.get_name() for task in left),
    )
    return not left


async def paused(pause_s: float, stop: asyncio.Event | None) -> bool:
    """Pause; returns at once, and True, when `stop` is set."""
    if stop is None:
        await asyncio.sleep(pause_s)
        return False
    try:
        async with asyncio.timeout(pause_s):
            await stop.wait()
    except TimeoutError:
        return False
    return True
