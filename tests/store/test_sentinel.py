"""Sentinel: the master dies or is demoted, and the same process goes on with the next one."""

from __future__ import annotations

import asyncio

import pytest

from service.core.partitions import partition_of
from service.errors import StoreUnavailable
from service.model import Message
from service.store.arrivals import START, Arrivals
from service.store.backlog import read_entries
from service.store.batch import Batch
from service.store.client import ping
from service.store.connection import connect
from service.store.durability import look
from service.store.inbox import Inbox
from service.store.keys import PartitionKeys
from tests.present import as_a
from tests.redis_servers import sentinel
from tests.store.pieces import PARTITIONS, Store, message

pytestmark = pytest.mark.anyio


def open_store(url: str) -> Store:
    """Open one process's view."""
    client = connect(url)
    batch = Batch(client)
    inbox = Inbox(batch, partitions=PARTITIONS, window_s=60, limit=1_000)
    return Store(client, batch, inbox)


async def accept_at_last(store: Store, text: Message) -> bool:
    """Accept a text as Twilio has it accepted: again and again; True when it was new."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await store.inbox.accept(text)
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def test_a_dead_master_is_replaced_without_a_restart_and_nothing_accepted_is_lost() -> None:
    """A machine that dies would take accepted texts with it, or stop Parley for good."""
    with sentinel() as servers:
        store = open_store(servers.url)
        reader = connect(servers.url, answer_timeout_s=None)
        arrivals = Arrivals(reader)
        verdict = await look(store.client, "replicated", replicas=1, replica_timeout_s=0.5)
        assert verdict.notes == ()
        store.batch.confirm(verdict.confirmations)
        texts = [message(f"SM{i}") for i in range(50)]
        for text in texts:
            assert await store.inbox.accept(text)
        partition = partition_of(texts[0].conversation, PARTITIONS)
        after = {partition: START}
        assert len((await arrivals.wait(after, block_ms=500, count=99))[partition]) == 50

        servers.master.kill()
        with pytest.raises(StoreUnavailable):
            await store.inbox.accept(message("SM50"))
        with pytest.raises(StoreUnavailable):
            await arrivals.wait(after, block_ms=500, count=99)
        await asyncio.to_thread(servers.wait_until_promoted)
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            await store.inbox.accept(message("SM51"))
        store.batch.confirm(())
        assert not await accept_at_last(store, texts[49])
        assert await accept_at_last(store, message("SM52"))
        rows = await store.client.xrange(PartitionKeys(partition).inbox)
        sids = [as_a(Message, entry.value).sid for entry in read_entries(rows)]
        assert sids[:50] == [text.sid for text in texts]
        assert "SM52" in sids
        found = await arrivals.wait(after, block_ms=500, count=99)
        assert [as_a(Message, entry.value).sid for entry in found[partition]] == sids
        await arrivals.aclose()
        await store.batch.aclose()
        await store.client.aclose()
        await reader.aclose()


async def test_a_demoted_master_is_left_for_the_new_one() -> None:
    """Every text would be refused as long as the old connections hold."""
    with sentinel() as servers:
        store = open_store(servers.url)
        assert await store.inbox.accept(message("SM1"))
        servers.sentinels[0].client.execute_command("SENTINEL FAILOVER", "parley")
        await asyncio.to_thread(servers.wait_until_promoted)
        assert await accept_at_last(store, message("SM2"))
        assert servers.replica.client.xlen(
            PartitionKeys(partition_of(message().conversation, PARTITIONS)).inbox
        )
        await store.batch.aclose()
        await store.client.aclose()


async def test_no_sentinel_to_ask_is_an_outage_and_no_more() -> None:
    """Parley would end, or hang, with the Sentinels' machines."""
    client = connect("redis+sentinel://127.0.0.1:1,127.0.0.1:2/parley")
    with pytest.raises(StoreUnavailable) as caught:
        await ping(client)
    # redis-py's own text goes on with a kilobyte of its objects.
    assert str(caught.value) == "Redis: No master found for 'parley'"
    await client.aclose()
