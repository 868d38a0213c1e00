"""The owner's commits: fenced, atomic, once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from service.core.partitions import partition_of
from service.errors import LeaseLost, StoreError
from service.model import EntryId, Partition
from service.store.backlog import Later, Unlisted, may_have_notes, read_entries
from service.store.keys import PartitionKeys
from service.store.partition import Begun, PartitionStore
from tests.present import present
from tests.store.pieces import PARTITIONS, Store, message, outbound

pytestmark = pytest.mark.anyio

TEXT = message("SM1")
HOME = partition_of(TEXT.conversation, PARTITIONS)
KEYS = PartitionKeys(HOME)


def about(moment: float, give_s: float) -> Any:
    """Equal to every moment that is as close."""
    return pytest.approx(moment, abs=give_s)


async def accepted(store: Store) -> EntryId:
    """Accept TEXT and return its entry."""
    await store.inbox.accept(TEXT)
    return read_entries(await store.client.xrange(KEYS.inbox))[-1].id


async def test_settling_moves_the_replies_in_and_the_message_out(store: Store) -> None:
    """Half of it would be a text answered twice, or never."""
    entry, owner = await accepted(store), await store.own(HOME)
    assert await owner.begin(entry) == Begun(1)
    ids = present(await owner.settle(entry, [outbound(TEXT, 0), outbound(TEXT, 1)], mark=False))
    backlog = await owner.backlog()
    assert [each.id for each in backlog.outbox] == ids
    assert [each.value for each in backlog.outbox] == [outbound(TEXT, 0), outbound(TEXT, 1)]
    assert backlog.marked == {}
    assert await store.client.xlen(KEYS.inbox) == 0
    assert await store.client.exists(KEYS.inbox_tries) == 0


async def test_settling_a_second_time_changes_nothing(store: Store) -> None:
    """An answer lost on the way must not send the replies again."""
    entry, owner = await accepted(store), await store.own(HOME)
    await owner.settle(entry, [outbound(TEXT)], mark=False)
    assert await owner.settle(entry, [outbound(TEXT)], mark=False) is None
    assert await store.client.xlen(KEYS.outbox) == 1
    assert await owner.begin(entry) is None


async def test_a_reply_marked_while_settling_is_in_doubt_until_it_is_recorded(store: Store) -> None:
    """A crash between POST and record must be noticed by the next owner."""
    entry, owner = await accepted(store), await store.own(HOME)
    (first, second) = present(
        await owner.settle(entry, [outbound(TEXT, 0), outbound(TEXT, 1)], mark=True)
    )
    assert (await owner.backlog()).marked.keys() == {first}
    assert await owner.mark(second) == 1
    assert await owner.sent(first, outbound(TEXT, 0), "SMout")
    backlog = await owner.backlog()
    assert backlog.marked.keys() == {second}
    assert [each.id for each in backlog.outbox] == [second]
    assert await owner.known_sids(["SMout", "SMother"]) == {"SMout"}
    assert not await owner.sent(first, outbound(TEXT, 0), "SMout")


async def marked_ago(store: Store, reply: EntryId, ago_s: float) -> float:
    """Have a mark lie so many seconds ago, by Redis's clock; returns when, time.monotonic."""
    seconds, micros = await store.client.time()
    ms = int((seconds - ago_s) * 1000 + micros / 1000)
    await store.client.hset(KEYS.outbox_marked, reply, ms)
    return time.monotonic() - ago_s


async def test_open_connectors_fact_19_a_reply_is_kept_by_its_words_where_its_id_says_nothing(
    store: Store,
) -> None:
    """Equal replies could not be told apart in a log that knows other ids."""
    entry, owner = await accepted(store), await store.own(HOME)
    replies = [outbound(TEXT, n) for n in range(3)]
    ids = present(await owner.settle(entry, replies, mark=True))
    entered = time.monotonic()
    await owner.sent(ids[0], replies[0], "SM" + "0f" * 16)
    assert await owner.unlisted(replies[1]) == []
    at = await marked_ago(store, ids[1], 90)
    await owner.sent(ids[1], replies[1], "714")
    assert await owner.unlisted(replies[2]) == [Unlisted(ids[1], about(at, 2), "714")]
    assert await owner.unlisted(outbound(TEXT, body="other words")) == []
    # Never marked: by when it was put into the outbox.
    await owner.sent(ids[2], replies[2], "unnamed-SM1-2")
    # What was marked longer ago than the window is forgotten.
    (kept,) = await owner.unlisted(replies[2])
    assert kept == Unlisted(ids[2], about(entered, 2), "unnamed-SM1-2")
    (key,) = [key async for key in store.client.scan_iter("*:unlisted:*")]
    assert 0 < await store.client.ttl(key) <= 60


