"""Opening Redis from its address, and what becomes of a server that is no master any more."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio.connection import SSLConnection

from service.errors import SettingsError, StoreUnavailable
from service.store.batch import Batch
from service.store.client import ping
from service.store.cluster import Cluster
from service.store.connection import connect
from service.store.inbox import Inbox
from tests.redis_servers import single, wait_until
from tests.store.pieces import message

pytestmark = pytest.mark.anyio


async def test_a_server_on_a_unix_socket_answers(tmp_path: Path) -> None:
    """The embedded Redis could not be used."""
    with single(None, "--unixsocket", f"{tmp_path}/redis.sock"):
        client = connect(f"unix://{tmp_path}/redis.sock")
        await ping(client)
        await client.aclose()


async def test_a_cluster_is_found_by_every_node_listed() -> None:
    """Parley could not start while the first node of the list is away."""
    client: Any = connect("redis+cluster://me:p%40ss@one:7001,[::1]:7002,three?tls=true")
    assert isinstance(client, Cluster)
    nodes = [(node.host, node.port) for node in client.startup_nodes]
    assert nodes == [("one", 7001), ("::1", 7002), ("three", 6379)]
    options = client.connection_kwargs
    assert (options["username"], options["password"]) == ("me", "p@ss")
    assert issubclass(options["connection_class"], SSLConnection)


async def test_a_sentinel_address_names_service_database_and_passwords() -> None:
    """Parley would talk to another database, or be refused by the Sentinels."""
    client: Any = connect(
        "redis+sentinel://:p%40ss@one,two:5000/mymaster/3?sentinel_password=s3cret&tls=yes"
    )
    pool = client.connection_pool
    assert (pool.service_name, pool.connection_kwargs["db"]) == ("mymaster", 3)
    assert pool.connection_kwargs["password"] == "p@ss"
    assert issubclass(pool.connection_class, SSLConnection)
    asked = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"]) for each in asked] == [("one", 26379), ("two", 5000)]
    assert {each["password"] for each in asked} == {"s3cret"}
    await client.aclose()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis+cluster://one:x", id="port is no number"),
        pytest.param("redis+cluster://one:1,,two:2", id="empty host"),
        pytest.param("redis+cluster://one:1/2", id="database of a Cluster"),
        pytest.param("redis+sentinel://one:1", id="no service"),
        pytest.param("redis://one:x", id="one server, port is no number"),
        pytest.param("redis://one?retries=3", id="one server, an unknown option"),
        pytest.param("rediss://one?ssl_cert_reqs=maybe", id="one server, a value that is none"),
        pytest.param("redis+cluster://one?retries=3", id="a Cluster, an unknown option"),
    ],
)
async def test_a_malformed_address_is_the_operators_to_mend(url: str) -> None:
    """The start would end in a traceback."""
    with pytest.raises(SettingsError, match="REDIS_URL"):
        connect(url)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+sentinel", "redis+cluster"])
@pytest.mark.parametrize("cut", ["/", "#", "?", "@", ":", "[", "]", "%", "\\", " ", "\n"])
async def test_a_password_is_in_no_error_about_its_address(scheme: str, cut: str) -> None:
    """It would be in the log of every start, and whoever reads it has the texts."""
    for form in ("{}://:PASSxZq{}7@host/m", "{}://host?password=PASSxZq{}7&db=x&ssl_cert_reqs=y"):
        with pytest.raises((SettingsError, StoreUnavailable)) as caught:
            await ping(connect(form.format(scheme, cut)))
        assert "PASSxZq" not in str(caught.value)
        if caught.errisinstance(SettingsError):  # told at the start, with a traceback maybe
            assert "PASSxZq" not in "".join(traceback.format_exception(caught.value))


async def test_a_server_that_repeats_the_login_it_was_given_is_not_quoted() -> None:
    """A proxy without AUTH answers with the password, and the log would hold it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(1000):
            word = command.split(b"\r\n")[2].decode()
            said = f"-ERR unknown command '{word}', with args beginning with: 'PASSxZq7' \r\n"
            writer.write(said.encode())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        client = connect(f"redis://:PASSxZq7@127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(StoreUnavailable, match="unknown command '") as caught:
            await ping(client)
        await client.aclose()
    assert "PASSxZq" not in str(caught.value)


async def test_a_cluster_that_is_away_is_an_outage_and_no_more() -> None:
    """Parley would end, or hang, instead of waiting for the Cluster."""
    client = connect("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    batch = Batch(client)
    inbox = Inbox(batch, partitions=4, window_s=60, limit=50)
    for attempt in (ping(client), inbox.accept(message())):
        with pytest.raises(StoreUnavailable):
            await attempt
    await client.aclose()


async def test_a_demoted_server_refuses_for_the_moment_and_is_left_behind_its_name() -> None:
    """After a fail-over behind a name or an address, every text would be refused for good."""
    with single() as old, single() as new:
        client = connect(f"redis://127.0.0.1:{old.port}")
        batch = Batch(client)
        inbox = Inbox(batch, partitions=4, window_s=60, limit=50)
        assert await inbox.accept(message("SM1"))
        old.client.replicaof("127.0.0.1", new.port)
        wait_until(
            lambda: old.client.info("replication")["master_link_status"] == "up", "it follows"
        )
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await inbox.accept(message("SM2"))
        await batch.aclose()

        # A name can't be made to lead elsewhere here: that its address is asked for anew is seen
        # in the server, which has lost its client.
        def left_it() -> bool:
            return not any(each["cmd"].startswith("evalsha") for each in old.client.client_list())

        async with asyncio.timeout(15):
            while not left_it():
                await asyncio.sleep(0.02)
        await client.aclose()


async def test_a_server_that_loads_its_file_is_waited_for() -> None:
    """Texts that come while a restarted Redis reads its file would be refused for good."""
    with single(None, "--key-load-delay", "100") as server:
        # Redis looks up from its loading every thousand commands.
        with server.client.pipeline(transaction=False) as pipeline:
            for i in range(9_000):
                pipeline.set("key", i)
            pipeline.execute()
        client = connect(server.url)
        batch = Batch(client)
        inbox = Inbox(batch, partitions=4, window_s=60, limit=50)
        assert await inbox.accept(message("SM1"))
        server.kill()
        server.start_again()
        wait_until(lambda: _loading(server.client), "it loads")
        with pytest.raises(StoreUnavailable):
            await inbox.accept(message("SM2"))
        wait_until(server.client.ping, "it has loaded")
        assert await inbox.accept(message("SM2"))
        assert not await inbox.accept(message("SM1"))
        await batch.aclose()
        await client.aclose()


def _loading(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.BusyLoadingError:
        return True
    return False
