"""The line by itself, against a plain model; and conversation queues over it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from service.model import Conversation, EntryId
from service.workers.lanes import Lanes
from service.workers.line import NEAR, Line
from tests.workers.pieces import unexpected

conversations = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3)
times = st.integers(0, 9).map(float)


@dataclass
class Waits:
    """What the model knows of a conversation: its entries in order, and when each is due."""

    entries: list[tuple[int, int]] = field(default_factory=list)
    due: dict[tuple[int, int], float] = field(default_factory=dict)
    under_way: tuple[int, int] | None = None


class LineMachine(RuleBasedStateMachine):
    """Entries come in the order of the stream, begin, end, or are put off."""

    near = NEAR

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(self.near)
        self.model: dict[int, Waits] = defaultdict(Waits)
        self.last = (5, 0)

    def teardown(self) -> None:
        self.line.close()

    @rule(key=conversations, due=times, same_ms=st.booleans())
    def arrive(self, key: int, due: float, same_ms: bool) -> None:
        ms, seq = self.last
        self.last = place = (ms, seq + 1) if same_ms else (ms + 1, 0)
        waits = self.model[key]
        head = not waits.entries and waits.under_way is None
        self.line.add(key, EntryId(f"{place[0]}-{place[1]}"), due, head=head)
        waits.entries.append(place)
        waits.due[place] = due

    @rule(now=times)
    def take(self, now: float) -> None:
        heads = sorted(
            (waits.due[waits.entries[0]], waits.entries[0], key)
            for key, waits in self.model.items()
            if waits.entries and waits.under_way is None
        )
        found = self.line.take(now)
        if not heads or heads[0][0] > now:
            assert found == (heads[0][0] if heads else None)
            return
        _, (ms, seq), key = heads[0]
        assert found == (key, f"{ms}-{seq}")
        self.model[key].under_way = self.model[key].entries.pop(0)

    @rule(pick=st.integers(0, 9), due=st.none() | times)
    def end(self, pick: int, due: float | None) -> None:
        under_way = [key for key, waits in self.model.items() if waits.under_way]
        if not under_way:
            return
        key = under_way[pick % len(under_way)]
        waits = self.model[key]
        assert waits.under_way is not None
        if due is None:
            self.line.promote(key)
        else:
            ms, seq = waits.under_way
            self.line.add(key, EntryId(f"{ms}-{seq}"), due, head=True)
            waits.entries.insert(0, waits.under_way)
            waits.due[waits.under_way] = due
        waits.under_way = None

    @invariant()
    def it_holds_what_waits(self) -> None:
        assert len(self.line) == sum(len(waits.entries) for waits in self.model.values())
        for key, waits in self.model.items():
            assert (key in self.line) == bool(waits.entries)


@pytest.mark.parametrize("near", [0, 2, NEAR])
def test_the_head_that_has_been_due_longest_comes_first_and_nothing_overtakes_a_head(
    near: int,
) -> None:
    """A text would be lost, answered out of turn, or never."""
    machine = type("LineMachine", (LineMachine,), {"near": near})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None)
    )


attempts = st.lists(st.sampled_from(["off", "off", "fail", "close"]), max_size=3)
streams = st.lists(st.tuples(st.integers(0, 5), attempts), max_size=25)


@pytest.mark.parametrize("width", [1, 3])
@given(stream=streams, dead=st.sets(st.integers(0, 5), max_size=2))
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
def test_whatever_fails_is_put_off_or_closed_each_conversation_is_finished_in_order(
    width: int, stream: list[tuple[int, list[str]]], dead: set[int]
) -> None:
    """A text would be lost, answered twice or out of turn, or wait for another's failure."""
    asyncio.run(_work_off(stream, dead, width))