@pytest.mark.parametrize("end", ["buried in doubt", "sent again in doubt", "buried", "sent again"])
async def test_a_post_that_stays_in_doubt_is_kept_by_its_words_and_no_other(
    store: Store, end: str
) -> None:
    """Its row in the log would be taken for the next reply's of the same words."""
    entry, owner = await accepted(store), await store.own(HOME)
    reply = outbound(TEXT)
    (id_,) = present(await owner.settle(entry, [reply], mark=True))
    at = await marked_ago(store, id_, 1_000)
    in_doubt = reply if "in doubt" in end else None
    if "buried" in end:
        assert await owner.bury_reply(id_, "never", in_doubt)
        assert not await owner.bury_reply(id_, "never", in_doubt)
    else:
        assert await owner.mark(id_, in_doubt) == 2
        assert (await owner.backlog()).marked == {id_: pytest.approx(time.monotonic(), abs=2)}
    first = Unlisted(id_, about(at, 2), "")
    assert await owner.unlisted(reply) == ([first] if in_doubt else [])
    if in_doubt:
        (key,) = [key async for key in store.client.scan_iter("*:unlisted:*")]
        assert 0 < await store.client.ttl(key) <= 60


async def test_what_an_earlier_version_kept_by_a_replys_words_is_passed_over(store: Store) -> None:
    """No doubt of the same words could be settled any more: its conversation would stand still."""
    entry, owner = await accepted(store), await store.own(HOME)
    reply = outbound(TEXT)
    (id_,) = present(await owner.settle(entry, [reply], mark=True))
    await owner.sent(id_, reply, "714")
    (key,) = [key async for key in store.client.scan_iter("*:unlisted:*")]
    await store.client.zadd(key, {f"{id_} 714": 1, "714": 2})
    assert [each.connector_id for each in await owner.unlisted(reply)] == ["714"]


async def test_what_is_kept_by_its_words_is_bounded_by_the_window(store: Store) -> None:
    """A bot that says the same for ever would fill Redis."""
    entry, owner = await accepted(store), await store.own(HOME)
    replies = [outbound(TEXT, n) for n in range(50)]
    ids = present(await owner.settle(entry, replies, mark=False))
    for n, (id_, reply) in enumerate(zip(ids, replies, strict=True)):
        await marked_ago(store, id_, 1_005 - n * 10)
        await owner.sent(id_, reply, str(n))
    kept = [each.connector_id for each in await owner.unlisted(replies[0])]
    assert kept == [str(n) for n in range(44, 50)]  # The window is a minute.


async def test_attempts_and_retry_times_outlive_the_owner(store: Store) -> None:
    """A crash that forgot them would loop for ever on a message that kills the process."""
    entry, owner = await accepted(store), await store.own(HOME)
    await owner.begin(entry)
    due = time.monotonic() + 12.345
    await owner.put_off_message(entry, 12_345, "it raised: no such order")
    await store.leases("worker").release(HOME, owner.token)
    successor = await store.own(HOME, "successor")
    assert may_have_notes(entry, (await successor.backlog()).noted_to)
    later, tries = await successor.notes([EntryId("1-1"), entry])
    assert later == {entry: Later(about(due, 1), "it raised: no such order")}
    assert tries == {entry: 1}
    assert await successor.begin(entry) == Begun(2)


async def test_putting_a_reply_off_keeps_its_doubt_only_when_told(store: Store) -> None:
    """A mark dropped too early sends twice; one kept too long asks the log for nothing."""
    entry, owner = await accepted(store), await store.own(HOME)
    (reply,) = present(await owner.settle(entry, [outbound(TEXT)], mark=True))
    await owner.put_off_reply(reply, 99, "503", in_doubt=True)
    assert (await owner.backlog()).marked.keys() == {reply}
    await owner.put_off_reply(reply, 100, "429", in_doubt=False)
    backlog = await owner.backlog()
    assert backlog.marked == {}
    assert [later.error for later in backlog.outbox_later.values()] == ["429"]


