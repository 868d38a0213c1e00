"""Connections to Redis that something between resets, as proxies do: an outage, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.model import Message, Partition
from service.store.arrivals import START, Arrivals
from service.store.batch import Batch
from service.store.client import ping
from service.store.connection import connect
from service.store.failures import translated
from service.store.inbox import Inbox
from service.store.layout import claim_partition_count
from service.store.link import Link
from service.store.server import Server as RedisServer
from tests.flow.cable import BACK, THERE, Cable
from tests.loops import BOTH_LOOPS
from tests.present import as_a
from tests.redis_servers import Server, single
from tests.store.pieces import message

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops: uvloop writes to a reset connection with a RuntimeError."""
    return request.param


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Redis of this file's own."""
    with single() as started:
        yield started


@pytest.fixture
def cable(server: Server) -> Iterator[Cable]:
    """What leads to it."""
    server.client.flushall()
    with Cable(server.port) as laid:
        yield laid


@pytest.fixture
async def client(cable: Cable) -> AsyncIterator[RedisServer]:
    """A client at the end of the cable, with a connection that has been used."""
    opened = as_a(RedisServer, connect(cable.url))
    await ping(opened)
    yield opened
    await opened.aclose()


async def test_a_connection_reset_while_idle_is_opened_anew(
    cable: Cable, client: RedisServer
) -> None:
    """A proxy that tidies up at night would make the first look in the morning an outage."""
    for _ in range(3):
        cable.reset()
        await asyncio.sleep(0.05)
        await ping(client)


async def test_a_connection_reset_between_its_choice_and_its_use_is_an_outage(
    cable: Cable, client: RedisServer
) -> None:
    """A task would end by an error that nobody takes for one of Redis, and its work with it."""
    connection: Any = await client.connection_pool.get_connection()
    cable.reset()
    await asyncio.sleep(0.05)
    with pytest.raises(StoreUnavailable):
        await _use(connection)
    await client.connection_pool.release(connection)
    await ping(client)


async def test_a_connection_reset_as_soon_as_it_was_made_is_closed_and_told(
    cable: Cable, client: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no pool yet, and nobody else would ever close it."""
    made: list[Any] = []
    make: Callable[[], Any] = client.connection_pool.make_connection

    def lost_at_once() -> Any:
        connection: Any = make()
        connect_it = connection.connect

        async def connect_and_lose() -> None:
            await connect_it()
            cable.reset()
            await asyncio.sleep(0.05)

        connection.connect = connect_and_lose
        made.append(connection)
        return connection

    monkeypatch.setattr(client.connection_pool, "make_connection", lost_at_once)
    told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    link = Link(client)
    link.send([("PING",)], lambda _, error: told.set_result(error))
    assert "as soon as it was made" in str(await told)
    assert [connection.is_connected for connection in made] == [False]
    await link.aclose()


async def test_commands_under_way_at_a_reset_are_an_outage(
    cable: Cable, client: RedisServer
) -> None:
    """A command waiting for its answer would wait for ever, or end its task."""

    async def block() -> None:
        with translated():
            await client.blpop(["nothing"], timeout=3)

    waiting = [asyncio.create_task(block()) for _ in range(3)]
    await asyncio.sleep(0.2)
    cable.reset()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in told] == [StoreUnavailable] * 3
    await ping(client)


async def _use(connection: Any) -> None:
    with translated():
        await connection.send_command("PING")
        await connection.read_response()


class Traffic:
    """Texts coming in and being read, over one client, until it is over.

    accepted: their sids. read: those that the reader was given. refused: how often one was.
    """

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.read: set[str] = set()
        self.refused = 0
        self.over = asyncio.Event()

    async def publish(self, inbox: Inbox, person: int) -> None:
        """Send a person's texts, each again until it is accepted, as Twilio does."""
        number = 0
        while not self.over.is_set():
            text = message(f"SM{person}-{number}", f"+1500{person:04}")
            try:
                await inbox.accept(text)
            except StoreUnavailable:
                self.refused += 1
            else:
                self.accepted.add(text.sid)
                number += 1

    async def listen(self, arrivals: Arrivals) -> None:
        """Read until all that was accepted has been read."""
        after = START
        while self.accepted - self.read or not self.over.is_set():
            with suppress(StoreUnavailable):
                found = await arrivals.wait({Partition(0): after}, block_ms=100, count=50)
                for entry in found.get(Partition(0), ()):
                    after = entry.id
                    self.read.add(as_a(Message, entry.value).sid)

    async def look(self, client: RedisServer) -> None:
        """Ask through the pool, as the watch and the owners do."""
        while not self.over.is_set():
            with suppress(StoreUnavailable):
                await claim_partition_count(client, 1)
            await asyncio.sleep(0)


async def test_texts_and_readers_go_on_over_a_hundred_resets(
    cable: Cable, client: RedisServer
) -> None:
    """Whatever moment a reset hits, a text would be lost or a reader would end unnoticed."""
    batch, blocking = Batch(client), connect(cable.url, answer_timeout_s=None)
    inbox = Inbox(batch, partitions=1, window_s=60, limit=100_000)
    arrivals, traffic = Arrivals(blocking), Traffic()
    async with asyncio.TaskGroup() as tasks:
        for person in range(4):
            tasks.create_task(traffic.publish(inbox, person))
        tasks.create_task(traffic.listen(arrivals))
        tasks.create_task(traffic.look(client))
        for _ in range(100):
            await asyncio.sleep(0.02)
            await asyncio.to_thread(cable.reset)
        traffic.over.set()
    assert not traffic.accepted - traffic.read
    assert len(traffic.accepted) > 10
    assert traffic.refused > 10
    await arrivals.aclose()
    await batch.aclose()
    await blocking.aclose()


@pytest.mark.parametrize("ways", [(THERE,), (BACK,), (THERE, BACK)], ids=" and ".join)
async def test_a_silent_connection_is_given_up_and_another_one_made(
    cable: Cable, ways: tuple[str, ...]
) -> None:
    """A firewall that forgets connections would stop Parley until somebody restarts it."""
    client = connect(cable.url, answer_timeout_s=0.3)
    batch = Batch(client)
    inbox = Inbox(batch, partitions=1, window_s=60, limit=50)
    assert await inbox.accept(message("SM1"))
    await ping(client)
    cable.silence(*ways)
    for attempt in (inbox.accept(message("SM2")), ping(client)):
        with pytest.raises(StoreUnavailable):
            await attempt
    cable.mend()
    await ping(client)
    # It was accepted before, if only the answer was lost.
    assert await inbox.accept(message("SM2")) == (THERE in ways)
    await batch.aclose()
    await client.aclose()
