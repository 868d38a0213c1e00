"""Opens Redis and turns what redis-py raises into Parley's errors.

    redis://   rediss://   unix://                          one server, plain, by TLS, by socket
    redis+sentinel://host[:port],host[:port]/service[/db]   the master that Sentinel names
    redis+cluster://host[:port],host[:port]                 a Cluster, found by any of its nodes

All of them may carry `user:password@` and redis-py's options as a query; for Sentinel and Cluster
`tls=true` is rediss, and `sentinel_username`, `sentinel_password` are Sentinel's own.

redis-py's own retries are off: a command whose connection broke may have run, and only the caller
knows whether running it twice is harmless. A fail-over is survived nevertheless: commands fail
until the successor is known, and the next one goes there.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import hiredis
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from service.core.tested import REDIS
from service.errors import SettingsError, StoreUnavailable
from service.store.cluster import Cluster

__all__ = ["Redis", "clock_of", "connect", "describe", "ping", "translated"]

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
"""Longest wait for one answer. Twilio gives a callback 15 s in all; a slower Redis is an outage."""

PING_TIMEOUT_S = 2.0
"""Longest wait for a ping: a readiness check has to name Redis before whoever asks gives up."""

REDIS_PORT = 6379
SENTINEL_PORT = 26379

NODE_CONNECTIONS = 1000
"""Most connections to one node of a Cluster; the loops that use them have bounds of their own."""


def connect(
    url: str, *, answer_timeout_s: float | None = ANSWER_TIMEOUT_S, version: str | None = None
) -> Redis:
    """Make a client for `url`; nothing is sent yet.

    That of a Cluster is no `Redis`, but takes the commands the store uses all the same, in
    pipelines as well; `service.store.cluster.Cluster` tells it apart.
    answer_timeout_s: longest wait for an answer; None where a blocked read has its own.
    version: redis-py's, None for the one that is installed. Of one that was not tested the client
        of one server, and that of Sentinel, are redis-py's own; a Cluster's is ours all the same.
    Raises SettingsError for a malformed address.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": answer_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    scheme, _, rest = url.partition("://")
    made_ours = _made_ours if REDIS.covers(version) else _left_alone
    try:
        if scheme == "redis+cluster":
            return cast("Redis", _cluster(rest, options))
        if scheme == "redis+sentinel":
            return _master(rest, options, made_ours)
        client = Redis.from_url(url, **options)
        pool: Any = client.connection_pool
        pool.connection_class = made_ours(pool.connection_class)
        # Opens nothing, and finds the options that a connection can't be made with.
        pool.make_connection()
    except _Malformed as error:
        raise SettingsError([f"REDIS_URL {error}"]) from None
    except (TypeError, ValueError, RedisError, OSError) as error:
        # Neither in the text nor as its cause: what redis-py says may quote the address.
        raise SettingsError([f"REDIS_URL {_refused(url, str(error))}"]) from None
    return client


class _Malformed(ValueError):
    """An address that is none; the text quotes nothing of it."""


def _refused(url: str, said: str) -> str:
    """Say which options of an address redis-py named when it refused it."""
    names = [name for name, _ in parse_qsl(url.partition("?")[2])]
    named = [name for name in names if re.search(rf"\b{re.escape(name)}\b", said)]
    which = f", by its option {' or '.join(named)}" if named else ""
    return (
        f"can't be used{which}; such as redis://user:password@host:6379/0, "
        "with / ? # @ in a password written %2F %3F %23 %40"
    )


def _cluster(rest: str, options: dict[str, Any]) -> Cluster:
    hosts, given = _parse(rest, REDIS_PORT)
    if given.pop("db", 0):
        raise _Malformed("ends with a database, and a Cluster has none")
    tls = given.pop("connection_class", None) is SSLConnection
    client = Cluster(
        startup_nodes=[ClusterNode(host, port) for host, port in hosts],
        # Every slot's first redirection puts the table right; a look-up anew would cut what is
        # under way on every node.
        reinitialize_steps=0,
        max_connections=NODE_CONNECTIONS,
        ssl=tls,
        **options,
        **given,
    )
    ours = _made_ours(client.connection_kwargs["connection_class"])
    client.connection_kwargs["connection_class"] = ours
    for node in client.startup_nodes:
        node.connection_class = ours
    return client


