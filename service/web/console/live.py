"""A page as it changes: server-sent events, each the part of the page that is new.

Source: the WHATWG's HTML standard, "Server-sent events"; htmx swaps an unnamed event into the page.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from service.errors import StoreUnavailable

EVERY_S = 2.0
"""Between two looks. The checks and figures take a few milliseconds of a process."""

SESSION_EVERY = 5
"""Looks between two at the session, which may have ended meanwhile: ten seconds."""

STREAMS_LIMIT = 30
"""Open live pages of one process; probes and pages share its hundred connections."""

SIGNED_OUT = "event: signed-out\ndata: -\n\n"
HEARTBEAT = ": nothing new\n\n"
"""Tells a connection that has died from one on which nothing happens."""


def event_of(html: str) -> str:
    """Write an event: each line of its data begins anew."""
    return "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"


class Streams:
    """Streams of live pages.

    ending: set when the process stops. every_s: seconds between two looks.
    """

    def __init__(self, ending: asyncio.Event, *, every_s: float = EVERY_S) -> None:
        self._ending = ending
        self._every_s = every_s
        self._open = 0

    def answer(
        self,
        render: Callable[[], Awaitable[str]],
        still_signed_in: Callable[[], Awaitable[bool]],
    ) -> StreamingResponse:
        """Answer with a stream; arguments as for that. Raises HTTPException beyond the limit."""
        if self._open >= STREAMS_LIMIT:
            raise HTTPException(503, "Too many live pages are open.", {"retry-after": "30"})
        return StreamingResponse(
            self.stream(render, still_signed_in),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )

    async def stream(
        self,
        render: Callable[[], Awaitable[str]],
        still_signed_in: Callable[[], Awaitable[bool]],
    ) -> AsyncIterator[str]:
        """Yield the part whenever it has changed, until the session ends or the process stops.

        render: makes the part of the page. still_signed_in: looks at the session, and does not
        count as being active in it.
        """
        self._open += 1
        try:
            last, looks = "", 0
            while not self._ending.is_set():
                if looks % SESSION_EVERY == 0 and not await _or_unknown(still_signed_in):
                    yield SIGNED_OUT
                    return
                looks += 1
                html = await render()
                yield event_of(html) if html != last else HEARTBEAT
                last = html
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await self._ending.wait()
        finally:
            self._open -= 1


async def _or_unknown(still_signed_in: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await still_signed_in()
    except StoreUnavailable:
        # Whoever watches wants to see just that.
        return True
