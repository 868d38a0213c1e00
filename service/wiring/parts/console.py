"""The console of a process, which is built when somebody first asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from service.host.answers import AsgiApp, Receive, Scope, Send


class Console:
    """An ASGI application. build: makes it; called once, in a thread.

    A process that nobody looks at does without the library for templates and what goes with it, and
    callbacks do not wait while one that somebody looks at loads them.
    """

    def __init__(self, build: Callable[[], AsgiApp]) -> None:
        self._build = build
        self._building = asyncio.Lock()
        self._app: AsgiApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        async with self._building:
            if self._app is None:
                self._app = await asyncio.to_thread(self._build)
        await self._app(scope, receive, send)
