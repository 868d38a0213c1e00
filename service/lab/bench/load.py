"""Sends callbacks: at a fixed rate whatever the answers do, or as fast as answers come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from urllib.parse import urlsplit

from service.lab.bench.figures import Sent
from service.lab.bench.plan import Callback
from service.lab.http1 import Client, NoAnswer, NotSent

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
"""Twilio's limit."""

OPEN_LOOP_CONNECTIONS = 1000
"""Most callbacks under way at a fixed rate: a deployment that falls so far behind has failed."""

Progress = Callable[[Sent], None]


class Load:
    """Sends callbacks to one deployment.

    url: the address to send to. connections: most at once. progress: called for each answer.
    """

    def __init__(self, url: str, *, connections: int, progress: Progress) -> None:
        parts = urlsplit(url)
        self._target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._client = Client(url, connections=connections, connect_timeout_s=CONNECT_TIMEOUT_S)
        self._connections = connections
        self._progress = progress

    async def flat_out(self, callbacks: Sequence[Callback], until: float | None) -> list[Sent]:
        """Send over every connection, each callback when the one before it is answered.

        until: stop sending at that moment of the monotonic clock; None to send all.
        """
        sent: list[Sent] = []
        waiting = iter(callbacks)

        async def connection() -> None:
            sending = takewhile(lambda _: until is None or time.monotonic() < until, waiting)
            sent.extend([await self.send(each, time.monotonic()) for each in sending])

        await asyncio.gather(*(connection() for _ in range(min(self._connections, len(callbacks)))))
        return sent

    async def at_rate(self, callbacks: Sequence[Callback], moments: Sequence[float]) -> list[Sent]:
        """Send each callback at its moment, in seconds from now, however many are unanswered."""
        begin = time.monotonic()
        sending = []
        for callback, moment in zip(callbacks, moments, strict=True):
            due = begin + moment
            if (left_s := due - time.monotonic()) > 0:
                await asyncio.sleep(left_s)
            sending.append(asyncio.create_task(self.send(callback, due)))
        return list(await asyncio.gather(*sending))

    async def send(self, callback: Callback, due: float) -> Sent:
        """Send one callback. Never raises for want of an answer: the status is then 0."""
        written = due
        status = 0

        def note() -> None:
            nonlocal written
            written = time.monotonic()

        with contextlib.suppress(NotSent, NoAnswer):
            answer = await self._client.request(
                "POST",
                self._target,
                callback.headers,
                callback.body,
                timeout_s=ANSWER_TIMEOUT_S,
                before_write=note,
            )
            status = answer.status
        sent = Sent(callback.kind, callback.marker, due, written, time.monotonic(), status)
        self._progress(sent)
        return sent

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
