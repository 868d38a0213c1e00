"""Server-sent events for the phone page.

Source: the HTML Standard, 9.2 "Server-sent events".
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec

EVENTS_KEPT = 2_000
"""Events a page that lost its connection can still catch up on."""

PAGES = 50
"""Pages that may listen at once."""

RETRY_MS = 1_000
"""How long a browser waits before it connects again."""


class Feed:
    """Events, and a short memory of them for pages that reconnect.

    An event's id is `<run>.<number>`, so that a page connected to an earlier run of the sandbox
    does not take this run's events for ones it has seen. A page reads `/sandbox/threads` whenever
    it connects; what is older than the memory reaches it there.
    """

    def __init__(self) -> None:
        self.run = secrets.token_hex(4)
        self._last = 0
        # Encoded only when a page reads them: load tests send thousands a second, unwatched.
        self._recent: deque[tuple[int, str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._listeners: set[asyncio.Event] = set()

    @property
    def full(self) -> bool:
        """Whether as many pages listen as may."""
        return len(self._listeners) >= PAGES

    def publish(self, kind: str, payload: Any) -> None:
        """Tell every page. payload: anything msgspec encodes; may change until it is read."""
        self._last += 1
        self._recent.append((self._last, kind, payload))
        for listener in self._listeners:
            listener.set()

    async def follow(self, last_event_id: str, heartbeat_s: float) -> AsyncIterator[bytes]:
        """Yield the events after one, and a comment when all is quiet.

        last_event_id: as the browser gives it back, "" the first time.
        """
        after = self._resume(last_event_id)
        listener = asyncio.Event()
        self._listeners.add(listener)
        try:
            yield b"retry: %d\n\n" % RETRY_MS
            while True:
                listener.clear()
                missed = [event for event in self._recent if event[0] > after]
                if missed:
                    after = missed[-1][0]
                    yield b"".join(self._encode(*event) for event in missed)
                    continue
                try:
                    async with asyncio.timeout(heartbeat_s):
                        await listener.wait()
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._listeners.discard(listener)

    def _resume(self, last_event_id: str) -> int:
        """Return the number to go on after: the page's own, else that of the newest event."""
        run, _, number = last_event_id.partition(".")
        known = run == self.run and re.fullmatch(r"[0-9]{1,18}", number) is not None
        return min(int(number), self._last) if known else self._last

    def _encode(self, number: int, kind: str, payload: Any) -> bytes:
        data = msgspec.json.encode(payload)
        return b"id: %b.%d\nevent: %b\ndata: %b\n\n" % (
            self.run.encode(),
            number,
            kind.encode(),
            data,
        )