@pytest.mark.parametrize("queue", ["message", "reply"])
async def test_a_dead_letter_keeps_the_entry_its_error_and_its_attempts(
    store: Store, queue: str
) -> None:
    """What can't be handled must stay visible and replayable, whole."""
    entry, owner = await accepted(store), await store.own(HOME)
    if queue == "message":
        stored = (await store.client.xrange(KEYS.inbox))[0][1]
        await owner.begin(entry)
        buried = await owner.bury_message(entry, "it raised", "keyword HELP")
    else:
        (entry,) = present(await owner.settle(entry, [outbound(TEXT)], mark=True))
        stored = (await store.client.xrange(KEYS.outbox))[0][1]
        buried = await owner.bury_reply(entry, "400: refused")
    assert buried
    ((_, letter),) = await store.client.xrange(KEYS.dead)
    assert stored.items() <= letter.items()
    assert letter[b"tries"] == b"1"
    assert letter[b"error"] in {b"it raised", b"400: refused"}
    assert await store.client.xlen(KEYS.inbox) + await store.client.xlen(KEYS.outbox) == 0
    notes = (KEYS.inbox_tries, KEYS.outbox_tries, KEYS.outbox_marked)
    assert await store.client.exists(*notes) == 0


async def test_a_former_owner_commits_nothing(store: Store) -> None:
    """A worker that stalled longer than its lease would answer what its successor answered."""
    entry, stalled = await accepted(store), await store.own(HOME)
    (reply,) = present(await stalled.settle(entry, [outbound(TEXT)], mark=True))
    await store.client.delete(KEYS.lease)  # what its running out does
    await store.own(HOME, "successor")
    before = {key: await store.client.dump(key) for key in await store.client.keys("*")}
    for commit in (
        stalled.begin(entry),
        stalled.settle(entry, [outbound(TEXT)], mark=False),
        stalled.mark(reply),
        stalled.sent(reply, outbound(TEXT), "SMout"),
        stalled.put_off_message(entry, 1, ""),
        stalled.put_off_reply(reply, 1, "", in_doubt=False),
        stalled.bury_message(entry, ""),
        stalled.bury_reply(reply, ""),
        stalled.abandon(entry),
        stalled.note_opt_out(TEXT.conversation, out=True),
        stalled.restart(1),
    ):
        with pytest.raises(LeaseLost):
            await commit
    assert before == {key: await store.client.dump(key) for key in await store.client.keys("*")}


async def test_an_attempt_that_was_cut_short_is_taken_back(store: Store) -> None:
    """A few hand-overs would make a dead letter of a message that nothing is wrong with."""
    entry, owner = await accepted(store), await store.own(HOME)
    for _ in range(3):
        assert await owner.begin(entry) == Begun(1)
        await owner.abandon(entry)


async def test_a_reply_that_is_not_there_any_more_is_not_marked(store: Store) -> None:
    """It would be POSTed a second time, or left in doubt for ever."""
    entry, owner = await accepted(store), await store.own(HOME)
    (reply,) = present(await owner.settle(entry, [outbound(TEXT)], mark=True))
    await owner.sent(reply, outbound(TEXT), "SMout")
    with pytest.raises(StoreError, match="not in parley"):
        await owner.mark(reply)
    await owner.put_off_reply(reply, 99, "503", in_doubt=True)
    notes = (KEYS.outbox_tries, KEYS.outbox_marked, KEYS.outbox_later)
    assert await store.client.exists(*notes) == 0


async def test_a_restart_refuses_what_was_sent_before_it_and_prolongs_nothing(store: Store) -> None:
    """A commit or restart that Redis was slow to carry out would undo what came after it."""
    entry, owner = await accepted(store), await store.own(HOME)
    earlier = PartitionStore(store.client, store.batch, HOME, owner.token, sent_window_s=60)
    await store.client.pexpire(KEYS.lease, 3_000)
    await owner.restart(2)
    assert await store.client.pttl(KEYS.lease) <= 3_000
    for late in (earlier.settle(entry, [], mark=False), earlier.restart(1), earlier.restart(2)):
        with pytest.raises(LeaseLost):
            await late
    assert await owner.begin(entry) == Begun(1)


