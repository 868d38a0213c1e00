"""How often something may happen, and for how long. Used by the door."""

from __future__ import annotations

import asyncio


class Deadlines:
    """Cancels tasks that take longer than `timeout_s`, with one timer for all of them.

    A timer of its own for each callback would be a twentieth of the door's CPU. The price is that a
    deadline is kept to a quarter: a task is cancelled after one to 1.25 times its time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._began: dict[asyncio.Task[object], float] = {}
        self._expired: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[object]) -> None:
        """Start a task's time. The task calls `end`, whatever happens."""
        loop = task.get_loop()
        self._began[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s / 4, self._look, loop)

    def end(self, task: asyncio.Task[object]) -> bool:
        """End a task's time; True when it was cancelled for having taken too long."""
        self._began.pop(task, None)
        if task not in self._expired:
            return False
        self._expired.discard(task)
        task.uncancel()
        return True

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        latest = loop.time() - self._timeout_s
        for task, began in self._began.items():
            if began <= latest and task not in self._expired:
                self._expired.add(task)
                task.cancel()
        again = self._timeout_s / 4
        self._timer = loop.call_later(again, self._look, loop) if self._began else None


class TokenBucket:
    """Allows `per_s` a second on average and `burst` at once, and counts what it holds back.

    per_s: above 0. burst: 1 or more.
    """

    __slots__ = ("_burst", "_per_s", "_seen_s", "_tokens", "suppressed")

    def __init__(self, per_s: float = 1.0, burst: int = 1) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._seen_s = 0.0
        self.suppressed = 0

    def take(self, now_s: float) -> int | None:
        """Ask for one turn.

        now_s: any clock that never runs backwards, seconds.
        Returns how many were held back since the last turn given, or None to hold back this one.
        """
        gained = (now_s - self._seen_s) * self._per_s
        self._seen_s = now_s
        self._tokens = min(self._burst, self._tokens + gained)
        if self._tokens < 1:
            self.suppressed += 1
            return None
        self._tokens -= 1
        held_back, self.suppressed = self.suppressed, 0
        return held_back
