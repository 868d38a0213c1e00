"""Conversation queues: one item of a conversation at a time, in order; conversations side by side.

Both halves of a worker use it: handling (messages) and sending (replies). A lane's task lives only
while its conversation has items, so an idle partition costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, TypeVar

from service.model import Conversation

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """Runs `work` on items, one at a time per conversation.

    work: finishes an item for good, waits between its attempts included, each of them `pausing`.
        What it raises ends every lane and is handed to `failed`, once.
    """

    def __init__(
        self,
        work: Callable[[Conversation, Item], Awaitable[None]],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._work = work
        self._failed = failed
        self._queues: dict[Conversation, deque[Item]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pausing: set[asyncio.Task[None]] = set()
        self._closed = False
        self.pending = 0

    def put(self, conversation: Conversation, item: Item) -> None:
        """Queue an item behind the conversation's others; ignored once closed (Redis keeps it)."""
        if self._closed:
            return
        self.pending += 1
        queue = self._queues.get(conversation)
        if queue is not None:
            queue.append(item)
            return
        self._queues[conversation] = deque((item,))
        task = asyncio.get_running_loop().create_task(self._run(conversation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def idle(self, conversation: Conversation) -> bool:
        """Tell whether the conversation has nothing queued or under way."""
        return conversation not in self._queues

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Mark what an item's work awaits inside as a mere wait, which nobody stays for.

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

        Returns when nothing runs any more, however long a cancelled item takes to end.
        """
        self._closed = True
        for task in self._pausing:
            task.cancel()
        if self._tasks and grace_s > 0:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, conversation: Conversation) -> None:
        queue = self._queues[conversation]
        try:
            while queue and not self._closed:
                await self._work(conversation, queue[0])
                queue.popleft()
                self.pending -= 1
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  (handed on: the owner decides)
            self._closed = True  # Before the owner hears of it, nothing may overtake this item.
            self._failed(error)
        finally:
            self.pending -= len(queue)
            del self._queues[conversation]


@asynccontextmanager
async def held(slots: asyncio.Semaphore, lanes: Lanes[Any]) -> AsyncIterator[None]:
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
