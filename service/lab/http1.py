"""The lab's load generator: a small HTTP/1.1 client with kept-alive connections and one deadline.

A callback costs it a third of what aiohttp takes, and a fifth of httpx over aiohttp: with those,
`parley bench` would measure its own client instead of the door. httptools reads the answers. No
redirects, no cookies, no proxies, no decompression.
"""

from __future__ import annotations

import asyncio
import re
import select
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

IDLE_LIMIT_S = 30.0
"""An idle connection older than this is not used again: usual servers close after 60 s, and a
request that crosses their close would be in doubt."""

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
"""Most bytes read of one answer, its head included."""

NO_ORIGIN = "an origin is http:// or https://, a host, and a port or none"

_NO_HEADER = re.compile(r"[\r\n\0]|[^\x00-\xff]")
_NO_TARGET = re.compile(r"[^!-~]")


class NotSent(Exception):
    """Nothing reached the other side: no connection, or none free in time."""


class NoAnswer(Exception):
    """The request was sent, or may have been, and no whole answer came back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. headers: names in lower case, the last of a repeated name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Requests to one origin.

    origin: "http://host:port" or "https://host"; a path in it is ignored.
    connections: most requests at once; further ones wait. connect_timeout_s: for one connection.
    tls: for https, instead of the system's trusted authorities.
    Raises ValueError when origin is none.
    """

    def __init__(
        self,
        origin: str,
        *,
        connections: int,
        connect_timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        try:
            parts = urlsplit(origin)
            port = parts.port
        except ValueError:  # whose text may quote a password
            raise ValueError(NO_ORIGIN) from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(NO_ORIGIN)
        self._host = parts.hostname
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._port = port or (443 if self._tls else 80)
        self._host_header = parts.netloc.rpartition("@")[2]
        self._connect_timeout_s = connect_timeout_s
        self._free = asyncio.Semaphore(connections)
        self._idle: deque[_Connection] = deque()
        self._closed = False

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        timeout_s: float,
        before_write: Callable[[], None] | None = None,
    ) -> Answer:
        """Send one request and return its answer, of whatever status.

        method: any but HEAD, whose answers end otherwise.
        target: path and query, already encoded. headers: without Host and Content-Length.
        timeout_s: for all of it. before_write: called just before the bytes leave; what it raises
            ends the request unsent.
        Raises NotSent or NoAnswer; ValueError, before anything is sent, when the target or a
            header would break out of its line.
        """
        if _NO_TARGET.search(target):
            raise ValueError(
                "the target has a blank, a control character or a letter beyond ASCII in it"
            )
        if any(map(_NO_HEADER.search, (*headers, *headers.values()))):
            raise ValueError("a header has a line break or a letter beyond Latin-1 in it")
        head = [f"{method} {target} HTTP/1.1", f"Host: {self._host_header}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        if body or method in {"POST", "PUT", "PATCH"}:
            head.append(f"Content-Length: {len(body)}")
        raw = "\r\n".join((*head, "", "")).encode("latin-1") + body
        sent = False
        try:
            async with asyncio.timeout(timeout_s), self._free:
                connection = await self._connection()
                try:
                    if before_write is not None:
                        before_write()
                    sent = True
                    answer = await connection.exchange(raw)
                except BaseException:
                    connection.abort()
                    raise
                self._keep(connection)
                return answer
        except TimeoutError as error:
            text = f"no answer within {timeout_s:g} s"
            raise (NoAnswer(text) if sent else NotSent(f"no connection, {text}")) from error

    async def aclose(self) -> None:
        """Close idle connections; those in use close when their request ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()
        # Transports close in the next turn of the loop.
        await asyncio.sleep(0)

    async def _connection(self) -> _Connection:
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if connection.fresh(loop.time()):
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    _Connection, self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            where = f"{self._host}:{self._port}"
            raise NotSent(f"no connection to {where} in {self._connect_timeout_s:g} s") from error
        except OSError as error:
            raise NotSent(f"no connection to {self._host}:{self._port}: {error}") from error
        return connection

    def _keep(self, connection: _Connection) -> None:
        if connection.usable and not self._closed:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.abort()


class _Connection(asyncio.Protocol):
    """One connection: one exchange at a time."""

    def __init__(self) -> None:
        self.usable = True
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._arrivals = select.poll()
        self._begin()

    async def exchange(self, raw: bytes) -> Answer:
        """Write a request and wait for its answer. Raises NoAnswer."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise NotSent("the connection was closed before the request")
        self._waiting = asyncio.get_running_loop().create_future()
        self._begin()
        transport.write(raw)
        return await self._waiting

    def fresh(self, now: float) -> bool:
        """Tell whether an idle connection can take another request. now: the loop's time.

        The kernel is asked as well: a close or stray bytes that have arrived and that the loop has
        not brought us yet would put the next request in doubt.
        """
        if not self.usable or now - self.idle_since >= IDLE_LIMIT_S:
            return False
        return not self._arrivals.poll(0)

    def abort(self) -> None:
        """Close at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (asyncio)."""
        # uvloop's transports are not asyncio's classes, they only behave like them.
        self._transport = cast("asyncio.Transport", transport)
        self._arrivals.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Feed the parser (asyncio)."""
        if self._waiting is None or self._waiting.done():
            # More than was asked for: whatever follows could be taken for the next answer.
            self.abort()
            return
        self._received += len(data)
        if self._received > ANSWER_LIMIT_BYTES:
            self._fail(f"the answer is longer than {ANSWER_LIMIT_BYTES} bytes")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.usable = False
            self._fail(f"malformed answer: {error}")
        except httptools.HttpParserUpgrade:
            self.usable = False
            self._fail("the connection was upgraded unasked")

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange (asyncio)."""
        self.usable = False
        if self._until_close and self._in_body and exc is None:
            self.on_message_complete()
        self._fail(f"the connection was lost: {exc or 'closed by the other side'}")

    def on_message_begin(self) -> None:
        """Notice bytes behind a whole answer: they belong to no request (httptools)."""
        if self._waiting is not None and self._waiting.done():
            self.usable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header (httptools)."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Learn how the body ends (httptools)."""
        self._in_body = True
        chunked = "chunked" in self._headers.get("transfer-encoding", "").lower()
        self._until_close = not chunked and "content-length" not in self._headers

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body (httptools)."""
        self._body += data

    def on_message_complete(self) -> None:
        """Hand the answer over (httptools)."""
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and its like announce the answer proper.
            self._headers.clear()
            self._in_body = False
            return
        self.usable = self.usable and self._parser.should_keep_alive()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Answer(status, self._headers, bytes(self._body)))

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._received = 0
        self._in_body = False
        self._until_close = False

    def _fail(self, text: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(NoAnswer(text))
