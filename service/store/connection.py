"""Opens Redis and turns what redis-py raises into Parley's errors.

redis-py's own retries are off: a command whose connection broke may have run, and only the caller
knows whether running it twice is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.errors import StoreUnavailable

__all__ = ["Redis", "connect", "describe", "ping", "translated"]

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
"""Longest wait for one answer. Twilio gives a callback 15 s in all; a slower Redis is an outage."""


def connect(url: str, *, answer_timeout_s: float | None = ANSWER_TIMEOUT_S) -> Redis:
    """Make a client for `url` (redis://, rediss:// or unix://); nothing is sent yet."""
    client = Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=answer_timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    pool = client.connection_pool
    pool.connection_class = _with_fast_packing(pool.connection_class)
    return client


class _FastPacking:
    """Packs commands with hiredis; redis-py's own loop is a tenth of a busy door's CPU."""

    def pack_command(self, *args: Any) -> list[bytes]:
        words = args[0].split() if isinstance(args[0], str) else (args[0],)
        return [hiredis.pack_command((*words, *args[1:]))]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        return [piece for command in commands for piece in self.pack_command(*command)]


def _with_fast_packing(connection_class: type) -> type:
    return type(f"Packed{connection_class.__name__}", (_FastPacking, connection_class), {})


async def ping(client: Redis) -> None:
    """Ask Redis whether it is there. Raises StoreUnavailable."""
    with translated():
        await client.ping()


@contextmanager
def translated() -> Iterator[None]:
    """Raise StoreUnavailable for whatever redis-py or the socket raises inside."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"Redis: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """One line about an error, with its class where it has no text of its own."""
    return str(error) or type(error).__name__
