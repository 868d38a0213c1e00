"""redis-py's connections, made so that they are fast, found lost, and can be handed over to `link`.

This leans on what redis-py does not promise to keep, named in `tests/test_contracts.py`; with a
redis-py that was not tested `connection` leaves its connections as they are.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable
from typing import Any, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse


class _Writer:
    """A connection's writer, for which writing to a connection that was lost is an OSError.

    So it is for asyncio's own. uvloop's raises RuntimeError once the other side has reset the
    connection, which neither redis-py nor anybody else takes for a connection's end.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def writelines(self, pieces: Iterable[bytes]) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError(errno.ECONNRESET, "the connection was lost")
        self._writer.writelines(pieces)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class Handed:
    """What is added to redis-py's connections.

    Commands are packed with hiredis, as redis-py's own loop is a tenth of a busy door's CPU; a
    connection, once opened, can be handed over (see `link`); and one that was reset is found so.
    """

    _parser: Any
    _reader: Any
    _writer: Any
    _taken_over: asyncio.Protocol

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[misc]  # of the class that this is added to
        self._writer = _Writer(self._writer)

    async def can_read(self) -> bool:
        """Tell whether there is something to read, for the pool, which opens a lost one anew.

        Raises redis-py's ConnectionError for one that was lost. redis-py's own finds those alone
        that the other side has closed in peace.
        """
        if self._writer is not None and self._writer.is_closing():
            raise RedisConnectionError("the connection was lost")
        return bool(await super().can_read())  # type: ignore[misc]

    def pack_command(self, *args: Any) -> list[bytes]:
        """Write a command in Redis's protocol."""
        words = args[0].split() if isinstance(args[0], str) else (args[0],)
        return [hiredis.pack_command((*words, *args[1:]))]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Write several."""
        return [piece for command in commands for piece in self.pack_command(*command)]

    def hand_over(
        self, protocol: asyncio.Protocol, nothing: object
    ) -> tuple[asyncio.Transport, hiredis.Reader]:
        """Let `protocol` have all that arrives from now on.

        nothing: what the reader returned is to return while an answer is not whole.
        Raises redis-py's ConnectionError when it is lost already, of which nobody would tell.
        """
        transport: asyncio.Transport = self._writer.transport
        if transport.is_closing():
            raise RedisConnectionError("the connection was lost as soon as it was made")
        self._taken_over = cast("asyncio.Protocol", transport.get_protocol())
        transport.set_protocol(protocol)
        reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=self._parser.parse_error,
            notEnoughData=nothing,
        )
        return transport, reader

    def let_go(self, error: Exception | None) -> None:
        """Tell redis-py that the connection it handed over is lost."""
        self._taken_over.connection_lost(error)
        self._writer = self._reader = None


def made_ours(connection_class: type) -> type:
    """Make a class of connections that can be handed over out of one of redis-py's."""
    return type(f"Parley{connection_class.__name__}", (Handed, connection_class), {})
