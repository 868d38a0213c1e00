"""Any sequence of store operations, by owners old and new, against a plain model."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from service.core import entries
from service.core.partitions import partition_of
from service.errors import LeaseLost, StoreError, StoreFull
from service.model import EntryId, Message, MessageSid, Outbound, Partition
from service.store.batch import Batch
from service.store.connection import connect
from service.store.dead_letters import DeadLetters
from service.store.inbox import Inbox
from service.store.keys import PartitionKeys
from service.store.leases import Leases
from service.store.opt_outs import field_of
from service.store.partition import Begun, PartitionStore
from tests.present import T
from tests.store.pieces import PARTITIONS, Store, message, outbound

COUNT = 2
LIMIT = 6
"""Messages an inbox may hold: low, so that its bound is met."""

NUMBERS = ["+15005550104", "+15005550100", "+15005550105", "+15005550101"]
"""Two conversations in each partition."""

CALLERS = {partition_of(message(theirs=number).conversation, COUNT): number for number in NUMBERS}
"""Somebody whose texts go to each partition."""

UNKNOWN = EntryId("1-1")
"""An entry that never was."""

Name = tuple[str | int, ...]
"""What a message or reply is called from its birth to its end."""

partitions = st.integers(0, COUNT - 1)
sids = (st.integers(0, 5) | st.integers(6, 99)).map("SM{}".format)
numbers = st.sampled_from(NUMBERS)
owners = st.sampled_from(["first", "second", "third"])
picks = st.integers(0, 5)
times = st.integers(1, 9_999)

NOW = "now"
"""What the model knows of a time."""


@dataclass
class Queue:
    """What an inbox or outbox has to hold."""

    held: dict[EntryId, Message | Outbound] = field(default_factory=dict)
    tries: dict[EntryId, int] = field(default_factory=dict)
    later: dict[EntryId, str] = field(default_factory=dict)
    gone: list[EntryId] = field(default_factory=list)

    def pick(self, number: int) -> EntryId:
        """Choose an entry that is there, one that was, or one that never was."""
        known = [*self.held, *self.gone[-1:], UNKNOWN]
        return known[number % len(known)]

    def take(self, entry: EntryId) -> Message | Outbound:
        """Remove an entry with everything noted about it."""
        self.tries.pop(entry, None)
        self.later.pop(entry, None)
        self.gone.append(entry)
        return self.held.pop(entry)


@dataclass
class Shard:
    """What one partition has to hold."""

    inbox: Queue = field(default_factory=Queue)
    outbox: Queue = field(default_factory=Queue)
    marked: dict[EntryId, str] = field(default_factory=dict)
    dead: dict[EntryId, tuple[Message | Outbound, str, int]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    opted_out: dict[str, int] = field(default_factory=dict)
    token: str | None = None
    epoch: int = 0


@dataclass(frozen=True)
class Found:
    """What Redis holds of one partition."""

    inbox: dict[EntryId, Message | Outbound]
    outbox: dict[EntryId, Message | Outbound]
    dead: dict[EntryId, tuple[Message | Outbound, str, int]]
    inbox_tries: dict[EntryId, int]
    inbox_later: dict[EntryId, str]
    outbox_tries: dict[EntryId, int]
    outbox_later: dict[EntryId, str]
    marked: dict[EntryId, str]
    opted_out: dict[str, int]
    token: str | None
    epoch: int


class StoreMachine(RuleBasedStateMachine):
    """One example: an empty Redis, one model, any operations in any order."""

    hands = Bundle("hands")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.shards = [Shard() for _ in range(COUNT)]
        self.keys = [PartitionKeys(Partition(p)) for p in range(COUNT)]
        self.born: Counter[Name] = Counter()
        self.ended: Counter[Name] = Counter()
        self.committing: dict[PartitionStore, str] = {}
        self.runner.run(self.open(url))

    async def open(self, url: str) -> None:
        client: Any = connect(url)
        self.client = client
        self.batch = Batch(self.client)
        self.inbox = Inbox(self.batch, partitions=COUNT, window_s=600, limit=LIMIT)
        self.letters = DeadLetters(self.client, self.batch, partitions=COUNT, inbox_limit=LIMIT)
        async for key in self.client.scan_iter("parley:*", count=1_000):
            await self.client.delete(key)

    def teardown(self) -> None:
        async def close() -> None:
            await self.batch.aclose()
            await self.client.aclose()

        self.runner.run(close())
        self.runner.close()

    @initialize(target=hands)
    def begin_at_work(self) -> Any:
        """Most sequences that matter begin with owners and with something to do."""
        for n, theirs in enumerate(NUMBERS):
            self.accept(f"SM{n}", theirs)
        return multiple(*(self.acquire(p, "first") for p in range(COUNT)))

    # What the door does.

    @rule(sid=sids, theirs=numbers)
    def accept(self, sid: str, theirs: str) -> None:
        text = message(sid, theirs)
        home = partition_of(text.conversation, COUNT)
        shard = self.shards[home]
        full = len(shard.inbox.held) >= LIMIT
        if sid not in shard.seen and full:
            with pytest.raises(StoreFull):
                self.runner.run(self.inbox.accept(text))
            return
        assert self.runner.run(self.inbox.accept(text)) == (sid not in shard.seen)
        self.note_accepted(text)

    def note_accepted(self, text: Message) -> None:
        home = partition_of(text.conversation, COUNT)
        shard = self.shards[home]
        if text.sid in shard.seen:
            return
        shard.seen.add(text.sid)
        shard.inbox.held[self.newest(self.keys[home].inbox)] = text
        self.born[name_of(home, text)] += 1

    # Who owns what.

    @rule(target=hands, partition=partitions, owner=owners)
    def take_over(self, partition: int, owner: str) -> Any:
        """An owner stalls longer than its lease, and comes back as a stale one."""
        self.expire(partition)
        return self.acquire(partition, owner)

    @rule(target=hands, partition=partitions, owner=owners)
    def acquire(self, partition: int, owner: str) -> Any:
        shard = self.shards[partition]
        token = self.runner.run(self.leases(owner).acquire(Partition(partition)))
        if shard.token is not None:
            assert token is None
            return multiple()
        shard.epoch += 1
        assert token == f"{owner}:{shard.epoch}"
        shard.token = token
        return PartitionStore(
            self.client, self.batch, Partition(partition), token, sent_window_s=600
        )

    @rule(hand=hands)
    def renew(self, hand: PartitionStore) -> None:
        leases = self.leases(hand.token.partition(":")[0])
        assert self.runner.run(leases.renew(hand.partition, hand.token)) == self.leads(hand)

    @rule(hand=hands)
    def release(self, hand: PartitionStore) -> None:
        owned = self.leads(hand)
        leases = self.leases(hand.token.partition(":")[0])
        assert self.runner.run(leases.release(hand.partition, hand.token)) == owned
        if owned:
            self.shards[hand.partition].token = None

    @rule(target=hands, hand=hands, number=st.integers(1, 4))
    def restart(self, hand: PartitionStore, number: int) -> Any:
        """A worker reads its partition anew: what it had sent to Redis before must not count."""
        shard = self.shards[hand.partition]
        anew = PartitionStore(
            self.client, self.batch, hand.partition, hand.token, sent_window_s=600
        )
        last = int((shard.token or "").partition(".")[2] or 0)
        if not self.leads(hand) or number <= last:
            with pytest.raises(LeaseLost):
                self.runner.run(anew.restart(number))
            return multiple()
        self.runner.run(anew.restart(number))
        shard.token = f"{hand.token}.{number}"
        self.committing[anew] = shard.token
        return anew

    def expire(self, partition: int) -> None:
        self.runner.run(_of(self.client.delete(self.keys[partition].lease)))
        self.shards[partition].token = None

    # What an owner, or one that takes itself for the owner, does with messages.

    @rule(hand=hands, pick=picks, theirs=st.none() | numbers)
    def begin(self, hand: PartitionStore, pick: int, theirs: str | None) -> None:
        shard = self.shards[hand.partition]
        queue = shard.inbox
        entry = queue.pick(pick)
        asked = message(theirs=theirs).conversation if theirs else None

        def check(begun: Begun | None) -> None:
            if entry not in queue.held:
                assert begun is None
                return
            queue.tries[entry] = queue.tries.get(entry, 0) + 1
            out = asked is not None and field_of(asked) in shard.opted_out
            assert begun == Begun(queue.tries[entry], opted_out=out)

        self.commit(hand, lambda: hand.begin(entry, asked), check)

    @rule(hand=hands, pick=picks)
    def abandon(self, hand: PartitionStore, pick: int) -> None:
        queue = self.shards[hand.partition].inbox
        entry = queue.pick(pick)

        def check(_: None) -> None:
            if queue.tries.get(entry):
                queue.tries[entry] -= 1

        self.commit(hand, lambda: hand.abandon(entry), check)

    @rule(
        hand=hands,
        pick=picks,
        count=st.integers(0, 3),
        mark=st.booleans(),
        theirs=st.none() | numbers,
    )
    def settle(
        self,
        hand: PartitionStore,
        pick: int,
        count: int,
        mark: bool,
        theirs: str | None,
    ) -> None:
        shard = self.shards[hand.partition]
        entry = shard.inbox.pick(pick)
        replies = self.replies(hand, entry, count)
        opted_in = message(theirs=theirs).conversation if theirs else None

        def check(ids: list[EntryId] | None) -> None:
            if opted_in and entry in shard.inbox.held:
                shard.opted_out.pop(field_of(opted_in), None)
            self.note_settled(hand, entry, replies, mark, ids)

        self.commit(
            hand,
            lambda: hand.settle(entry, replies, mark=mark, opted_in=opted_in),
            check,
        )

    @rule(hand=hands, pick=picks, mark=st.booleans(), sid=sids)
    def settle_as_another_arrives(
        self,
        hand: PartitionStore,
        pick: int,
        mark: bool,
        sid: str,
    ) -> None:
        """One round trip, so one millisecond: the two new entries may get the same id."""
        home = self.shards[hand.partition]
        text = message(sid, CALLERS[hand.partition])
        entry = home.inbox.pick(pick)
        if not self.owns(hand) or len(home.inbox.held) >= LIMIT:
            return
        replies = self.replies(hand, entry, 1)

        async def both() -> tuple[bool, list[EntryId] | None]:
            settling = asyncio.ensure_future(hand.settle(entry, replies, mark=mark))
            accepting = asyncio.ensure_future(self.inbox.accept(text))
            return await accepting, await settling

        new, ids = self.runner.run(both())
        assert new == (sid not in home.seen)
        self.note_settled(hand, entry, replies, mark, ids)
        self.note_accepted(text)

    def replies(self, hand: PartitionStore, entry: EntryId, count: int) -> list[Outbound]:
        """Make what settles an entry; a reply replayed settles as itself."""
        value = self.shards[hand.partition].inbox.held.get(entry)
        if isinstance(value, Outbound):
            return [value]
        return [outbound(value or message("SMgone"), n, f"hi {n}") for n in range(count)]

    def note_settled(
        self,
        hand: PartitionStore,
        entry: EntryId,
        replies: list[Outbound],
        mark: bool,
        ids: list[EntryId] | None,
    ) -> None:
        shard = self.shards[hand.partition]
        if entry not in shard.inbox.held:
            assert ids is None
            return
        value = shard.inbox.take(entry)
        if isinstance(value, Message):
            self.ended[name_of(hand.partition, value)] += 1
            self.born.update(name_of(hand.partition, reply) for reply in replies)
        assert ids is not None
        assert len(ids) == len(replies)
        shard.outbox.held |= dict(zip(ids, replies, strict=True))
        if ids and mark:
            shard.outbox.tries[ids[0]] = 1
            shard.marked[ids[0]] = NOW

    @rule(hand=hands, pick=picks, wait_ms=times)
    def put_off_message(self, hand: PartitionStore, pick: int, wait_ms: int) -> None:
        queue = self.shards[hand.partition].inbox
        entry = queue.pick(pick)

        def check(_: None) -> None:
            if entry in queue.held:
                queue.later[entry] = f"{NOW} it raised: no"

        self.commit(hand, lambda: hand.put_off_message(entry, wait_ms, "it raised: no"), check)

    @rule(hand=hands, pick=picks)
    def bury_message(self, hand: PartitionStore, pick: int) -> None:
        shard = self.shards[hand.partition]
        entry = shard.inbox.pick(pick)
        self.commit(
            hand,
            lambda: hand.bury_message(entry, "it raised", "default"),
            lambda moved: self.note_buried(hand.partition, shard.inbox, entry, "it raised", moved),
        )

    # The same, with replies.

    @rule(hand=hands, pick=picks)
    def mark(self, hand: PartitionStore, pick: int) -> None:
        shard = self.shards[hand.partition]
        entry = shard.outbox.pick(pick)
        if entry not in shard.outbox.held:
            # Nobody may POST what the outbox does not hold.
            with pytest.raises(LeaseLost if not self.owns(hand) else StoreError):
                self.runner.run(hand.mark(entry))
            return

        def check(tries: int) -> None:
            shard.marked[entry] = NOW
            shard.outbox.tries[entry] = shard.outbox.tries.get(entry, 0) + 1
            assert tries == shard.outbox.tries[entry]

        self.commit(hand, lambda: hand.mark(entry), check)

    @rule(hand=hands, pick=picks, sid=sids)
    def sent(self, hand: PartitionStore, pick: int, sid: str) -> None:
        shard = self.shards[hand.partition]
        entry = shard.outbox.pick(pick)
        value = shard.outbox.held.get(entry)
        reply = value if isinstance(value, Outbound) else outbound(message("SMgone"))

        def check(recorded: bool) -> None:
            assert recorded == (value is not None)
            if value is not None:
                shard.outbox.take(entry)
                shard.marked.pop(entry, None)
                shard.sent.add(f"out-{sid}")
                self.ended[name_of(hand.partition, reply)] += 1

        self.commit(hand, lambda: hand.sent(entry, reply, f"out-{sid}"), check)

    @rule(hand=hands, pick=picks, wait_ms=times, in_doubt=st.booleans())
    def put_off_reply(
        self,
        hand: PartitionStore,
        pick: int,
        wait_ms: int,
        in_doubt: bool,
    ) -> None:
        shard = self.shards[hand.partition]
        entry = shard.outbox.pick(pick)

        def check(_: None) -> None:
            if entry in shard.outbox.held:
                shard.outbox.later[entry] = f"{NOW} 503"
                if not in_doubt:
                    shard.marked.pop(entry, None)

        self.commit(
            hand, lambda: hand.put_off_reply(entry, wait_ms, "503", in_doubt=in_doubt), check
        )

    @rule(hand=hands, pick=picks)
    def bury_reply(self, hand: PartitionStore, pick: int) -> None:
        shard = self.shards[hand.partition]
        entry = shard.outbox.pick(pick)

        def check(moved: bool) -> None:
            self.note_buried(hand.partition, shard.outbox, entry, "refused", moved)
            shard.marked.pop(entry, None)

        self.commit(hand, lambda: hand.bury_reply(entry, "refused"), check)

    def note_buried(
        self,
        partition: Partition,
        queue: Queue,
        entry: EntryId,
        error: str,
        moved: bool,
    ) -> None:
        assert moved == (entry in queue.held)
        if moved:
            tries = queue.tries.get(entry, 0)
            id_ = self.newest(self.keys[partition].dead)
            self.shards[partition].dead[id_] = queue.take(entry), error, tries

    # What is noted of people.

    @rule(hand=hands, theirs=numbers, out=st.booleans())
    def note_opt_out(
        self,
        hand: PartitionStore,
        theirs: str,
        out: bool,
    ) -> None:
        shard = self.shards[hand.partition]
        conversation = message(theirs=theirs).conversation
        pair = f"{conversation.ours} {theirs}"

        def check(_: None) -> None:
            if not out:
                shard.opted_out.pop(pair, None)
            elif pair not in shard.opted_out:
                # Told again, it must stay what it is from now on.
                client: Any = self.client
                kept = self.runner.run(client.hget(self.keys[hand.partition].optouts, pair))
                assert around_now(kept) == NOW
                shard.opted_out[pair] = int(kept)

        self.commit(hand, lambda: hand.note_opt_out(conversation, out=out), check)

    # What an operator does.

    @rule(partition=partitions, pick=picks)
    def replay(self, partition: int, pick: int) -> None:
        shard = self.shards[partition]
        known = [*shard.dead, UNKNOWN]
        letter = known[pick % len(known)]
        id_ = f"{partition}-{letter}"
        if letter in shard.dead and len(shard.inbox.held) >= LIMIT:
            with pytest.raises(StoreFull):
                self.runner.run(self.letters.replay(id_))
            return
        assert self.runner.run(self.letters.replay(id_)) == (letter in shard.dead)
        if letter in shard.dead:
            value, _, _ = shard.dead.pop(letter)
            shard.inbox.held[self.newest(self.keys[partition].inbox)] = value

    @rule(partition=partitions, pick=picks)
    def drop(self, partition: int, pick: int) -> None:
        shard = self.shards[partition]
        known = [*shard.dead, UNKNOWN]
        letter = known[pick % len(known)]
        assert self.runner.run(self.letters.drop(f"{partition}-{letter}")) == (letter in shard.dead)
        if letter in shard.dead:
            value, _, _ = shard.dead.pop(letter)
            self.ended[name_of(partition, value)] += 1

    @rule()
    def scripts_are_forgotten(self) -> None:
        self.runner.run(_of(self.client.script_flush()))

    # What has to hold, whatever happened.

    @invariant()
    def redis_holds_what_was_promised(self) -> None:
        alive: Counter[Name] = Counter()
        for number, shard in enumerate(self.shards):
            found = self.runner.run(self.read(number))
            for queue in (found.inbox, found.outbox, {k: v for k, (v, _, _) in found.dead.items()}):
                alive.update(name_of(number, value) for value in queue.values())
            assert found.inbox_tries.keys() <= found.inbox.keys(), "attempts of nothing"
            assert found.inbox_later.keys() <= found.inbox.keys(), "a retry of nothing"
            assert found.outbox_tries.keys() <= found.outbox.keys(), "POSTs of nothing"
            assert found.outbox_later.keys() <= found.outbox.keys(), "another POST of nothing"
            assert found.marked.keys() <= found.outbox.keys(), "doubt about nothing"
            assert found == expected(shard)
            # Equal as lists: dictionaries compare without their order.
            assert list(found.inbox) == list(shard.inbox.held)
            assert list(found.outbox) == list(shard.outbox.held)
            assert list(found.dead) == list(shard.dead)
        assert set(self.born.values()) <= {1}
        assert alive + self.ended == self.born, "each in one place"

    # How the machine asks and looks.

    def leases(self, owner: str) -> Leases:
        return Leases(self.client, self.batch, owner=owner, ttl_ms=300_000)

    def owns(self, hand: PartitionStore) -> bool:
        """Whether its commits count: it holds the lease, and has not restarted since."""
        return self.shards[hand.partition].token == self.committing.get(hand, hand.token)

    def leads(self, hand: PartitionStore) -> bool:
        """Whether it holds the lease, restarted or not."""
        return (self.shards[hand.partition].token or "").partition(".")[0] == hand.token

    def commit(
        self,
        hand: PartitionStore,
        ask: Callable[[], Awaitable[Any]],
        check: Callable[[Any], None],
    ) -> None:
        """Ask as `hand`; when it owns nothing any more it must hear so, and the model stays."""

        async def run() -> Any:
            return await ask()

        if self.owns(hand):
            check(self.runner.run(run()))
            return
        with pytest.raises(LeaseLost):
            self.runner.run(run())

    def newest(self, stream: str) -> EntryId:
        client: Any = self.client
        ((id_, _),) = self.runner.run(client.xrevrange(stream, count=1))
        return EntryId(id_.decode())

    async def read(self, number: int) -> Found:
        keys, shard = self.keys[number], self.shards[number]
        pipeline: Any = self.client.pipeline(transaction=False)
        for stream in (keys.inbox, keys.outbox, keys.dead):
            pipeline.xrange(stream)
        for notes in (keys.inbox_tries, keys.outbox_tries, keys.outbox_marked, keys.optouts):
            pipeline.hgetall(notes)
        for notes in (keys.inbox_later, keys.outbox_later):
            pipeline.hgetall(notes)
        pipeline.get(keys.lease)
        pipeline.get(keys.epoch)
        remembered = [keys.seen(MessageSid(sid)) for sid in shard.seen] + [
            keys.sent(s) for s in shard.sent
        ]
        for key in remembered:
            pipeline.exists(key)
        inbox, outbox, dead, *rest = await pipeline.execute()
        counts, marked, opted_out = rest[:2], rest[2], rest[3]
        texts, (token, epoch, *known) = rest[4:6], rest[6:]
        assert all(known), "an accepted sid, or a sent one, is forgotten"
        tries, posts = ({_id(k): int(v) for k, v in each.items()} for each in counts)
        later, posts_later = ({_id(k): _note(v) for k, v in each.items()} for each in texts)
        return Found(
            inbox={_id(id_): entries.decode(fields) for id_, fields in inbox},
            outbox={_id(id_): entries.decode(fields) for id_, fields in outbox},
            dead={
                _id(id_): (
                    entries.decode(fields),
                    fields[b"error"].decode(),
                    int(fields[b"tries"]),
                )
                for id_, fields in dead
            },
            inbox_tries=tries,
            inbox_later=later,
            outbox_tries=posts,
            outbox_later=posts_later,
            marked={_id(k): around_now(v) for k, v in marked.items()},
            opted_out={pair.decode(): int(at_ms) for pair, at_ms in opted_out.items()},
            token=token.decode() if token else None,
            epoch=int(epoch or 0),
        )


def expected(shard: Shard) -> Found:
    """Put the model in the form in which Redis is read."""
    return Found(
        inbox=shard.inbox.held,
        outbox=shard.outbox.held,
        dead=shard.dead,
        inbox_tries=shard.inbox.tries,
        inbox_later=shard.inbox.later,
        outbox_tries=shard.outbox.tries,
        outbox_later=shard.outbox.later,
        marked=shard.marked,
        opted_out=shard.opted_out,
        token=shard.token,
        epoch=shard.epoch,
    )


def name_of(partition: int, value: Message | Outbound) -> Name:
    """Name a message or reply; a sid is remembered by partition, so it counts by partition."""
    if isinstance(value, Message):
        return partition, value.sid
    return partition, value.reply_to, value.index


def around_now(ms: bytes) -> str:
    """Return NOW for a time near the present, which Redis's clock tells; any other as it is."""
    return NOW if abs(int(ms) / 1000 - time.time()) < 600 else ms.decode()


