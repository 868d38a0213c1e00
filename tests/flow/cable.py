"""A cable between a process and Redis, and what befalls cables: cut, slow, silent, and reset."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from types import TracebackType
from typing import Self

THERE = "to Redis"
BACK = "from Redis"
BOTH_WAYS = (THERE, BACK)

AT_ONCE_BY_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends RST instead of FIN."""


class Cable:
    """Relays TCP from a loopback port of its own to another, on a thread of its own.

    Nothing is closed by a cut. What either side sends, its goodbyes too, comes through when the
    cable is mended, though the other side may have given up on it long before.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        self._silent: frozenset[str] = frozenset()
        self._delay_s = 0.0
        self._relays: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._relay, "127.0.0.1", 0), self._loop
        ).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Redis at the other end, as a REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Let nothing through from now on."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def slow_down(self, delay_s: float) -> None:
        """Let everything arrive so many seconds late from now on."""
        self._loop.call_soon_threadsafe(self._set, "_delay_s", delay_s)

    def silence(self, *ways: str) -> None:
        """Take what is sent these ways (THERE, BACK) and drop it, from now on.

        A connection that anything was lost of stays silent that way, also after `mend`, as what
        comes next would be nonsense: so does a firewall that has forgotten it.
        """
        self._loop.call_soon_threadsafe(self._set, "_silent", frozenset(ways))

    def reset(self) -> None:
        """Reset every connection there is, at both ends (RST); has happened on return."""
        asyncio.run_coroutine_threadsafe(self._reset_all(), self._loop).result(10)

    def mend(self) -> None:
        """Let everything through at once, what has been waiting first."""
        self.slow_down(0)
        self.silence()
        self._loop.call_soon_threadsafe(self._whole.set)

    def _set(self, name: str, value: object) -> None:
        setattr(self, name, value)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ends = self._relays[task] = [writer]
        try:
            await self._whole.wait()
            there = await asyncio.open_connection("127.0.0.1", self.target_port)
            ends.append(there[1])
            await asyncio.gather(
                self._pump(reader, there[1], THERE), self._pump(there[0], writer, BACK)
            )
        except OSError:
            writer.close()
        finally:
            del self._relays[task]

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        lost = False
        try:
            while data := await reader.read(65_536):
                await asyncio.sleep(self._delay_s)
                await self._whole.wait()
                lost = lost or way in self._silent
                if not lost:
                    writer.write(data)
                    await writer.drain()
            await self._whole.wait()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _reset_all(self) -> None:
        for ends in list(self._relays.values()):
            for writer in ends:
                if writer.transport.is_closing():
                    continue
                end = writer.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE_BY_RESET)
                writer.transport.abort()
        # Transports close in the next turn of the loop.
        await asyncio.sleep(0)

    async def _end(self) -> None:
        self._server.close()
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
