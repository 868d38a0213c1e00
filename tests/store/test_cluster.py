"""A real Redis Cluster, three masters and three replicas: a text's whole way, and fail-over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from service.core.partitions import partition_of
from service.core.sealing import Sealer
from service.errors import LockLost, StoreUnavailable
from service.model import DeliveryStatus, Message, MessageSid, Partition
from service.store.arrivals import START, Arrivals
from service.store.backlog import read_entries
from service.store.batch import Batch
from service.store.client import clock_of
from service.store.connection import connect
from service.store.durability import look
from service.store.inbox import Inbox
from service.store.instances import Instances
from service.store.keys import PartitionKeys
from service.store.layout import claim_partition_count
from service.store.locks import locked
from service.store.opt_outs import list_opt_outs
from service.store.partition import Begun
from service.store.plain_cluster import PlainCluster, slot_of
from tests.present import as_a, present
from tests.redis_servers import Cluster, cluster
from tests.store.pieces import PARTITIONS, Store, message, outbound

pytestmark = pytest.mark.anyio

KEY = "parley:{test}:lock"


@pytest.fixture(scope="module")
def servers() -> Iterator[Cluster]:
    """One Cluster for the tests of this file."""
    with cluster() as running:
        yield running


BOTH_WAYS = pytest.mark.parametrize("version", [None, "99.0.0"], ids=str, indirect=True)
"""With the redis-py that is installed, and as with one that was not tested."""


@pytest.fixture
def version(request: pytest.FixtureRequest) -> str | None:
    """What redis-py says it is; None for the truth."""
    return getattr(request, "param", None)


@pytest.fixture
async def store(servers: Cluster, version: str | None) -> AsyncIterator[Store]:
    """One process's view of an empty Cluster."""
    servers.empty()
    client = connect(servers.url, version=version)
    batch = Batch(client)
    yield Store(client, batch, Inbox(batch, partitions=PARTITIONS, window_s=60, limit=100_000))
    await batch.aclose()
    await client.aclose()


@pytest.fixture
async def arrivals(servers: Cluster, version: str | None) -> AsyncIterator[Arrivals]:
    """A reader with a client of its own, as a worker has."""
    client = connect(servers.url, answer_timeout_s=None, version=version)
    reading = Arrivals(client)
    yield reading
    await reading.aclose()
    await client.aclose()


def texts(count: int) -> list[Message]:
    """Make messages of as many conversations, over all partitions."""
    return [message(f"SM{i}", f"+1500{i:04}") for i in range(count)]


def place(text: Message) -> Partition:
    """Tell a message's partition."""
    return partition_of(text.conversation, PARTITIONS)


async def refusal(store: Store, text: Message) -> str:
    """Try until the successor is found, and tell why it refuses."""
    async with asyncio.timeout(10):
        while True:
            with pytest.raises(StoreUnavailable) as refused:
                await store.inbox.accept(text)
            if "connect" not in str(refused.value):
                return str(refused.value)
            await asyncio.sleep(0.05)


@BOTH_WAYS
async def test_a_text_goes_its_whole_way(store: Store, arrivals: Arrivals) -> None:
    """Parley would not work on a Cluster."""
    await claim_partition_count(store.client, PARTITIONS)
    text = message()
    assert await store.inbox.accept(text)
    assert not await store.inbox.accept(text)
    found = await arrivals.wait({place(text): START}, block_ms=2_000, count=10)
    (entry,) = found[place(text)]
    assert entry.value == text

    owned = await store.own(place(text))
    assert await owned.begin(entry.id, text.conversation) == Begun(1)
    assert present(await owned.fetch(entry.id)).value == text
    first, second = present(
        await owned.settle(
            entry.id, [outbound(text), outbound(text, 1)], mark=True, opted_in=text.conversation
        )
    )
    assert await owned.mark(second) == 1
    marked = (await owned.backlog()).marked
    assert marked == dict.fromkeys((first, second), pytest.approx(time.monotonic(), abs=30))
    assert abs(await clock_of(store.client) - time.time()) < 5
    assert await owned.sent(first, outbound(text), "OC1")
    assert await owned.known_sids(["OC1", "OC2"]) == {"OC1"}
    backlog = await owned.backlog()
    assert [each.id for each in backlog.outbox] == [second]
    leases = store.leases("other")
    assert await leases.announce() == ["other"]
    assert await leases.acquire(owned.partition) is None
    await leases.leave()