async def _of(answer: Awaitable[T]) -> T:
    return await answer


def _note(raw: bytes) -> str:
    next_ms, _, error = raw.partition(b" ")
    return f"{around_now(next_ms)} {error.decode()}"


def _id(raw: bytes) -> EntryId:
    return EntryId(raw.decode())


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["put off", "buried"])
async def test_a_message_with_the_id_of_a_reply_leaves_the_doubt_about_the_reply(
    store: Store, end: str
) -> None:
    """Two queues filled in one millisecond share ids; a lost doubt sends the reply twice."""
    text = message()
    home = partition_of(text.conversation, PARTITIONS)
    keys, owner = PartitionKeys(home), await store.own(home)
    await store.inbox.accept(text)
    ((_, fields),) = await store.client.xrange(keys.inbox)
    entry = EntryId("9000000000000-0")
    await store.client.xadd(keys.inbox, fields, id=entry)
    await store.client.xadd(keys.outbox, fields, id=entry)
    await owner.mark(entry)
    if end == "put off":
        await owner.put_off_message(entry, 1, "it raised")
    else:
        await owner.bury_message(entry, "it raised")
    assert (await owner.backlog()).marked.keys() == {entry}


@pytest.mark.timeout(400)  # A failure takes minutes to be made short enough to read.
def test_whatever_happens_everything_is_in_one_place_and_in_order(redis_process: str) -> None:
    """A text lost, answered twice or out of turn, after some rare sequence of events."""
    run_state_machine_as_test(
        lambda: StoreMachine(redis_process),  # type: ignore[arg-type]  # called, as its docs say  # type: ignore[arg-type]  # called, as its docs say
        settings=settings(
            max_examples=100,
            stateful_step_count=50,
            deadline=None,
            derandomize=bool(os.environ.get("CI")),
            print_blob=True,
            phases=set(Phase) - {Phase.explain},
            suppress_health_check=list(HealthCheck),
        ),
    )