async def test_every_key_of_a_partition_shares_a_cluster_slot() -> None:
    """A script whose keys lie on two Cluster nodes is refused."""
    keys = PartitionKeys(Partition(7))
    names = [getattr(keys, name) for name in keys.__slots__ if name != "prefix"]
    assert all(name.startswith("parley:{p07}:") for name in names)
    assert len(set(names)) == len(names)


async def test_an_entry_can_be_read_again_until_it_is_settled(store: Store) -> None:
    """Messages far behind in a long inbox are kept by id only: their text would be lost."""
    entry, owner = await accepted(store), await store.own(HOME)
    found = await owner.fetch(entry)
    assert found is not None
    assert (found.id, found.value) == (entry, TEXT)
    await store.inbox.accept(message("SM2"))
    await owner.settle(entry, [], mark=False)
    assert await owner.fetch(entry) is None


async def test_whether_they_are_opted_out_is_told_with_the_attempt_and_ends_with_the_commit(
    store: Store,
) -> None:
    """A crash in between would take a START for one that Twilio has left to us, or the reverse."""
    (entry, owner), who = (await accepted(store), await store.own(HOME)), TEXT.conversation
    assert await owner.begin(entry, who) == Begun(1)
    await owner.note_opt_out(who, out=True)
    before = store.batch.round_trips
    assert await owner.begin(entry, who) == Begun(2, opted_out=True)
    assert store.batch.round_trips == before + 1
    assert await owner.begin(entry) == Begun(3), "nobody asked"
    await owner.settle(entry, [outbound(TEXT)], mark=True, opted_in=who)
    assert await store.client.hgetall(KEYS.optouts) == {}
    assert len((await owner.backlog()).outbox) == 1
    await owner.note_opt_out(who, out=True)
    assert await owner.settle(entry, [], mark=False, opted_in=who) is None
    assert await store.client.hgetall(KEYS.optouts) != {}, "settled before, so nothing changes"


async def test_every_time_that_is_kept_is_redis_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of workers whose clocks are hours apart, one would wait for hours for what another left."""
    monkeypatch.setattr(time, "time", lambda: 5.0)
    monkeypatch.setattr(time, "time_ns", lambda: 5_000_000_000)
    seconds, _ = await store.client.time()
    entry, owner = await accepted(store), await store.own(HOME)
    await owner.note_opt_out(TEXT.conversation, out=True)
    await owner.put_off_message(entry, 2_000, "it raised")
    kept = [(await store.client.hvals(KEYS.inbox_later))[0].partition(b" ")[0]]
    first, second = present(
        await owner.settle(entry, [outbound(TEXT, n) for n in (0, 1)], mark=True)
    )
    await owner.mark(second)
    kept += await store.client.hvals(KEYS.outbox_marked)
    await owner.put_off_reply(first, 3_000, "503", in_doubt=True)
    kept.append((await store.client.hvals(KEYS.outbox_later))[0].partition(b" ")[0])
    await owner.bury_reply(second, "refused")
    ((_, letter),) = await store.client.xrange(KEYS.dead)
    kept += [letter[b"at"], *await store.client.hvals(KEYS.optouts)]
    assert len(kept) == 6
    assert all(0 <= int(ms) / 1000 - seconds < 30 for ms in kept)


async def test_times_left_by_another_are_read_by_a_clock_that_nobody_sets(store: Store) -> None:
    """A mark, or a retry, of a moment ago would be one of an hour ago, or of the next hour."""
    entry, owner = await accepted(store), await store.own(HOME)
    (reply,) = present(await owner.settle(entry, [outbound(TEXT)], mark=True))
    seconds, _ = await store.client.time()
    await store.client.hset(KEYS.outbox_marked, reply, (seconds - 60) * 1_000)
    await store.client.hset(KEYS.outbox_later, reply, f"{(seconds + 40) * 1_000} 503")
    backlog = await owner.backlog()
    now = time.monotonic()
    assert backlog.marked[reply] - now == pytest.approx(-60, abs=3)
    assert backlog.outbox_later[reply].due - now == pytest.approx(40, abs=3)
