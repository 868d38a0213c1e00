"""How a process stops: when and why it is to, what everything gets for it, and in which order.

Whoever serves callers and handles texts ends first, by itself, within a grace. What watches is
cancelled then. The internal listener tells of all that, so it ends behind it, and Redis last.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import structlog

from service.errors import ParleyError
from service.workers.owner import POST_GRACE_S
from service.workers.supervised import end_all

log = structlog.get_logger()

STOP_GRACE_S = 7.0
"""What requests, handlers and POSTs under way get at a stop; container platforms give 10 s."""

LET_GO_S = 0.3
"""After that grace, what a handler gets to end once it has been cancelled."""

CUT_SHORT_S = 0.5
"""Behind all graces: what has not stopped by then is cancelled, and left if that does not help."""

PARTS_S = STOP_GRACE_S + LET_GO_S + POST_GRACE_S + CUT_SHORT_S
"""What the door and the worker get at a stop: the POST of a handler that took all of the grace has
one of its own behind it."""

CLOSE_S = 1.0
"""What each step of tidying up gets after that."""

FORCE_S = 6.0
"""Behind the grace: the process ends by force, such as with a thread of a handler that hangs."""

Close = Callable[[], Coroutine[Any, Any, None]]


class Stop:
    """Whether the process is to stop, and why if that is for something within it.

    told: set once it is to; from outside as well.
    """

    def __init__(self, told: asyncio.Event) -> None:
        self.told = told
        self._failures: list[ParleyError] = []

    def fail(self, reason: ParleyError) -> None:
        """Stop the process in good order; its `run` raises the reason behind that."""
        self._failures.append(reason)
        self.told.set()

    def raise_failure(self) -> None:
        """Raise the last reason given; nothing when there was none."""
        for reason in reversed(self._failures):
            raise reason


async def tidy_up(
    cancelled: Collection[asyncio.Task[None]],
    inside: Collection[asyncio.Task[None]],
    end_inside: asyncio.Event,
    *,
    closes: Collection[Close],
    disconnect: Close,
) -> bool:
    """End whatever is left, step by step; returns whether all of it has ended.

    cancelled: tasks that end by nothing else. inside: the internal listener's, which end once
        `end_inside` is set. closes: of what they used. disconnect: from Redis.
    """
    for task in cancelled:
        task.cancel()
    tidied = await end_all(cancelled, CLOSE_S)
    end_inside.set()
    closed = [asyncio.create_task(each(), name=each.__qualname__) for each in closes]
    tidied = await end_all((*inside, *closed), 2 * CLOSE_S) and tidied
    disconnected = asyncio.create_task(disconnect(), name="Redis")
    tidied = await end_all((disconnected,), CLOSE_S) and tidied
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    return await end_all(rest, CLOSE_S) and tidied


def end_by_force(after_s: float = STOP_GRACE_S + FORCE_S) -> None:
    """End the process after so long, whatever hangs by then: a thread keeps it from ending."""

    def end() -> None:
        log.error("Parley did not stop in time and ends by force", after_s=after_s)
        os._exit(1)

    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()