@BOTH_WAYS
async def test_twilio_fact_11_a_report_of_an_opt_out_puts_the_person_on_the_list(
    store: Store,
) -> None:
    """On a Cluster a script whose keys lie apart is refused: the report would never be taken."""
    texts_of_all = texts(20)
    for text in texts_of_all:
        sid = MessageSid(f"out-{text.sid}")
        told = DeliveryStatus(sid, "undelivered", "21610", from_=text.to, to=text.from_)
        assert await store.inbox.accept(told)
        assert not await store.inbox.accept(told)
    found = [out.conversation for out in await list_opt_outs(store.client, PARTITIONS)]
    assert sorted(found) == sorted(text.conversation for text in texts_of_all)


@BOTH_WAYS
async def test_the_provisioning_lock_is_held_by_one_at_a_time(store: Store) -> None:
    """Two processes would each make an instance at the connector."""
    instances = Instances(store.client, sealer=Sealer(["a secret key of thirty-two characters"]))
    order = []

    async def provision(name: str) -> None:
        async with instances.lock():
            order.append(f"{name} begins")
            await asyncio.sleep(0.01)
            order.append(f"{name} ends")

    await asyncio.gather(provision("a"), provision("b"))
    assert [line.split()[1] for line in order] == ["begins", "ends"] * 2
    assert await instances.load() is None


@BOTH_WAYS
async def test_a_lock_is_kept_beyond_its_time_and_its_loss_ends_what_is_done(
    store: Store, servers: Cluster
) -> None:
    """A Cluster's nodes would forget the lock's scripts, or its holder never hear of its loss."""
    steps = []

    async def hold() -> None:
        async with locked(store.client, KEY, ttl_s=1):
            for server in servers.masters():
                server.client.script_flush()
            await asyncio.sleep(1.5)
            steps.append(await store.client.exists(KEY))
            await store.client.set(KEY, "another's", px=60_000)
            await asyncio.sleep(1)
            steps.append("too late")

    with pytest.raises(LockLost):
        await hold()
    assert steps == [1]
    assert await store.client.get(KEY) == b"another's"


@BOTH_WAYS
async def test_a_busy_door_pays_few_round_trips_over_all_nodes(store: Store) -> None:
    """A Cluster would be slower than one server, a round trip for each callback."""
    await store.inbox.accept(message("first"))
    inboxes = [PartitionKeys(Partition(p)).inbox for p in range(PARTITIONS)]
    assert len({store.client.place(inbox)[0] for inbox in inboxes}) > 1, "the test needs two nodes"
    before = store.batch.round_trips
    assert all(await asyncio.gather(*map(store.inbox.accept, texts(300))))
    assert store.batch.round_trips - before <= 12


@BOTH_WAYS
async def test_scripts_are_taught_again_on_the_node_that_forgot_them(
    store: Store, servers: Cluster
) -> None:
    """Everything would be refused after a node's restart or SCRIPT FLUSH."""
    assert all(await asyncio.gather(*map(store.inbox.accept, texts(20))))
    servers.masters()[0].client.script_flush()
    assert not any(await asyncio.gather(*map(store.inbox.accept, texts(20))))


@BOTH_WAYS
async def test_arrivals_of_every_partition_come_in_though_each_read_has_its_own(
    store: Store, arrivals: Arrivals
) -> None:
    """Texts of all partitions but one would wait for that one's read to time out."""
    after = {Partition(p): START for p in range(PARTITIONS)}
    expected = texts(40)
    got: list[Message] = []

    async def take() -> None:
        while len(got) < len(expected):
            for partition, entries in (await arrivals.wait(after, block_ms=1_000, count=7)).items():
                got.extend(as_a(Message, entry.value) for entry in entries)
                after[partition] = entries[-1].id

    taking = asyncio.create_task(take())
    for text in expected:
        await store.inbox.accept(text)
    async with asyncio.timeout(5):
        await taking
    assert sorted(text.sid for text in got) == sorted(text.sid for text in expected)


