"""One connection to Redis, kept: groups of commands follow one another on it, in order.

A group is written in one piece, and the next one may be written before its answers are there.
redis-py's pipelines take a connection from the pool and give it back for each group, which costs
a busy process more than sending the group does, and two of them at a time have no order.

Used by `batch`, for one server or the master that Sentinel names; a Cluster has connections of its
own for every node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Link:
    """A connection of a client's pool. Made when it is first needed, and anew after it broke."""

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self._connection: Any = None
        self._under_way = 0
        # asyncio's locks are fair: whoever has written first reads first.
        self._writing = asyncio.Lock()
        self._reading = asyncio.Lock()

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one piece; return an answer for each, Redis's errors among them.

        Raises RedisError, of which ConnectionError and TimeoutError are two, or OSError, when
        there is no connection or it breaks; then the commands may have run nevertheless.
        """
        async with self._writing:
            connection = await self._ready()
            self._under_way += 1
            try:
                await connection.send_packed_command(
                    connection.pack_commands(commands), check_health=False
                )
            except BaseException:
                self._under_way -= 1
                await self.drop(connection)
                raise
        try:
            async with self._reading:
                if connection is not self._connection:
                    raise RedisConnectionError("the connection broke under an earlier command")
                return [await _read(connection) for _ in commands]
        except BaseException:
            # Answers that are still to come would be taken for those of the next commands.
            await self.drop(connection)
            raise
        finally:
            self._under_way -= 1

    async def drop(self, connection: Any = None) -> None:
        """Close the connection, or the given one if it is still in use; the next use opens anew."""
        broken = self._connection
        if broken is None or (connection is not None and broken is not connection):
            return
        self._connection = None
        try:
            await broken.disconnect(nowait=True)
        finally:
            await self._pool.release(broken)

    async def _ready(self) -> Any:
        if self._connection is None:
            self._connection = await self._pool.get_connection()
        elif not self._under_way:
            # While it was idle the server may have closed it.
            try:
                await self._pool.ensure_connection(self._connection)
            except BaseException:
                await self.drop()
                raise
        return self._connection


async def _read(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
