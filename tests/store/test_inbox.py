"""Accepting: once, in order, bounded, grouped."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from service.core.partitions import partition_of
from service.errors import StoreError, StoreFull, StoreUnavailable
from service.model import Conversation, DeliveryStatus, Message, MessageSid, Partition
from service.store.backlog import read_entries
from service.store.batch import Batch
from service.store.client import Redis
from service.store.connection import connect
from service.store.inbox import Inbox
from service.store.keys import PartitionKeys
from service.store.opt_outs import list_opt_outs
from tests.store.pieces import PARTITIONS, Store, configure, message

pytestmark = pytest.mark.anyio


def inbox_of(accepted: Message, partitions: int = 4) -> str:
    """Name the inbox a message belongs in."""
    return PartitionKeys(partition_of(accepted.conversation, partitions)).inbox


async def test_a_message_is_accepted_once_however_often_it_arrives(store: Store) -> None:
    """A retry of Twilio's would be answered twice."""
    first = await store.inbox.accept(message("SM1"))
    again = [await store.inbox.accept(message("SM1")) for _ in range(3)]
    assert (first, again) == (True, [False] * 3)
    assert await store.client.xlen(inbox_of(message())) == 1


async def test_simultaneous_retries_in_one_round_trip_are_accepted_once(store: Store) -> None:
    """Twilio's retry may overtake the first attempt: both are in the same group commit."""
    answers = await asyncio.gather(*(store.inbox.accept(message("SM1")) for _ in range(50)))
    assert sorted(answers) == [False] * 49 + [True]


async def test_what_was_accepted_reads_back_whole_and_in_order(store: Store) -> None:
    """A handler would get another text than the one that was sent, or in another order."""
    texts = [message(f"SM{i}", body=f"text {i} – ünïcode 👍") for i in range(20)]
    for text in texts:
        await store.inbox.accept(text)
    entries = read_entries(await store.client.xrange(inbox_of(texts[0])))
    assert [entry.value for entry in entries] == texts


async def test_a_busy_door_pays_few_round_trips(store: Store) -> None:
    """Without group commit the door is as slow as one round trip per callback."""
    await asyncio.gather(*(store.inbox.accept(message(f"SM{i}", f"+1{i}")) for i in range(120)))
    assert store.batch.calls == 120
    assert store.batch.round_trips <= 10


async def test_nothing_is_accepted_before_the_partition_count_is_known_to_fit(store: Store) -> None:
    """A text could land in a partition that nobody looks into."""
    opened = asyncio.Event()
    early = Inbox(store.batch, partitions=PARTITIONS, window_s=60, limit=50, opened=opened)
    for arrival in (message("SM1"), report()):
        with pytest.raises(StoreUnavailable, match="not been reached"):
            await early.accept(arrival)
    assert [key async for key in store.client.scan_iter("*")] == []
    opened.set()
    assert await early.accept(message("SM1"))


async def changes(client: Redis) -> int:
    """Count what was written, on every primary of a Cluster: which one has the key is its own."""
    servers = await client.each_server()
    counted = [await execute("INFO", "persistence") for execute in servers]
    return sum(each["rdb_changes_since_last_save"] for each in counted)


async def test_a_repetition_is_written_anew_and_remembered_no_longer(store: Store) -> None:
    """WAIT and WAITAOF speak of what was written: the repetition's 200 would promise nothing."""
    for arrival, key in ((message("SM1"), "*:seen:SM1"), (report(), "*:status:SMout:*")):
        assert await store.inbox.accept(arrival)
        (kept,) = [key async for key in store.client.scan_iter(key)]
        await store.client.expire(kept, 30)
        before = await changes(store.client)
        assert not await store.inbox.accept(arrival)
        assert await changes(store.client) == before + 1
        assert 20 < await store.client.ttl(kept) <= 30


async def test_an_error_is_told_to_whom_it_concerns_alone(store: Store) -> None:
    """The others of its round trip would be told 200 for a text that is not there, or 503."""
    broken, whole = message("SM1"), message("SM2", "+15005550124")
    assert inbox_of(broken) != inbox_of(whole)
    await store.client.set(inbox_of(broken), "no stream")
    accepting = (store.inbox.accept(each) for each in (broken, whole))
    refused, new = await asyncio.gather(*accepting, return_exceptions=True)
    assert isinstance(refused, StoreError)
    assert new is True
    assert await store.client.xlen(inbox_of(whole)) == 1


async def test_a_full_inbox_refuses_and_remembers_nothing(store: Store) -> None:
    """If the refused sid were remembered, Twilio's retry would be dropped as a duplicate."""
    for i in range(50):
        assert await store.inbox.accept(message(f"SM{i}"))
    with pytest.raises(StoreFull):
        await store.inbox.accept(message("SM-late"))
    await store.client.delete(inbox_of(message()))
    assert await store.inbox.accept(message("SM-late"))


