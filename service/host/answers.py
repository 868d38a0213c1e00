"""Answers of a listener: made once, as ASGI messages and as bytes, and sent as they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

# ASGI's own types, as starlette and uvicorn write them.
Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

FieldLines = tuple[tuple[bytes, bytes], ...]

CLOSE: FieldLines = ((b"connection", b"close"),)
"""For answers given before the request was read: the rest of it is not worth reading."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    status: HTTP status. start, body: the two ASGI messages, never changed by whoever sends them.
    wire: all of it as HTTP/1.1 bytes. closes: it ends its connection.
    """

    status: int
    start: AsgiMessage
    body: AsgiMessage
    wire: bytes
    closes: bool

    async def send(self, send: Send) -> None:
        """Send it whole."""
        await send(self.start)
        await send(self.body)

    @property
    def last_wire(self) -> bytes:
        """The same bytes, saying that the connection ends with them."""
        if self.closes:
            return self.wire
        return self.wire.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)


def answer(
    status: int, body: bytes, content_type: bytes = b"text/plain", headers: FieldLines = ()
) -> Answer:
    """Make an answer with its Content-Type and Content-Length."""
    every = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%s: %s" % header for header in every]
    return Answer(
        status,
        {"type": "http.response.start", "status": status, "headers": every},
        {"type": "http.response.body", "body": body},
        b"\r\n".join((*lines, b"", body)),
        (b"connection", b"close") in headers,
    )


def unavailable(text: bytes, retry_after_s: int) -> Answer:
    """Make a 503 that says when to come back."""
    return answer(503, text, headers=((b"retry-after", b"%d" % retry_after_s),))


NOT_FOUND = answer(404, b"not found")
TOO_SLOW = answer(408, b"the body did not arrive in time", headers=CLOSE)
ALIVE = answer(200, b'{"status":"ok"}', b"application/json")


def not_allowed(*methods: str) -> Answer:
    """Make a 405 that names the methods there are."""
    return answer(405, b"method not allowed", headers=((b"allow", ", ".join(methods).encode()),))
