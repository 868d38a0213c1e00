"""With a redis-py that was not tested, the store works by what redis-py documents alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from redis.asyncio.connection import Connection

from service.errors import StoreUnavailable
from service.store.batch import Batch
from service.store.cluster import Cluster
from service.store.connection import connect
from service.store.inbox import Inbox
from service.store.link import Link, PlainLink
from service.store.plain_cluster import PlainCluster
from service.store.server import Server as RedisServer
from tests.loops import BOTH_LOOPS
from tests.present import as_a
from tests.redis_servers import Server, single, wait_until
from tests.store.pieces import PARTITIONS, Store, message

pytestmark = pytest.mark.anyio

UNTESTED = "99.0.0"


@pytest.fixture(scope="module", params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops."""
    return request.param


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Redis that may be stopped and killed."""
    with single() as started:
        yield started


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Store]:
    """A store over redis-py's own connections."""
    server.client.flushall()
    client = connect(server.url, version=UNTESTED, answer_timeout_s=1)
    batch = Batch(client)
    yield Store(client, batch, Inbox(batch, partitions=PARTITIONS, window_s=60, limit=1_000))
    await batch.aclose()
    await client.aclose()


async def test_the_version_decides_which_way_is_taken(server: Server) -> None:
    """An untested redis-py would be taken apart, or the tested one be slow."""
    plain: Any = connect(server.url, version=UNTESTED)
    ours: Any = connect(server.url)
    assert plain.connection_pool.connection_class is Connection
    assert isinstance(plain.trips()._link, PlainLink)
    assert isinstance(ours.trips()._link, Link)
    plain, ours = (connect("redis+cluster://one", version=each) for each in (UNTESTED, None))
    assert (type(plain), type(ours)) == (PlainCluster, Cluster)
    assert plain.connection_kwargs["connection_class"] is Connection


async def test_texts_are_accepted_once_and_in_the_order_they_came(store: Store) -> None:
    """A text would be lost, taken twice, or answered out of order."""
    texts = [message(f"SM{i}", "+15550001") for i in range(200)]
    assert all(await asyncio.gather(*map(store.inbox.accept, texts)))
    assert not any(await asyncio.gather(*map(store.inbox.accept, texts)))
    found = []
    async for key in store.client.scan_iter("*", _type="stream"):
        found += await store.client.xrange(key)
    assert len(found) == len(texts)
    sids = [
        next(sid for text in texts if (sid := text.sid).encode() in _words(row)) for row in found
    ]
    assert sids == [text.sid for text in texts]


def _words(row: Any) -> set[bytes]:
    """Split what is stored into words, so that SM1 is not found in SM10."""
    joined = b" ".join(row[1].values())
    return set(joined.replace(b'"', b" ").replace(b",", b" ").split())


async def test_a_command_that_fails_fails_alone(server: Server) -> None:
    """One text of a wrong kind would have the others of its group refused."""
    client = as_a(RedisServer, connect(server.url, version=UNTESTED))
    link = PlainLink(client)
    told: list[tuple[Sequence[Any], Exception | None]] = []
    link.send([("HGETALL",), ("ECHO", "a")], lambda *each: told.append(each))
    link.send([("ECHO", "\ud800")], lambda *each: told.append(each))
    link.send([("ECHO", 1)], lambda *each: told.append(each))
    await link.aclose()
    await client.aclose()
    ((first, none), (_, unwritten), last) = told
    assert (isinstance(first[0], Exception), first[1], none) == (True, b"a", None)
    assert isinstance(unwritten, UnicodeEncodeError)
    assert last == ([b"1"], None)


async def test_a_silent_and_a_killed_redis_refuse_and_are_found_again(
    store: Store, server: Server
) -> None:
    """Texts would hang, be answered 200 unkept, or be refused for good."""
    assert await store.inbox.accept(message("SM1"))
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            await store.inbox.accept(message("SM2"))
    finally:
        server.process.send_signal(signal.SIGCONT)
    server.kill()
    with pytest.raises(StoreUnavailable):
        await store.inbox.accept(message("SM3"))
    server.start_again()
    wait_until(server.client.ping, "it is back")
    assert await store.inbox.accept(message("SM3"))
