"""What the store needs of a Redis, whichever it is: one server, Sentinel's master or a Cluster.

`Redis` has two implementations, `server.Server` and `plain_cluster.PlainCluster`, which `cluster`
makes faster. `connection.connect` chooses, and nothing else asks which it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from service.errors import StoreUnavailable
from service.store.failures import translated

if TYPE_CHECKING:
    from redis.asyncio.lock import Lock

    from service.store.reading import Reader
    from service.store.trips import Trips

ANSWER_TIMEOUT_S = 5.0
"""Longest wait for one answer. Twilio gives a callback 15 s in all; a slower Redis is an outage."""

PING_TIMEOUT_S = 2.0
"""Longest wait for a ping: a readiness check has to name Redis before whoever asks gives up."""

Command = tuple[Any, ...]
"""A command and its arguments: str, bytes or int."""

Execute = Callable[..., Awaitable[Any]]
"""Runs one command on one server."""

_Text = bytes | str
"""What redis-py calls text; for us always bytes, as nothing is decoded."""


class _Queued(Protocol):
    """What a pipeline is told, by redis-py's names."""

    def hgetall(self, name: str, /) -> object: ...
    def hlen(self, name: str, /) -> object: ...
    def hmget(self, name: str, keys: list[str], /) -> object: ...
    def xlen(self, name: str, /) -> object: ...
    def xrange(self, name: str, first: str, last: str, count: int, /) -> object: ...
    def xrevrange(self, name: str, *, count: int) -> object: ...


class Pipeline(_Queued, Protocol):
    """Commands that leave together; each node of a Cluster gets its own."""

    async def execute(self) -> list[Any]:
        """Return an answer for each. Raises what redis-py raises."""


class _Commands(Protocol):
    """Commands, by redis-py's names."""

    def delete(self, name: str, /) -> Awaitable[int]: ...
    def eval(self, script: str, keys: int, /, *keys_and_args: str | int) -> Awaitable[Any]: ...
    def get(self, name: str, /) -> Awaitable[_Text | None]: ...
    def hget(self, name: str, key: str, /) -> Awaitable[Any]: ...
    def hgetall(self, name: str, /) -> Awaitable[Any]: ...
    def mget(self, keys: list[str], /) -> Awaitable[list[_Text | None]]: ...
    def ping(self) -> Awaitable[bool]: ...
    def sadd(self, name: str, /, *values: str) -> Awaitable[int]: ...
    def set(self, name: str, value: str | int, *, nx: bool = ...) -> Awaitable[object]: ...
    def smembers(self, name: str, /) -> Awaitable[Any]: ...
    def time(self) -> Awaitable[tuple[int, int]]: ...
    def xdel(self, name: str, id_: str, /) -> Awaitable[int]: ...
    def xrange(
        self, name: str, first: str, last: str, count: int | None = ..., /
    ) -> Awaitable[Any]: ...
    def xrevrange(
        self, name: str, last: str, first: str, count: int | None = ..., /
    ) -> Awaitable[Any]: ...
    def zrange(self, name: str, start: int, end: int, /) -> Awaitable[Any]: ...
    def zrem(self, name: str, value: str, /) -> Awaitable[int]: ...


class Redis(_Commands, Protocol):
    """A Redis. Its commands are redis-py's and raise what redis-py raises, see `failures`.

    of_cluster: whether it is a whole Cluster, whose keys lie on several servers.
    """

    of_cluster: bool

    def trips(self) -> Trips:
        """Make what sends scripts to it."""

    def reader(self) -> Reader:
        """Make what waits for entries of its streams."""

    async def each_server(self) -> Sequence[Execute]:
        """Return what runs a command on each server that has keys."""

    def pipeline(self, *, transaction: bool) -> Pipeline:
        """Begin a pipeline; `transaction` is always False, as scripts are what is atomic here."""

    def lock(
        self,
        name: str,
        *,
        timeout: float,
        sleep: float,
        lock_class: type[Lock],
        thread_local: bool,
    ) -> Lock:
        """Make a lock; nothing is asked of Redis yet. timeout, sleep: seconds."""

    async def aclose(self) -> None:
        """Close every connection."""


async def ping(client: Redis) -> None:
    """Ask Redis whether it is there. Raises StoreUnavailable, within PING_TIMEOUT_S."""
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            with translated():
                await client.ping()
    except TimeoutError as error:
        raise StoreUnavailable(f"Redis: no answer within {PING_TIMEOUT_S:g} s") from error


async def clock_of(client: Redis) -> float:
    """Return what Redis's clock shows, seconds since the epoch. Raises StoreUnavailable.

    Of a Cluster, one node's; the nodes' clocks are taken to agree within a few seconds.
    """
    with translated():
        seconds, microseconds = await client.time()
    return int(seconds) + int(microseconds) / 1_000_000
