"""A server whose connections follow a script: what a client makes of it is what is tested."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.present import present


class Talk:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.closed = asyncio.Event()
        """Set once the client's close has been read."""
        self.seen = b""
        """Every byte the client sent."""

    async def request(self) -> bytes:
        """Read one request, its body included; raises IncompleteReadError at the client's close."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.seen += getattr(error, "partial", b"")
            self.closed.set()
            raise
        self.seen += head + body
        return head + body

    async def until_closed(self) -> None:
        """Read on until the client closes."""
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                self.seen += data
        self.closed.set()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    def close(self) -> None:
        """Close in good order."""
        self.writer.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class Server:
    """A listener that follows a script, one `Talk` per connection."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.origin = f"{scheme}://127.0.0.1:{port}"
        self.talks: list[Talk] = []


Script = Callable[[Talk], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Run a server whose every connection follows the script."""
    tasks = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(present(asyncio.current_task()))
        talk = Talk(reader, writer)
        server.talks.append(talk)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(talk)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    server = Server(listener.sockets[0].getsockname()[1], scheme)
    try:
        yield server
    finally:
        listener.close()
        for talk in server.talks:
            talk.writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
        await asyncio.sleep(0.01)


def answering(*answers: bytes) -> Script:
    """Answer each request of a connection with the next of these, the last one again and again."""

    async def script(talk: Talk) -> None:
        for count in range(1000):
            await talk.request()
            talk.write(answers[min(count, len(answers) - 1)])

    return script


async def closing_after(talk: Talk, answer: bytes) -> None:
    """Answer one request and close."""
    await talk.request()
    talk.write(answer)
    talk.close()
