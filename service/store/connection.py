"""Opens Redis: makes the client that an address asks for.

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

import re
from collections.abc import Callable
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, urlencode

from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.core.tested import REDIS
from service.errors import SettingsError
from service.store.client import ANSWER_TIMEOUT_S, Redis
from service.store.cluster import Cluster
from service.store.handover import made_ours
from service.store.plain_cluster import PlainCluster
from service.store.server import Server, ThroughSentinel

CONNECT_TIMEOUT_S = 2.0
REDIS_PORT = 6379
SENTINEL_PORT = 26379

NODE_CONNECTIONS = 1000
"""Most connections to one node of a Cluster; the loops that use them have bounds of their own."""

_Kind = TypeVar("_Kind", bound=PlainCluster)


def connect(
    url: str, *, answer_timeout_s: float | None = ANSWER_TIMEOUT_S, version: str | None = None
) -> Redis:
    """Make a client for `url`; nothing is sent yet.

    answer_timeout_s: longest wait for an answer; None where a blocked read has its own.
    version: redis-py's, None for the one that is installed. With one that was not tested the
        client keeps to what redis-py documents.
    Raises SettingsError for a malformed address.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": answer_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    scheme, _, rest = url.partition("://")
    tested = REDIS.covers(version)
    made = made_ours if tested else _left_alone
    try:
        if scheme == "redis+cluster":
            return _whole(rest, options) if tested else _cluster(PlainCluster, rest, options)
        if scheme == "redis+sentinel":
            return _master(rest, options, made)
        # Declared to return redis-py's own class.
        client = cast("Server", Server.from_url(url, **options))
        pool: Any = client.connection_pool
        pool.connection_class = made(pool.connection_class)
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


def _whole(rest: str, options: dict[str, Any]) -> Cluster:
    client = _cluster(Cluster, rest, options)
    ours = made_ours(client.connection_kwargs["connection_class"])
    client.connection_kwargs["connection_class"] = ours
    for node in client.startup_nodes:
        node.connection_class = ours
    return client


def _cluster(kind: type[_Kind], rest: str, options: dict[str, Any]) -> _Kind:
    hosts, given = _parse(rest, REDIS_PORT)
    if given.pop("db", 0):
        raise _Malformed("ends with a database, and a Cluster has none")
    tls = given.pop("connection_class", None) is SSLConnection
    return kind(
        startup_nodes=[ClusterNode(host, port) for host, port in hosts],
        # Every slot's first redirection puts the table right; a look-up anew would cut what is
        # under way on every node.
        reinitialize_steps=0,
        max_connections=NODE_CONNECTIONS,
        ssl=tls,
        **options,
        **given,
    )


def _master(rest: str, options: dict[str, Any], made: Callable[[type], type]) -> Server:
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
        pool.connection_class = made(pool.connection_class)
    managed = SentinelManagedSSLConnection if tls else SentinelManagedConnection
    master: Server = sentinel.master_for(
        service,
        redis_class=ThroughSentinel,
        connection_class=made(managed),
        **options,
        **given,
    )
    return master


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


def _left_alone(connection_class: type) -> type:
    return connection_class