@BOTH_WAYS
async def test_a_wait_that_is_cancelled_loses_nothing_and_leaves_nothing_open(
    store: Store, arrivals: Arrivals
) -> None:
    """A text that arrives while partitions change hands would be handled after a restart only."""
    text = message()
    after = {Partition(p): START for p in range(PARTITIONS)}
    for _ in range(30):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await arrivals.wait(after, block_ms=1_000, count=10)
    nodes = as_a(PlainCluster, arrivals._client).get_nodes()
    # Connections are counted inside: from outside the nodes' own links can't be told apart.
    assert sum(len(node._connections) for node in nodes) <= PARTITIONS + len(nodes)
    await store.inbox.accept(text)
    async with asyncio.timeout(10):
        while not (found := await arrivals.wait(after, block_ms=1_000, count=10)):
            pass  # A busy machine takes longer to connect again.
    assert [entry.value for entry in found[place(text)]] == [text]


async def test_a_slot_that_moved_is_found_at_its_new_node(store: Store, servers: Cluster) -> None:
    """After resharding every text of the moved partition would be refused."""
    text = message()
    assert await store.inbox.accept(text)
    inbox = PartitionKeys(place(text)).inbox
    source = servers.master_of(inbox)
    target = next(each for each in servers.masters() if each.port != source.port)
    slot = slot_of(inbox)
    ids = {each.port: each.client.cluster("myid").decode() for each in (source, target)}
    target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source.port])
    source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target.port])
    # All keys of the partition are on their way: no key is at the source, and it says ASK.
    keys = source.client.cluster("getkeysinslot", slot, 1000)
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    assert not await store.inbox.accept(text)
    # A key that is at neither node yet: refused for the moment (TRYAGAIN), not written at either.
    with pytest.raises(StoreUnavailable, match="TRYAGAIN"):
        await store.inbox.accept(message("SM2"))
    for each in (target, source):
        each.client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target.port])
    assert await store.inbox.accept(message("SM2"))
    assert not await store.inbox.accept(message("SM2"))
    assert target.client.xlen(inbox) == 2


async def test_a_slot_that_moved_is_found_by_an_untested_redis_py_too(servers: Cluster) -> None:
    """After an upgrade and resharding, texts would be refused for good, or confirmed by no one."""
    servers.empty()
    client = connect(servers.url, version="99.0.0")
    batch = Batch(client)
    inbox = Inbox(batch, partitions=PARTITIONS, window_s=60, limit=100_000)
    text = message()
    assert await inbox.accept(text)
    key = PartitionKeys(place(text)).inbox
    source = servers.master_of(key)
    target = next(each for each in servers.masters() if each.port != source.port)
    slot = slot_of(key)
    ids = {each.port: each.client.cluster("myid").decode() for each in (source, target)}
    target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source.port])
    source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target.port])
    keys = source.client.cluster("getkeysinslot", slot, 1000)
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    # On its way: refused for the moment.
    with pytest.raises(StoreUnavailable, match=f"slot {slot}"):
        await inbox.accept(text)
    for each in (target, source):
        each.client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target.port])
    with pytest.raises(StoreUnavailable, match=f"slot {slot}"):
        await inbox.accept(text)
    assert not await inbox.accept(text)
    assert await inbox.accept(message("SM2"))
    assert target.client.xlen(key) == 2
    await batch.aclose()
    await client.aclose()