async def test_the_sid_is_remembered_for_the_window_only(store: Store) -> None:
    """De-duplication keys that never expire fill Redis."""
    await store.inbox.accept(message("SM1"))
    keys = PartitionKeys(partition_of(message().conversation, 4))
    assert 0 < await store.client.ttl(keys.seen(message("SM1").sid)) <= 60


async def test_scripts_come_back_after_redis_forgot_them(store: Store) -> None:
    """A fail-over or SCRIPT FLUSH would turn every callback away until a restart."""
    assert await store.inbox.accept(message("SM1"))
    await store.client.script_flush()
    assert await store.inbox.accept(message("SM2"))


async def test_a_redis_that_is_not_there_is_said_to_be_unavailable(tmp_path: Path) -> None:
    """The door answers 503 by this error; anything else would be an unexplained 500."""
    client = connect(f"unix://{tmp_path}/nothing.sock")
    inbox = Inbox(Batch(client), partitions=4, window_s=60, limit=50)
    with pytest.raises(StoreUnavailable):
        await inbox.accept(message())
    await client.aclose()


async def test_a_redis_without_memory_is_said_to_be_unavailable_and_keeps_nothing(
    store: Store,
) -> None:
    """Full memory is a passing refusal: Twilio must be told to come back, not lost."""
    await configure(store.client, "maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await store.inbox.accept(message("SM1"))
    finally:
        await configure(store.client, "maxmemory", "0")
    assert [key async for key in store.client.scan_iter("*")] == []
    assert await store.inbox.accept(message("SM1"))


async def test_one_conversation_never_leaves_its_partition() -> None:
    """Its messages would be handled side by side, by two workers."""
    places = {partition_of(message(f"SM{i}").conversation, 16) for i in range(100)}
    assert len(places) == 1


def test_the_partition_of_a_conversation_is_the_same_for_ever() -> None:
    """Another hash in a new version would look for unsettled messages in the wrong partition."""
    known = {"+15005550123": 13, "+447700900123": 12, "whatsapp:+4915112345678": 15}
    found = {theirs: partition_of(message("SM", theirs).conversation, 16) for theirs in known}
    assert found == {theirs: Partition(place) for theirs, place in known.items()}


async def test_what_was_accepted_is_known_and_asking_changes_nothing(store: Store) -> None:
    """A text of the log would be taken for missing, or its asking for its arrival."""
    accepted, other = message("SM1"), message("SM2")
    await store.inbox.accept(accepted)
    asked = [(each.conversation, each.sid) for each in (other, accepted)]

    assert await store.inbox.had(asked) == [False, True]
    assert await store.inbox.accept(other)


def report(sid: str = "SMout", status: str = "undelivered", error: str = "21610") -> DeliveryStatus:
    """Make a report on a reply to the person of `message`."""
    text = message()
    return DeliveryStatus(MessageSid(sid), status, error, from_=text.to, to=text.from_)


async def opted_out(store: Store) -> dict[Conversation, datetime]:
    """Read who is on the list, and since when."""
    found = await list_opt_outs(store.client, PARTITIONS)
    return {each.conversation: each.at for each in found}


async def test_twilio_fact_11_a_report_of_an_opt_out_puts_the_person_on_the_list(
    store: Store,
) -> None:
    """Who opted out elsewhere would be missing from the list although Twilio has told us."""
    assert await store.inbox.accept(report(status="sent", error=""))
    assert await store.inbox.accept(report(error="30003"))
    assert await opted_out(store) == {}
    assert await store.inbox.accept(report("SMother"))
    assert list(await opted_out(store)) == [message().conversation]


async def test_reports_of_one_opt_out_count_once_in_whatever_order_they_come(store: Store) -> None:
    """A repeated report would put somebody back on the list who has opted in since."""
    reports = [report(), report(status="failed"), report(status="sent", error="")]
    assert [await store.inbox.accept(each) for each in reports] == [True, True, True]
    first = await opted_out(store)
    assert [await store.inbox.accept(each) for each in reports[::-1]] == [False, False, False]
    assert await store.inbox.accept(report("SMlater"))
    assert list(first) == [message().conversation]
    assert await opted_out(store) == first, "since the first time"

    home = partition_of(message().conversation, PARTITIONS)
    await (await store.own(home)).note_opt_out(message().conversation, out=False)
    again = [*reports, report(status="canceled")]
    assert [await store.inbox.accept(each) for each in again] == [False, False, False, True]
    assert await opted_out(store) == {}


async def test_an_opt_out_told_while_redis_has_no_memory_is_taken_when_it_is_repeated(
    store: Store,
) -> None:
    """Refused, the report would be remembered as taken, and the opt-out be lost."""
    await configure(store.client, "maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await store.inbox.accept(report())
    finally:
        await configure(store.client, "maxmemory", "0")
    assert await store.inbox.accept(report())
    assert list(await opted_out(store)) == [message().conversation]