def _master(rest: str, options: dict[str, Any], made_ours: Callable[[type], type]) -> Redis:
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    service, _, db = path.partition("/")
    if not service:
        raise _Malformed("names no service; Sentinel's end like this: host:26379/mymaster")
    hosts, given = _parse(f"{authority}/{db}?{query}", SENTINEL_PORT)
    tls = given.pop("connection_class", None) is SSLConnection
    of_sentinel = {
        name: given.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in given
    }
    if tls:
        of_sentinel |= {"ssl": True}
        of_sentinel |= {name: value for name, value in given.items() if name.startswith("ssl_")}
    sentinel: Any = Sentinel(
        hosts,
        sentinel_kwargs={
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": CONNECT_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
            **of_sentinel,
        },
    )
    for each in sentinel.sentinels:
        pool = each.connection_pool
        pool.connection_class = made_ours(pool.connection_class)
    managed = SentinelManagedSSLConnection if tls else SentinelManagedConnection
    return cast(
        "Redis",
        sentinel.master_for(
            service,
            redis_class=_ThroughSentinel,
            connection_class=made_ours(managed),
            **options,
            **given,
        ),
    )


def _parse(rest: str, port: int) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Read "[user:password@]host[:port],...[/db][?option=value&...]".

    Returns the hosts with their ports, and redis-py's options.
    """
    place, _, query = rest.partition("?")
    authority, _, db = place.partition("/")
    login, at, listed = authority.rpartition("@")
    options = dict(parse_qsl(query))
    scheme = "rediss" if options.pop("tls", "").lower() in {"true", "yes", "1"} else "redis"
    given: dict[str, Any] = {}
    hosts = []
    for each in listed.split(","):
        parsed: dict[str, Any] = dict(
            parse_url(f"{scheme}://{login}{at}{each.strip()}/{db}?{urlencode(options)}")
        )
        if not parsed.get("host"):
            raise _Malformed("lists a server without a name")
        hosts.append((parsed.pop("host"), parsed.pop("port", port)))
        given = parsed
    return hosts, given


class _ThroughSentinel(Redis):
    """Closes the connections to the Sentinels as well."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001
        pool = self.connection_pool
        await super().aclose(close_connection_pool)
        if isinstance(pool, SentinelConnectionPool):
            await pool.sentinel_manager.aclose()


async def start_over(client: Redis | Cluster) -> None:
    """Drop idle connections after READONLY: our server was demoted, its name leads elsewhere.

    A Cluster's nodes say so themselves, by MOVED.
    """
    if not isinstance(client, Cluster):
        await client.connection_pool.disconnect(inuse_connections=False)


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


class _Ours:
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
        words = args[0].split() if isinstance(args[0], str) else (args[0],)
        return [hiredis.pack_command((*words, *args[1:]))]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
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


def _made_ours(connection_class: type) -> type:
    return type(f"Parley{connection_class.__name__}", (_Ours, connection_class), {})


def _left_alone(connection_class: type) -> type:
    return connection_class


def is_ours(client: Redis) -> bool:
    """Tell whether the client's connections can be handed over."""
    connection_class: type = client.connection_pool.connection_class
    return issubclass(connection_class, _Ours)


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


@contextmanager
def translated() -> Iterator[None]:
    """Raise StoreUnavailable for whatever redis-py or the socket raises inside."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"Redis: {describe(error)}") from error
    except RuntimeError as error:
        # What uvloop raises for a connection that was reset, where `_Writer` is not in between.
        if "the handler is closed" not in str(error):
            raise
        raise StoreUnavailable("Redis: the connection was lost") from error


def describe(error: BaseException) -> str:
    """One line about an error, with its class where it has no text of its own.

    No password: a server that does not know AUTH or HELLO answers with what it was given.
    """
    # Sentinel's errors go on with each client they came from, a kilobyte of it.
    text = str(error).partition(" : <redis.")[0].partition(", with args beginning with")[0]
    return text or type(error).__name__
