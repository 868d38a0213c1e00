"""Conversation queues: one entry of a conversation at a time, in order; conversations side by side.

Both halves of a worker use it: handling (messages) and sending (replies). Each conversation whose
entry is under way has a lane, which is a task. There are only so many lanes; whatever waits, for a
lane, for its time or for the entry before it, stands in the `Line` and is no task. An entry that
waits for its time has no lane, so that the conversations behind it find one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from service.model import Conversation, EntryId
from service.workers.line import Line

WIDTH = 64
"""Lanes of one partition, some 4 kB each. No fewer than there are slots to work in, as one
partition may have all the work."""


class Lanes:
    """Runs `work` on entries, one at a time per conversation.

    work: brings an entry as far as it can. Returns None when it is finished for good, else when to
        begin with it again (time.monotonic): its conversation waits until then, the others don't.
        Waits in between, for what all entries wait for, are `pausing`. What it raises ends every
        lane and is handed to `failed`, once.
    width: lanes there are.
    """

    def __init__(
        self,
        work: Callable[[EntryId], Awaitable[float | None]],
        failed: Callable[[BaseException], None],
        width: int = WIDTH,
    ) -> None:
        self._work = work
        self._failed = failed
        self._width = width
        self._line = Line()
        self._tasks: dict[int, asyncio.Task[float | None]] = {}
        self._pausing: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pending(self) -> int:
        """Entries that wait or are under way."""
        return len(self._tasks) + len(self._line)

    def put(self, conversation: Conversation, entry: EntryId, due: float = 0) -> bool:
        """Queue an entry behind the conversation's others; ignored once closed (Redis keeps it).

        due: when it may begin (time.monotonic); whichever has been due longest begins first.
        Returns whether it begins as soon as there is a lane for it.
        """
        if self._closed:
            return False
        key = hash(conversation)
        if key in self._tasks or key in self._line:
            self._line.add(key, entry, due, head=False)
            return False
        ripe = due <= time.monotonic()
        if ripe and len(self._tasks) < self._width:
            self._start(key, entry)
        else:
            self._line.add(key, entry, due, head=True)
            self._fill()
        return ripe

    def idle(self, conversation: Conversation) -> bool:
        """Tell whether the conversation has nothing queued or under way."""
        key = hash(conversation)
        return not self._closed and key not in self._tasks and key not in self._line

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Mark what an entry's work awaits inside as a mere wait, which nobody stays for.

        A close ends it at once, and so does entering it after one. Inside, nothing may be begun
        that must not be broken off.
        """
        if self._closed:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (work runs in a lane's task)
        self._pausing.add(task)
        try:
            yield
        finally:
            self._pausing.discard(task)

    async def close(self, grace_s: float) -> None:
        """Start nothing new; end waits; give what is under way `grace_s` seconds, then cancel it.

        Returns when nothing runs any more, however long a cancelled entry takes to end.
        """
        self._closed = True
        self._set_timer(None)
        for task in self._pausing:
            task.cancel()
        if self._tasks and grace_s > 0:
            await asyncio.wait(self._tasks.values(), timeout=grace_s)
        for task in self._tasks.values():
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        self._line.close()

    def _start(self, key: int, entry: EntryId) -> None:
        task = asyncio.get_running_loop().create_task(self._run(entry))
        self._tasks[key] = task
        task.add_done_callback(lambda task: self._ended(key, entry, task))

    async def _run(self, entry: EntryId) -> float | None:
        return None if self._closed else await self._work(entry)

    def _ended(self, key: int, entry: EntryId, task: asyncio.Task[float | None]) -> None:
        """Free a lane; its conversation waits, or goes on with its next entry.

        Here and not in the task, so that nobody finds the conversation in the line and in a lane.
        """
        del self._tasks[key]
        if task.cancelled():
            if not self._closed:
                self._fail(RuntimeError("an entry's work was cancelled by nobody here"))
            return
        if (error := task.exception()) is not None:
            if not self._closed:
                self._fail(error)
            return
        due = task.result()
        if due is None:
            self._line.promote(key)
        else:
            self._line.add(key, entry, due, head=True)
        self._fill()

    def _fail(self, error: BaseException) -> None:
        self._closed = True  # Nothing may overtake this entry.
        self._failed(error)

    def _fill(self) -> None:
        """Begin with what is due while there are lanes; come again when the next entry is."""
        due = None
        while not self._closed and len(self._tasks) < self._width:
            found = self._line.take(time.monotonic())
            if not isinstance(found, tuple):
                due = found
                break
            self._start(*found)
        self._set_timer(due)

    def _set_timer(self, due: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            wait_s = max(0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._fill)


@asynccontextmanager
async def held(slots: asyncio.Semaphore, lanes: Lanes) -> AsyncIterator[None]:
    """Hold one of the slots; to wait for it is to pause."""
    if slots.locked():
        with lanes.pausing():
            await slots.acquire()
    else:
        await slots.acquire()
    try:
        yield
    finally:
        slots.release()
