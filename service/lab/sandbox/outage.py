"""What trouble does to a call of the platform's; a send is counted, so `messages` does its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import Response

from service.lab.sandbox.answers import Refused, Unanswered, without_body
from service.lab.sandbox.trouble import Trouble, Where


def get_in_the_way(trouble: Trouble) -> None:
    """Refuse a call that trouble keeps from being served. Raises Refused: status 0 for a hang."""
    if trouble.hang:
        raise Refused(0, "trouble: no answer")
    if trouble.status:
        text = f"trouble: {trouble.status}"
        raise Refused(trouble.status, text, retry_after_s=trouble.retry_after_s)


async def serve_in(trouble: Trouble, serve: Callable[[], Awaitable[Response]]) -> Response:
    """Serve a call late, not at all, or without an answer.

    Raises Refused, after the latency like any answer: by trouble (status 0 for a hang), or by
    `serve`.
    """
    try:
        get_in_the_way(trouble)
        await asyncio.sleep(trouble.delay_ms / 1000)
        answer = await serve()
    finally:
        await asyncio.sleep(trouble.latency_ms / 1000)
    if trouble.reset:
        return Unanswered("reset")
    return without_body(answer) if trouble.empty else answer


def name_of(path: str) -> Where:
    """Name what is called, for `Trouble.take`. path: a route's, below the platform's base."""
    first = path.split("/")[1]
    if first in {"instances", "elements"}:
        return "instances"
    return "log" if first in {"messages", "hubs"} and not path.endswith("/ping") else "all"
