"""Dead letters: seen, replayed in order, dropped; each exactly once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.core.partitions import partition_of
from service.errors import StoreFull
from service.model import Conversation, Message
from service.store.backlog import read_entries
from service.store.dead_letters import DeadLetter, DeadLetters, Filter
from service.store.keys import PartitionKeys
from tests.present import present
from tests.store.pieces import PARTITIONS, Store, message, outbound

pytestmark = pytest.mark.anyio

TEXT = message("SM1")
HOME = partition_of(TEXT.conversation, PARTITIONS)
KEYS = PartitionKeys(HOME)


TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def dead(store: Store) -> DeadLetters:
    """The dead letters of the store."""
    return DeadLetters(store.client, store.batch, partitions=PARTITIONS, inbox_limit=10)


async def bury(
    store: Store, *texts: Message, reply: bool = False, error: str = "it raised"
) -> None:
    """Make dead letters of these messages, or of a reply to each."""
    owner = await store.own(HOME)
    for text in texts:
        await store.inbox.accept(text)
        entry = read_entries(await store.client.xrange(KEYS.inbox))[-1].id
        if reply:
            (entry,) = present(await owner.settle(entry, [outbound(text)], mark=False))
            await owner.bury_reply(entry, error)
        else:
            await owner.bury_message(entry, error, "keyword HELP")
    await store.leases("worker").release(HOME, owner.token)


async def everything(dead: DeadLetters, wanted: Filter = Filter()) -> list[DeadLetter]:  # noqa: B008  (frozen)
    """List what matches."""
    return [letter async for letter in dead.find(wanted)]


async def test_a_dead_message_is_listed_with_all_that_is_known(
    store: Store, dead: DeadLetters
) -> None:
    """An operator who is paged has to see what happened and to whom."""
    await bury(store, TEXT, error="KeyError: 'A-9'")
    (letter,) = await everything(dead)
    assert letter.value == TEXT
    assert (letter.kind, letter.route, letter.theirs) == ("message", "keyword HELP", TEXT.from_)
    assert letter.error == "KeyError: 'A-9'"
    assert abs(letter.at - datetime.now(UTC)) < timedelta(minutes=1)
    assert await dead.get(letter.id) == letter
    assert await dead.count() == 1


async def test_a_replayed_message_is_back_in_its_inbox_once(
    store: Store, dead: DeadLetters
) -> None:
    """Replaying twice, by two operators, must not answer twice."""
    await bury(store, TEXT)
    (letter,) = await everything(dead)
    assert [await dead.replay(letter.id) for _ in range(2)] == [True, False]
    (entry,) = read_entries(await store.client.xrange(KEYS.inbox))
    assert entry.value == TEXT
    assert await dead.count() == 0


async def test_a_replayed_reply_takes_its_conversations_turn(
    store: Store, dead: DeadLetters
) -> None:
    """Put straight into the outbox it would have two writers, and could overtake."""
    await bury(store, TEXT, reply=True)
    (letter,) = await everything(dead)
    assert (letter.kind, letter.value) == ("reply", outbound(TEXT))
    assert await dead.replay(letter.id)
    (entry,) = read_entries(await store.client.xrange(KEYS.inbox))
    assert entry.value == outbound(TEXT)


async def test_replaying_all_keeps_the_order_of_a_conversation(
    store: Store, dead: DeadLetters
) -> None:
    """A conversation would be continued backwards."""
    texts = [message(f"SM{i}") for i in range(6)]
    await bury(store, *texts)
    for letter in await everything(dead):
        await dead.replay(letter.id)
    back = read_entries(await store.client.xrange(KEYS.inbox))
    assert [entry.value for entry in back] == texts


async def test_a_full_inbox_keeps_the_dead_letter(store: Store, dead: DeadLetters) -> None:
    """It would be gone from both."""
    await bury(store, TEXT)
    for i in range(10):
        await store.inbox.accept(message(f"SMx{i}"))
    (letter,) = await everything(dead)
    with pytest.raises(StoreFull):
        await dead.replay(letter.id)
    assert await dead.get(letter.id) == letter
    assert await store.client.xlen(KEYS.inbox) == 10


async def test_a_dropped_one_is_gone(store: Store, dead: DeadLetters) -> None:
    """A list that never empties is read by nobody."""
    await bury(store, TEXT)
    (letter,) = await everything(dead)
    assert [await dead.drop(letter.id) for _ in range(2)] == [True, False]
    assert await everything(dead) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param(Filter(), True, id="no filter"),
        pytest.param(Filter(number="+15005550123"), True, id="their number"),
        pytest.param(Filter(number="+15005550100"), True, id="our number"),
        pytest.param(Filter(number="+1500555"), False, id="part of a number"),
        pytest.param(Filter(route="keyword HELP"), True, id="route"),
        pytest.param(Filter(route="default"), False, id="another route"),
        pytest.param(Filter(error="RAISED"), True, id="part of the error"),
        pytest.param(Filter(error="time"), False, id="another error"),
        pytest.param(Filter(before=TOMORROW), True, id="old enough"),
        pytest.param(Filter(before=datetime.fromtimestamp(1, UTC)), False, id="too young"),
        pytest.param(Filter(route="keyword HELP", error="time"), False, id="all have to match"),
    ],
)
async def test_a_filter_finds_what_it_says(
    store: Store, dead: DeadLetters, wanted: Filter, found: bool
) -> None:
    """`replay --all` with a filter that matches too much sends what nobody asked for."""
    await bury(store, TEXT)
    assert bool(await everything(dead, wanted)) is found


@pytest.mark.parametrize("id_", ["", "7", "x-1-1", "99-1-1", "0-1", "0-1-x", "0-1-1-1", "²-1-1"])
async def test_what_is_no_id_finds_nothing(dead: DeadLetters, id_: str) -> None:
    """A slip of the keyboard would end in a traceback, or in another partition."""
    assert await dead.get(id_) is None
    assert not await dead.replay(id_)
    assert not await dead.drop(id_)


async def test_an_unreadable_entry_is_listed_and_kept_whole(
    store: Store, dead: DeadLetters
) -> None:
    """What a newer version wrote has to survive until this one is upgraded."""
    fields = {"v": "9", "k": "m", "d": "later", "error": "newer", "tries": "0", "at": "1"}
    await store.client.xadd(KEYS.dead, fields)
    (letter,) = await everything(dead)
    assert (letter.value, letter.theirs) == (None, "")
    assert await dead.replay(letter.id)
    ((_, stored),) = await store.client.xrange(KEYS.inbox)
    assert stored == {b"v": b"9", b"k": b"m", b"d": b"later"}


def test_a_conversation_names_both_ends() -> None:
    """Filters by number look at either."""
    assert Conversation("ours", "theirs") == ("ours", "theirs")