async def _work_off(
    stream: list[tuple[int, list[str]]], dead: set[int], width: int, within_s: float = 5
) -> None:
    """Take a stream through rounds, as an owner does, and check what comes of it.

    stream: by entry, its conversation, and how its attempts end before the one that ends well.
    dead: conversations whose first entry is put off for ever.
    """
    left = {EntryId(f"{1 + n // 3}-{n % 3}"): each for n, each in enumerate(stream)}
    order = {entry: place for place, entry in enumerate(left)}
    plans = {entry: list(plan) for entry, (_, plan) in left.items()}
    finished: dict[int, list[EntryId]] = defaultdict(list)
    under_way: dict[int, EntryId] = {}
    over = asyncio.Event()

    async def work(entry: EntryId) -> float | None:
        who = left[entry][0]
        assert who not in under_way, "two of a conversation at once"
        assert len(under_way) < width
        assert all(order[each] >= order[entry] for each in left if left[each][0] == who)
        under_way[who] = entry
        try:
            await asyncio.sleep(0)
            if who in dead:
                return time.monotonic() + 3_600
            outcome = plans[entry].pop(0) if plans[entry] else ""
            if outcome == "off":
                return time.monotonic() + 0.002
            if outcome == "fail":
                raise ConnectionError
            if outcome == "close":
                over.set()
                await asyncio.sleep(3_600)
            finished[who].append(entry)
            del left[entry]
            return None
        finally:
            del under_way[who]

    failures: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failures.append(error)
        over.set()

    deadline = time.monotonic() + within_s
    while any(who not in dead for who, _ in left.values()):
        over.clear()
        lanes = Lanes(work, failed, width)
        for entry, (who, _) in list(left.items()):
            lanes.put(Conversation("+1", str(who)), entry)
            if entry.endswith("1"):
                await asyncio.sleep(0)
        assert lanes.pending >= len(under_way)
        while not over.is_set() and any(who not in dead for who, _ in left.values()):
            assert time.monotonic() < deadline, f"{left} wait for ever"
            await asyncio.sleep(0.001)
        await lanes.close(0)
        assert not under_way
    assert all(isinstance(failure, ConnectionError) for failure in failures), failures
    for who in {who for who, _ in stream} - dead:
        entries = [entry for entry, place in order.items() if stream[place][0] == who]
        assert finished[who] == entries


@pytest.mark.anyio
async def test_what_waits_for_its_time_has_no_lane_and_begins_when_it_has_come() -> None:
    """As many failing conversations as there are lanes would silence all the others."""
    begun: list[tuple[EntryId, float]] = []
    due = time.monotonic() + 0.2

    async def work(entry: EntryId) -> float | None:
        begun.append((entry, time.monotonic()))
        return due if entry.startswith("1-") and len(begun) <= 8 else None

    lanes = Lanes(work, unexpected, 2)
    for n in range(8):
        assert lanes.put(Conversation("+1", str(n)), EntryId(f"1-{n}"))
    while len(begun) < 8:
        await asyncio.sleep(0)
    lanes.put(Conversation("+1", "new"), EntryId("2-0"))
    lanes.put(Conversation("+1", "0"), EntryId("2-1"), due + 0.001)
    await asyncio.sleep(0.05)
    assert [entry for entry, _ in begun[8:]] == ["2-0"]
    await asyncio.sleep(0.4)
    assert [entry for entry, _ in begun[9:]] == [*(f"1-{n}" for n in range(8)), "2-1"]
    assert all(at >= due for _, at in begun[9:])
    await lanes.close(0)


@pytest.mark.anyio
async def test_of_those_that_may_begin_the_one_due_longest_gets_the_next_lane() -> None:
    """Texts accepted before a failure would wait for all of its retries, or retries for ever."""
    begun: list[str] = []
    gate = asyncio.Event()

    async def work(entry: EntryId) -> None:
        begun.append(entry)
        await gate.wait()

    lanes = Lanes(work, unexpected, 1)
    now = time.monotonic()
    lanes.put(Conversation("+1", "busy"), EntryId("1-0"), now - 9)
    for n, due in enumerate((now - 1, now - 3, now - 2)):
        lanes.put(Conversation("+1", str(n)), EntryId(f"2-{n}"), due)
    lanes.put(Conversation("+1", "busy"), EntryId("3-0"), now - 8)
    gate.set()
    async with asyncio.timeout(10):
        while len(begun) < 5:
            await asyncio.sleep(0.01)
    assert begun == ["1-0", "3-0", "2-1", "2-2", "2-0"]
    await lanes.close(0)
