"""Conversation queues by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.model import Conversation, EntryId
from service.workers.lanes import Lanes

pytestmark = pytest.mark.anyio

ONE, OTHER = Conversation("+1", "+2"), Conversation("+1", "+3")
STUCK = WAITS = EntryId("7-0")
POSTS_FIRST = EntryId("7-1")


class Desk:
    """Work that waits to be let go, and notes what happened.

    again: when to begin once more with an item, by its name.
    """

    def __init__(self, width: int = 8) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.failures: list[BaseException] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.again: dict[str, float] = {}
        self.names: dict[EntryId, str] = {}
        self.lanes = Lanes(self.work, self.failures.append, width)

    def put(self, conversation: Conversation, item: str, due: float = 0) -> bool:
        entry = EntryId(f"9-{len(self.names)}")
        self.names[entry] = item
        return self.lanes.put(conversation, entry, due)

    def gate(self, item: str) -> asyncio.Event:
        return self.gates.setdefault(item, asyncio.Event())

    async def work(self, entry: EntryId) -> float | None:
        item = self.names[entry]
        self.begun.append(item)
        if item.startswith("bad"):
            raise ValueError(item)
        await self.gate(item).wait()
        if (due := self.again.pop(item, None)) is not None:
            return due
        self.ended.append(item)
        return None


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Conversation queues that end with the test."""
    made = Desk()
    yield made
    await made.lanes.close(0)


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_conversation_is_worked_off_in_order_one_at_a_time(desk: Desk) -> None:
    """Answers would overtake one another."""
    for item in ("a", "b", "c"):
        desk.put(ONE, item)
    desk.gate("c").set()
    desk.gate("b").set()
    await settled()
    assert desk.begun == ["a"]
    desk.gate("a").set()
    await settled()
    assert desk.ended == ["a", "b", "c"]


async def test_conversations_are_worked_off_side_by_side(desk: Desk) -> None:
    """One slow customer would silence all the others."""
    desk.put(ONE, "slow")
    desk.put(OTHER, "quick")
    desk.gate("quick").set()
    await settled()
    assert desk.ended == ["quick"]
    assert not desk.lanes.idle(ONE)
    assert desk.lanes.idle(OTHER)
    await desk.lanes.close(0)


async def test_an_idle_conversation_takes_new_items(desk: Desk) -> None:
    """The second text of a customer would never be answered."""
    for item in ("first", "second"):
        desk.gate(item).set()
        desk.put(ONE, item)
        await settled()
    assert desk.ended == ["first", "second"]


async def test_pending_counts_what_is_queued_and_what_is_under_way(desk: Desk) -> None:
    """The bounds on queues would let too much in, or close for ever."""
    for conversation, item in ((ONE, "a"), (ONE, "b"), (OTHER, "c")):
        desk.put(conversation, item)
    await settled()
    assert desk.lanes.pending == 3
    desk.gate("a").set()
    await settled()
    assert desk.lanes.pending == 2
    await desk.lanes.close(0)
    assert desk.lanes.pending == 0


async def test_closing_lets_what_is_under_way_finish_and_begins_nothing_new(desk: Desk) -> None:
    """A clean stop would cut handlers short, or never end."""
    desk.put(ONE, "under way")
    desk.put(ONE, "behind it")
    await settled()
    closing = asyncio.create_task(desk.lanes.close(5))
    await settled()
    desk.put(OTHER, "too late")
    desk.gate("under way").set()
    await asyncio.wait_for(closing, 1)
    assert desk.ended == ["under way"]
    assert desk.begun == ["under way"]
    assert desk.failures == []


async def test_closing_cancels_what_outlasts_its_grace_and_waits_for_its_end() -> None:
    """A hand-over would let two workers handle the same message at once."""
    ended: list[EntryId | BaseException] = []

    async def work(entry: EntryId) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ended.append(entry)

    lanes = Lanes(work, ended.append)
    lanes.put(ONE, STUCK)
    await settled()
    await lanes.close(0.01)
    assert ended == [STUCK]
    assert lanes.pending == 0


async def test_closing_ends_a_wait_at_once_whether_it_has_begun_or_not() -> None:
    """A stop would take all of its grace because of one reply that waits for its next attempt."""
    ended: list[EntryId | BaseException] = []
    posted = asyncio.Event()

    async def work(entry: EntryId) -> None:
        if entry == POSTS_FIRST:
            await posted.wait()
        try:
            with lanes.pausing():
                await asyncio.sleep(60)
        finally:
            ended.append(entry)

    lanes = Lanes(work, ended.append)
    lanes.put(ONE, WAITS)
    lanes.put(OTHER, POSTS_FIRST)
    await settled()
    closing = asyncio.create_task(lanes.close(30))
    await settled()
    assert ended == [WAITS], "and nothing that is under way"
    posted.set()
    await asyncio.wait_for(closing, 5)
    assert ended == [WAITS, POSTS_FIRST]
    assert lanes.pending == 0


async def test_a_failure_is_told_once_and_the_item_behind_it_is_not_begun(desk: Desk) -> None:
    """After Redis fails, a message would overtake the one before it."""
    desk.put(ONE, "bad news")
    desk.put(ONE, "behind it")
    await settled()
    assert [str(failure) for failure in desk.failures] == ["bad news"]
    assert desk.begun == ["bad news"]
    await desk.lanes.close(0)
    assert desk.lanes.pending == 0


async def test_no_item_of_a_failed_conversation_is_begun_after_the_failure(desk: Desk) -> None:
    """An item put in before the owner has closed the lanes would overtake the failed one."""
    desk.put(ONE, "bad news")
    await settled()
    desk.put(ONE, "next")
    await settled()
    assert desk.begun == ["bad news"]
    await desk.lanes.close(0)


async def test_a_failure_ends_the_other_conversations_and_is_told_once(desk: Desk) -> None:
    """A partition that starts over would be told so again in the middle of its next round."""
    desk.put(ONE, "bad news")
    desk.put(OTHER, "bad too")
    await settled()
    await desk.lanes.close(0)
    assert len(desk.failures) == 1


async def test_work_that_is_cancelled_from_within_is_a_failure() -> None:
    """Its conversation would stand still, or its next text be answered before it."""
    failures: list[BaseException] = []

    async def work(entry: EntryId) -> None:
        raise asyncio.CancelledError

    lanes = Lanes(work, failures.append)
    lanes.put(ONE, EntryId("1-0"))
    await settled()
    assert [type(each) for each in failures] == [RuntimeError]
    await lanes.close(0)


async def test_a_closed_conversation_is_not_idle(desk: Desk) -> None:
    """A reply would be marked as being POSTed that nobody POSTs any more, and be in doubt."""
    assert desk.lanes.idle(ONE)
    await desk.lanes.close(0)
    assert not desk.lanes.idle(ONE)
