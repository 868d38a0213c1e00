"""The kept connection: answers in order, and everybody told when it breaks."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.store.client import Command
from service.store.connection import connect
from service.store.link import Link
from service.store.server import Server as RedisServer
from tests.loops import BOTH_LOOPS
from tests.present import as_a
from tests.redis_servers import Server, single, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops."""
    return request.param


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Redis that may be stopped and killed."""
    with single() as started:
        yield started


@asynccontextmanager
async def linked(url: str, answer_timeout_s: float = 5) -> AsyncIterator[Link]:
    """Run a link to `url`."""
    client = as_a(RedisServer, connect(url, answer_timeout_s=answer_timeout_s))
    link = Link(client)
    yield link
    await link.aclose()
    await client.aclose()


def ask(link: Link, *commands: Command) -> asyncio.Future[Sequence[Any]]:
    """Send a group; what it was told, and that it was told once."""
    asked: asyncio.Future[Sequence[Any]] = asyncio.get_running_loop().create_future()

    def told(answers: Sequence[Any], error: Exception | None) -> None:
        if error is None:
            asked.set_result(answers)
        else:
            asked.set_exception(error)

    link.send(commands, told)
    return asked


async def test_groups_sent_at_once_are_answered_each_with_its_own(server: Server) -> None:
    """A text would be answered 200 for another one that was accepted."""
    async with linked(server.url) as link:
        groups = [ask(link, ("ECHO", n), ("ECHO", "x" * n)) for n in range(300)]
        assert await asyncio.gather(*groups) == [[str(n).encode(), b"x" * n] for n in range(300)]
        # And again, now that the connection is open.
        groups = [ask(link, ("ECHO", "y" * 5_000 * n), ("ECHO", n)) for n in range(30)]
        assert [answers[1] for answers in await asyncio.gather(*groups)] == [
            str(n).encode() for n in range(30)
        ]


async def test_an_answer_that_is_an_error_is_that_command_s_alone(server: Server) -> None:
    """One text of a wrong kind would have the others of its group refused."""
    async with linked(server.url) as link:
        first, second = await ask(link, ("HGETALL",), ("ECHO", "a"))
        assert isinstance(first, ResponseError)
        assert second == b"a"


async def test_a_command_that_can_not_be_written_fails_alone(server: Server) -> None:
    """One text would end the connection under all others, or never be answered."""
    async with linked(server.url) as link:
        await ask(link, ("PING",))
        wrong = ask(link, ("ECHO", "\ud800"))
        right = ask(link, ("ECHO", "a"))
        with pytest.raises(UnicodeEncodeError):
            await wrong
        assert await right == [b"a"]


async def test_no_connection_is_told_to_all_who_wait_for_it() -> None:
    """Texts would be neither accepted nor refused."""
    async with linked("redis://127.0.0.1:1") as link:
        asked = [ask(link, ("PING",)) for _ in range(3)]
        told = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in told] == [RedisConnectionError] * 3


async def test_a_silent_redis_is_given_up_and_asked_again(server: Server) -> None:
    """A text would be answered when Twilio has long hung up, or not at all."""
    async with linked(server.url, answer_timeout_s=0.5) as link:
        await ask(link, ("PING",))
        server.process.send_signal(signal.SIGSTOP)
        try:
            groups = [ask(link, ("ECHO", n)) for n in range(3)]
            told = await asyncio.gather(*groups, return_exceptions=True)
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert [type(each) for each in told] == [RedisTimeoutError] * 3
        assert await ask(link, ("ECHO", "again")) == [b"again"]


async def test_a_slow_answer_is_waited_for_while_others_arrive(server: Server) -> None:
    """A busy Redis would be taken for one that hangs."""
    async with linked(server.url, answer_timeout_s=0.5) as link:
        slow = []
        for _ in range(6):
            slow.append(ask(link, ("BLPOP", "nothing", "0.2")))
            await asyncio.sleep(0.15)
        assert await asyncio.gather(*slow) == [[None]] * 6


async def test_a_killed_redis_is_told_to_all_under_way_and_its_successor_is_found(
    server: Server,
) -> None:
    """Texts under way would wait for ever, and those after a restart be refused."""
    async with linked(server.url) as link:
        await ask(link, ("PING",))
        server.process.send_signal(signal.SIGSTOP)
        groups = [ask(link, ("ECHO", n)) for n in range(3)]
        await asyncio.sleep(0.05)
        server.kill()
        told = await asyncio.gather(*groups, return_exceptions=True)
        assert all(isinstance(each, RedisConnectionError) for each in told)
        server.start_again()
        wait_until(server.client.ping, "it is back")
        assert await ask(link, ("ECHO", "again")) == [b"again"]


async def test_a_connection_closed_while_idle_is_opened_anew(server: Server) -> None:
    """The first text after a quiet night would be refused."""
    async with linked(server.url) as link:
        (mine,) = await ask(link, ("CLIENT", "ID"))
        server.client.client_kill_filter(_id=mine)
        await asyncio.sleep(0.1)
        (other,) = await ask(link, ("CLIENT", "ID"))
        assert other != mine


async def test_what_is_pushed_is_no_answer(server: Server) -> None:
    """Every answer after it would be taken for the one before."""
    async with linked(f"{server.url}?protocol=3") as link:
        await ask(link, ("CLIENT", "TRACKING", "ON"))
        await ask(link, ("GET", "pushed"))
        server.client.set("pushed", 1)
        assert await ask(link, ("ECHO", "a"), ("GET", "pushed")) == [b"a", b"1"]


async def test_a_dropped_link_fails_what_is_under_way_and_opens_anew(server: Server) -> None:
    """After a demotion the answers of the old server would be taken for the new one's."""
    async with linked(server.url) as link:
        (mine,) = await ask(link, ("CLIENT", "ID"))
        asked = ask(link, ("BLPOP", "nothing", "0.1"))
        link.drop()
        with pytest.raises(RedisConnectionError):
            await asked
        (other,) = await ask(link, ("CLIENT", "ID"))
        assert other != mine


async def test_tls_is_spoken_as_well(
    server: Server, server_tls: SSLContext, certificate: Path
) -> None:
    """A Redis reached by rediss:// would never answer."""
    relayed = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_connection("127.0.0.1", server.port)
        relayed.append(asyncio.gather(_pass_on(reader, ahead), _pass_on(behind, writer)))

    async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=server_tls) as listener:
        port = listener.sockets[0].getsockname()[1]
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"
        async with linked(url) as link:
            groups = [ask(link, ("ECHO", "x" * 40_000), ("ECHO", n)) for n in range(50)]
            assert [answers[1] for answers in await asyncio.gather(*groups)] == [
                str(n).encode() for n in range(50)
            ]
        await asyncio.gather(*relayed)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
