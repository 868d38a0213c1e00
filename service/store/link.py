"""One connection to Redis, kept: groups of commands follow one another on it, in order.

redis-py opens it (address, Sentinel, TLS, password, database) and hands it over. From then on a
group is written in one piece the moment it is sent, also while answers to earlier ones are under
way, and whoever sent it is told its answers from within the event loop's read. redis-py's
pipelines take a task, a connection of the pool and several turns of the loop for each group, and
Redis waits for all of them.

Used by `trips`, for one server or the master that Sentinel names; a Cluster has connections of its
own for every node. With a redis-py that was not tested, `PlainLink` uses its pipelines instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.store.client import Command

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOTHING = object()
"""What a reader returns while an answer is not whole."""

WhenAnswered = Callable[[Sequence[Any], Exception | None], None]
"""Told how a group ended: an answer for each command, Redis's errors among them; or the error that
kept it from an answer, after which the commands may have run nevertheless. Must not raise."""


class Link:
    """A connection of a client's kind. Made when it is first needed, and anew after it broke."""

    kept = True

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self._wire: _Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._early: list[tuple[Sequence[Command], WhenAnswered]] = []

    def send(self, commands: Sequence[Command], told: WhenAnswered) -> None:
        """Send commands in one piece, behind all that were sent before.

        told: called once, never from within this call unless a command can't be written at all.
        """
        if self._wire is not None and self._wire.usable:
            self._wire.send(commands, told)
            return
        self._early.append((commands, told))
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())

    def drop(self) -> None:
        """Close the connection; the next use opens it anew. What is under way fails."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.end(RedisConnectionError("the connection was given up under an earlier command"))

    async def aclose(self) -> None:
        """Close the connection."""
        if self._opening is not None:
            await self._opening
        self.drop()
        # Transports close in the next turn of the loop.
        await asyncio.sleep(0)

    async def _open(self) -> None:
        """Open the connection and send what waits for it."""
        failure: Exception | None = None
        try:
            connection = self._pool.make_connection()
            try:
                await connection.connect()
                self._wire = _Wire(connection)
            except BaseException:
                # It is nobody else's: no pool would ever close it.
                with suppress(RedisError, OSError):
                    await connection.disconnect(nowait=True)
                raise
        except Exception as error:  # noqa: BLE001  whoever waits has to hear of it, whatever it is
            failure = error
        self._opening = None
        early, self._early = self._early, []
        for commands, told in early:
            if failure is not None:
                told((), failure)
            else:
                self.send(commands, told)


class PlainLink:
    """The same by redis-py's own pipelines, one group after another."""

    kept = False

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._groups: deque[tuple[Sequence[Command], WhenAnswered]] = deque()
        self._sending: asyncio.Task[None] | None = None

    def send(self, commands: Sequence[Command], told: WhenAnswered) -> None:
        """Send commands behind all that were sent before; see `Link.send`."""
        self._groups.append((commands, told))
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    def drop(self) -> None:
        """Do nothing: the pool's idle connections are closed by `trips`."""

    async def aclose(self) -> None:
        """Wait for what was sent."""
        if self._sending is not None:
            await self._sending

    async def _send_all(self) -> None:
        while self._groups:
            commands, told = self._groups.popleft()
            pipeline = self._client.pipeline(transaction=False)
            answers: Sequence[Any] = ()
            failure: Exception | None = None
            try:
                for command in commands:
                    pipeline.execute_command(*command)
                answers = await pipeline.execute(raise_on_error=False)
            except Exception as error:  # noqa: BLE001  as for `Link._open`
                failure = error
            told(answers, failure)
        self._sending = None


class _Wire(asyncio.Protocol):
    """An open connection, taken over from redis-py.

    connection: connected, of a class made by `service.store.handover`.
    usable: it was neither closed nor given up.
    """

    def __init__(self, connection: Any) -> None:
        self.usable = True
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._owed: deque[tuple[int, WhenAnswered]] = deque()
        self._answers: list[Any] = []
        self._timeout_s: float | None = connection.socket_timeout
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self._transport, self._reader = connection.hand_over(self, NOTHING)

    def send(self, commands: Sequence[Command], told: WhenAnswered) -> None:
        """Write commands; see `Link.send`."""
        try:
            packed = b"".join(map(hiredis.pack_command, commands))
        except Exception as error:  # noqa: BLE001  as for `Link._open`
            told((), error)
            return
        if not self._owed:
            self._heard = self._loop.time()
            if self._timer is None and self._timeout_s is not None:
                self._timer = self._loop.call_later(self._timeout_s, self._look)
        self._owed.append((len(commands), told))
        self._transport.write(packed)

    def data_received(self, data: bytes) -> None:
        """Tell whoever is owed (asyncio)."""
        self._heard = self._loop.time()
        reader = self._reader
        try:
            reader.feed(data)
            while self.usable and (answer := reader.gets()) is not NOTHING:
                if not isinstance(answer, hiredis.PushNotification):
                    self._take(answer)
        except RedisError as error:  # no answer of Redis's protocol
            self.end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go (asyncio)."""
        self._connection.let_go(exc)
        self.end(RedisConnectionError(f"the connection was lost: {exc or 'closed by the server'}"))

    def end(self, error: Exception) -> None:
        """Close at once, and tell whoever is owed."""
        self.usable = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()
        while self._owed:
            self._owed.popleft()[1]((), error)

    def _take(self, answer: Any) -> None:
        if isinstance(answer, RedisConnectionError) or not self._owed:
            # Such as LOADING and NOAUTH: only a connection of its own finds out when it is over.
            self.end(answer if self._owed else RedisConnectionError("an answer to nothing"))
            return
        self._answers.append(answer)
        if len(self._answers) == self._owed[0][0]:
            answers, self._answers = self._answers, []
            self._owed.popleft()[1](answers, None)

    def _look(self) -> None:
        """Give up when nothing was heard for too long; one timer for all groups."""
        self._timer = None
        if not self._owed or self._timeout_s is None:
            return
        left_s = self._heard + self._timeout_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            self.end(RedisTimeoutError(f"no answer within {self._timeout_s:g} s"))
