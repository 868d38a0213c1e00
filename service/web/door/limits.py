"""For how long something may go on, and what it may cost. Used by the door."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Expiring(Protocol):
    """Something that may take too long. began: since when it goes on, time.monotonic()."""

    began: float

    def expire(self) -> None:
        """Its time is up. Called at most once, and not after its end."""


class Deadlines:
    """Ends what takes longer than `timeout_s`, with one timer for all of it.

    A timer of its own for each callback would be a twentieth of the door's CPU. The price is that a
    deadline is kept to a quarter: something expires after one to 1.25 times its time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._under_way: dict[Expiring, None] = {}  # In order, which a set has not.
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, what: Expiring) -> None:
        """Watch its time. Whoever begins it calls `end`, whatever happens."""
        self._under_way[what] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timeout_s / 4, self._look, loop)

    def end(self, what: Expiring) -> None:
        """End its time; it may have ended already."""
        self._under_way.pop(what, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        latest = time.monotonic() - self._timeout_s
        for what in [what for what in self._under_way if what.began <= latest]:
            del self._under_way[what]
            what.expire()
        again = self._timeout_s / 4
        self._timer = loop.call_later(again, self._look, loop) if self._under_way else None


class TaskDeadline:
    """Cancels a task whose time is up."""

    __slots__ = ("_task", "began", "expired")

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task
        self.began = time.monotonic()
        self.expired = False

    def expire(self) -> None:
        """Cancel the task; it calls `forgive` when it has noticed."""
        self.expired = True
        self._task.cancel()

    def forgive(self) -> bool:
        """Take the cancellation back; False when it was not ours."""
        if self.expired:
            self._task.uncancel()
        return self.expired


class CpuBudget:
    """Allows work a share of one CPU. What runs over its end is paid off before the next begins.

    share: seconds of work a second, above 0. Up to a second's worth may be saved.
    """

    __slots__ = ("_left_s", "_seen_s", "_share")

    def __init__(self, share: float) -> None:
        self._share = share
        self._left_s = share
        self._seen_s = 0.0

    def open(self, now_s: float) -> bool:
        """Tell whether work may begin. now_s: any clock that never runs backwards, seconds."""
        gained = (now_s - self._seen_s) * self._share
        self._seen_s = now_s
        self._left_s = min(self._share, self._left_s + gained)
        return self._left_s > 0

    def spend(self, seconds: float) -> None:
        """Take off what the work took."""
        self._left_s -= seconds