async def test_an_untested_redis_py_finds_a_dead_masters_successor_and_loses_nothing(
    servers: Cluster,
) -> None:
    """After an upgrade a machine that dies would stop Parley for good, or take texts with it."""
    servers.empty()
    client = connect(servers.url, version="99.0.0")
    batch = Batch(client)
    store = Store(client, batch, Inbox(batch, partitions=PARTITIONS, window_s=60, limit=100_000))
    verdict = await look(client, "replicated", replicas=1, replica_timeout_s=0.5)
    assert verdict.notes == ()
    batch.confirm(verdict.confirmations)
    accepted = texts(40)
    assert all(await asyncio.gather(*map(store.inbox.accept, accepted)))
    gone = Partition(0)
    dead = servers.master_of(PartitionKeys(gone).inbox)
    await asyncio.to_thread(servers.watch_closely)
    dead.kill()
    text = next(each for each in accepted if place(each) == gone)
    with pytest.raises(StoreUnavailable):
        await store.inbox.accept(text)
    with pytest.raises(StoreUnavailable):
        await store.own(gone)
    await asyncio.to_thread(servers.wait_until_whole)
    # Its successor has no replica until the machine is back, so that nothing is promised there.
    assert "0 of 1 replicas" in await refusal(store, text)
    await asyncio.to_thread(dead.start_again)
    async with asyncio.timeout(10):
        while True:
            try:
                assert not await store.inbox.accept(text)
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)
    kept = []
    for partition in range(PARTITIONS):
        rows: Any = await as_a(PlainCluster, client).xrange(
            PartitionKeys(Partition(partition)).inbox
        )
        kept += [as_a(Message, entry.value).sid for entry in read_entries(rows)]
    assert sorted(kept) == sorted(each.sid for each in accepted)
    await batch.aclose()
    await client.aclose()


async def test_a_dead_master_is_replaced_without_a_restart_and_nothing_accepted_is_lost(
    store: Store, servers: Cluster, arrivals: Arrivals
) -> None:
    """A machine that dies would take accepted texts with it, or stop Parley for good."""
    verdict = await look(store.client, "replicated", replicas=1, replica_timeout_s=0.5)
    assert verdict.notes == ()
    store.batch.confirm(verdict.confirmations)
    accepted, refused = set(), []
    over = asyncio.Event()

    async def publish(first: int) -> None:
        for number in range(first, first + 1_000_000):
            text = message(f"SM{number}", f"+1500{number % 50:04}")
            try:
                await store.inbox.accept(text)
                accepted.add(text.sid)
            except StoreUnavailable:
                refused.append(text)
            if over.is_set():
                return
            await asyncio.sleep(0.005)

    publishing = [asyncio.create_task(publish(n * 1_000_000)) for n in range(8)]
    await asyncio.sleep(0.3)
    gone = Partition(0)
    dead = servers.master_of(PartitionKeys(gone).inbox)
    await asyncio.to_thread(servers.watch_closely)
    dead.kill()
    known, end = len(accepted), time.monotonic() + 1
    # Before the successor is there, the other nodes go on: their texts, and their readers.
    others = {p: START for p in map(Partition, range(PARTITIONS)) if p != gone}
    found: Mapping[Partition, object] = {}
    async with asyncio.timeout(10):
        # The first wait connects to every node, which may take all of it on a busy machine; there
        # the others may lose sight of one another as well, for a moment.
        while not found:
            with suppress(StoreUnavailable):
                found = await arrivals.wait({gone: START, **others}, block_ms=500, count=1)
    await asyncio.sleep(max(0, end - time.monotonic()))
    assert len(accepted) > known
    await asyncio.to_thread(servers.wait_until_whole)
    # Its successor has no replica until the machine is back, so that nothing is promised there.
    unsafe = next(text for text in refused if place(text) == gone)
    assert "0 of 1 replicas" in await refusal(store, unsafe)
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        # A repetition writes no message: it must not count as confirmed for that.
        await store.inbox.accept(unsafe)
    await asyncio.to_thread(dead.start_again)
    async with asyncio.timeout(10):
        while True:
            try:
                await store.inbox.accept(unsafe)
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)
    over.set()
    await asyncio.gather(*publishing)
    kept = []
    for partition in range(PARTITIONS):
        rows = await store.client.xrange(PartitionKeys(Partition(partition)).inbox)
        kept += [as_a(Message, entry.value).sid for entry in read_entries(rows)]
    assert accepted <= set(kept)
    assert len(kept) == len(set(kept))
    assert gone in await arrivals.wait({gone: START}, block_ms=2_000, count=1)
