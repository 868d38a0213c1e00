"""Handlers through a whole worker: retries, dead letters, one conversation beside another."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.core.retry import Schedule
from service.handlers.router import Router
from service.model import EntryId, Message
from service.store.backlog import Entry
from service.store.opt_outs import list_opt_outs
from service.store.partition import Begun, PartitionStore
from service.store.scripts import BEGIN
from service.workers.handling import Processor
from service.workers.sending import OUTBOX_LIMIT, Sender
from tests.present import as_a, present
from tests.store.pieces import outbound
from tests.workers.pieces import KEYS, Desk, Phone, at_work, echo, text, unexpected, until, ways

pytestmark = pytest.mark.anyio


async def test_a_failing_handler_is_retried_after_a_wait_and_then_its_message_is_a_dead_letter(
    desk: Desk, phone: Phone
) -> None:
    """One outage of a database would lose the text, or the text would be tried for ever."""
    router, began = Router(), []

    @router.default
    def fail(message: Message) -> None:
        began.append(time.monotonic())
        raise KeyError("A-9")

    waits = Schedule(first_ms=500, longest_ms=5_000, attempts=3)
    await desk.take_in(text("SM1"))
    async with ways(router, phone.url, handlers=waits) as how, at_work(desk, how):
        await until(lambda: len(began) == 1)
        await until(lambda: _noted(desk))
        await until(desk.empty)
    (letter,) = await desk.dead()
    assert (letter.tries, letter.route, len(began)) == (3, "default", 3)
    assert "KeyError" in letter.error
    assert began[1] - began[0] >= 0.05
    assert began[2] - began[1] >= 0.1
    assert phone.posts == []


async def _noted(desk: Desk) -> bool:
    notes = await desk.client.hgetall(KEYS.inbox_later)
    return any(b"KeyError" in note for note in notes.values())


async def test_a_handler_that_recovers_answers_once(desk: Desk, phone: Phone) -> None:
    """A passing failure would be answered by nothing, or by two texts."""
    router, outcomes = Router(), [RuntimeError("not yet"), None]

    @router.default
    async def answer(message: Message) -> str:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome
        return "there you are"

    await desk.take_in(text("SM1"))
    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.texts == ["there you are"]
    assert await desk.dead() == []


async def test_a_hanging_handler_holds_up_its_own_conversation_only(
    desk: Desk, phone: Phone
) -> None:
    """One stuck customer would silence all the others."""
    router, release = Router(), asyncio.Event()

    @router.default
    async def answer(message: Message) -> str:
        if message.body == "hang":
            await release.wait()
        return message.body

    await desk.take_in(text("SM1", "hang"), text("SM2", "behind it"))
    await desk.take_in(text("SM3", "beside it", theirs="+15005550124"))
    async with ways(router, phone.url, timeout_s=30) as how, at_work(desk, how):
        await until(lambda: phone.texts == ["beside it"])
        await asyncio.sleep(0.1)
        assert phone.texts == ["beside it"]
        release.set()
        await until(desk.empty)
    assert phone.texts == ["beside it", "hang", "behind it"]


async def test_a_handler_that_takes_too_long_is_ended_and_the_conversation_goes_on(
    desk: Desk, phone: Phone
) -> None:
    """A handler that never returns would block its conversation for ever."""
    router = Router()

    @router.default
    async def answer(message: Message) -> str:
        await asyncio.sleep(60 if message.body == "hang" else 0)
        return message.body

    await desk.take_in(text("SM1", "hang"), text("SM2", "next"))
    async with ways(router, phone.url, timeout_s=0.1) as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.texts == ["next"]
    assert [as_a(Message, letter.value).body for letter in await desk.dead()] == ["hang"]


async def test_a_message_whose_attempts_are_used_up_is_buried_without_running_its_handler(
    desk: Desk, phone: Phone
) -> None:
    """A text that kills the process would kill it for ever."""
    router, ran = Router(), []
    router.default(lambda message: ran.append(message.sid))
    deadly, harmless = await desk.take_in(text("SM1"), text("SM2"))
    async with desk.owned() as earlier:
        assert [present(await earlier.begin(deadly)).number for _ in range(3)] == [1, 2, 3]
        await earlier.begin(harmless)
    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    (letter,) = await desk.dead()
    assert ran == ["SM2"]
    assert as_a(Message, letter.value).sid == "SM1"
    assert "never ended" in letter.error


async def test_messages_that_were_under_way_when_processes_died_have_their_last_attempt_apart(
    desk: Desk, phone: Phone
) -> None:
    """One that kills its process would take all it ran beside along to the dead letters."""
    router, running, most = Router(), [], []

    @router.default
    async def note(message: Message) -> None:
        running.append(message.sid)
        most.append(len(running))
        await asyncio.sleep(0.05)
        running.remove(message.sid)

    suspects = [text(f"SM{n}", theirs=f"+150055502{n:02}") for n in range(5)]
    entries = await desk.take_in(*suspects)
    async with desk.owned() as earlier:
        for entry in entries:
            assert [present(await earlier.begin(entry)).number for _ in range(2)] == [1, 2]
    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(desk.empty)
        assert most == [1] * 5
        await desk.take_in(*(text(f"SN{n}", theirs=f"+150055502{n:02}") for n in range(5)))
        await until(desk.empty)
        assert max(most) > 1, "others run side by side"
    assert await desk.dead() == []


async def test_a_stop_takes_no_attempt_from_the_message_it_cuts_short(
    desk: Desk, phone: Phone
) -> None:
    """Three deployments in a row would make a dead letter of a text nobody failed to handle."""
    router, began = Router(), asyncio.Event()

    @router.default
    async def hang(message: Message) -> None:
        began.set()
        await asyncio.sleep(60)

    (entry,) = await desk.take_in(text("SM1"))
    async with ways(router, phone.url, timeout_s=30) as how, at_work(desk, how):
        await began.wait()
    async with desk.owned() as later:
        assert await later.begin(entry) == Begun(1)


async def test_a_stop_while_an_attempt_is_being_counted_takes_it_back(desk: Desk) -> None:
    """Five deployments in a row, each at that moment, make a dead letter of an innocent text."""
    (entry,) = await desk.take_in(text("SM1"))
    async with desk.owned() as mine:
        for turns in range(12):
            beginning = asyncio.create_task(mine.begin(entry))
            for _ in range(turns):
                await asyncio.sleep(0)
            beginning.cancel()
            await asyncio.gather(beginning, return_exceptions=True)
            if not beginning.cancelled():
                await mine.abandon(entry)
        assert await mine.begin(entry) == Begun(1)


async def test_a_stop_in_the_very_turn_in_which_an_attempt_is_counted_takes_it_back(
    desk: Desk,
) -> None:
    """The same, when its answer is there and nobody has looked at it yet."""
    entry, other = await desk.take_in(text("SM1"), text("SM2"))
    async with desk.owned() as mine:
        beginning = asyncio.create_task(mine.begin(entry))
        await asyncio.sleep(0)

        def cancel(*_: object) -> None:
            beginning.cancel()

        # Answered right behind it, in the same turn of the loop: so its own answer is there.
        keys = (KEYS.lease, KEYS.inbox, KEYS.inbox_tries)
        args = (mine._commit_token, other)
        desk.batch.submit(BEGIN, keys, args, cancel)
        with pytest.raises(asyncio.CancelledError):
            await beginning
        assert await mine.begin(entry) == Begun(1)


async def test_a_stop_between_the_count_and_the_handler_takes_the_attempt_back(
    desk: Desk, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, a moment later: somebody's STOP is being noted."""
    (entry,) = await desk.take_in(text("SM1", "STOP"))
    noting = asyncio.Event()

    async def note(*_: object, **__: object) -> None:
        noting.set()
        await asyncio.sleep(60)

    async with ways(echo(), phone.url) as how:
        with monkeypatch.context() as patched:  # no real Redis stops just there
            patched.setattr(PartitionStore, "note_opt_out", note)
            async with at_work(desk, how):
                await asyncio.wait_for(noting.wait(), 8)
    async with desk.owned() as later:
        assert await later.begin(entry) == Begun(1)


async def test_a_lease_outlives_a_handler_that_a_stop_leaves_running(
    desk: Desk, phone: Phone
) -> None:
    """Another worker would begin the conversation while it still runs here."""
    router, began, go = Router(), threading.Event(), threading.Event()

    @router.default
    def hang(message: Message) -> None:
        began.set()
        go.wait(20)

    await desk.take_in(text("SM1"))
    async with ways(router, phone.url, timeout_s=30) as how:
        async with at_work(desk, how):
            await until(began.is_set)
            loop = asyncio.get_running_loop()
            loop.call_later(1.5, how.handling.place.let_go_of_all)
        assert await desk.client.exists(KEYS.lease)
        go.set()
    assert phone.texts == []


@pytest.mark.parametrize("fails", [False, True])
async def test_a_stop_is_noted_whatever_its_handler_does(
    desk: Desk, phone: Phone, fails: bool
) -> None:
    """Somebody who wrote STOP is not on the list, and is found out by a refused reply."""
    router = Router()

    @router.keyword("STOP")
    async def goodbye(message: Message) -> str:
        if fails:
            raise KeyError
        return "goodbye"

    await desk.take_in(text("SM1", "STOP"))
    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    (found,) = await list_opt_outs(desk.client, 1)
    assert found.conversation == WHO


async def test_a_failed_handlers_line_is_in_the_log_and_its_traceback_in_the_dead_letter(
    desk: Desk, phone: Phone
) -> None:
    """An author reads "KeyError", and not where; or the log holds somebody's text."""
    router = Router()

    @router.default
    async def fail(message: Message) -> None:
        raise KeyError(f"nothing for {message.body}" if message.sid == "SM2" else "no price")

    await desk.take_in(text("SM1", "what they wrote"), text("SM2", "what they wrote"))
    with capture_logs() as lines:
        async with ways(router, phone.url) as how, at_work(desk, how):
            await until(desk.empty)
    said = {line["sid"]: line["error"] for line in lines if line["event"] == "handler failed"}
    assert said["SM1"].startswith("KeyError: 'no price' at ")
    assert said["SM2"].startswith("KeyError at ")
    assert all(__file__ in each for each in said.values())
    frames = [line["frames"] for line in lines if line["event"] == "where the handler failed"]
    assert len(frames) == 6
    assert all("in fail" in each and "service/" not in each for each in frames)
    assert "what they wrote" not in str(lines)
    letters = await desk.dead()
    assert [letter.error for letter in letters] == [
        "default: KeyError: 'no price'",
        "default: KeyError: 'nothing for what they wrote'",
    ]
    assert all("in fail" in letter.traceback for letter in letters)


async def test_an_unreadable_entry_becomes_a_dead_letter_and_the_rest_goes_on(
    desk: Desk, phone: Phone
) -> None:
    """One damaged entry would stop a partition, or disappear."""
    await desk.client.xadd(KEYS.inbox, {"v": "99", "k": "m", "d": "from the future"})
    await desk.take_in(text("SM1", "fine"))
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    (letter,) = await desk.dead()
    assert phone.texts == ["fine"]
    assert letter.value is None
    assert "99" in letter.error


@pytest.mark.parametrize("kind", ["fails", "unreadable"])
async def test_a_message_that_somebody_buried_before_is_not_counted(
    desk: Desk, phone: Phone, kind: str
) -> None:
    """A worker that starts over after a failure of Redis would count its dead letters twice."""
    router = Router()
    if kind == "fails":
        (entry,) = await desk.take_in(text("SM1"))
    else:
        fields = {"v": "99", "k": "m", "d": "from the future"}
        entry = EntryId((await desk.client.xadd(KEYS.inbox, fields)).decode())

    @router.default
    async def fail(message: Message) -> None:
        await desk.client.xdel(KEYS.inbox, entry)
        raise ValueError("no")

    once = Schedule(first_ms=1, longest_ms=1, attempts=1)
    async with desk.owned() as owned, ways(router, phone.url, handlers=once) as how:
        sender = Sender(owned, how.sending, lambda: None, unexpected)
        handler = Processor(owned, sender, how.handling, unexpected)
        found = present(await owned.fetch(entry))
        if kind == "unreadable":
            await desk.client.xdel(KEYS.inbox, entry)
        with capture_logs() as lines:
            await handler.offer(found, None)
            await until(lambda: not handler.lanes.pending)
    assert any("dead letter" in line["event"] for line in lines)
    assert (how.handling.counts.texts["dead_letter"], await desk.dead()) == (0, [])


async def test_handlers_pause_while_the_outbox_is_at_its_limit(desk: Desk, phone: Phone) -> None:
    """An ailing connector would fill Redis with replies."""
    router, ran = Router(), []
    router.default(lambda message: ran.append(message.sid))
    many = [text(f"SM{n}", theirs=f"+150055502{n:02}") for n in range(20)]
    entries = await desk.take_in(*many)
    async with desk.owned() as earlier:
        for entry, each in zip(entries, many, strict=True):
            replies = [outbound(each, n, str(n)) for n in range(OUTBOX_LIMIT // len(many))]
            await earlier.settle(entry, replies, mark=False)
    await desk.take_in(text("SMlast"))
    async with ways(router, phone.url) as how:
        how.sending.provisioned.clear()
        async with at_work(desk, how):
            await asyncio.sleep(0.5)
            assert ran == []
            how.sending.provisioned.set()
            await until(lambda: ran == ["SMlast"], 20)
            await until(desk.empty, 20)
    assert len(phone.accepted) == OUTBOX_LIMIT
    for each in many:
        sent = [int(body) for to, body in phone.accepted if to == each.from_]
        assert sent == sorted(sent)


WHO = text("SM0").conversation


async def _opted_out(desk: Desk) -> bool:
    return bool(await list_opt_outs(desk.client, 1))


async def test_twilio_fact_14_start_and_yes_reach_handlers_except_from_who_is_opted_out(
    desk: Desk, phone: Phone
) -> None:
    """A dialog that asks "Confirm? YES" would wait for ever; START would be answered twice."""
    router = Router()
    router.pattern(r"start|yes")(lambda message: f"pattern {message.sid}")
    router.default(lambda message: f"default {message.sid}")
    async with ways(router, phone.url) as how, at_work(desk, how):
        await desk.take_in(text("SM1", "YES"), text("SM2", "Unstop"))
        await desk.take_in(text("SM3", "STOP"))
        await until(desk.empty)
        assert await _opted_out(desk)
        await desk.take_in(text("SM4", "START", theirs="+15005550124"))
        await desk.take_in(text("SM5", "yes"), text("SM6", "yes"), text("SM7", "START"))
        await until(desk.empty)
    assert sorted(phone.texts) == [
        "default SM2",
        "pattern SM1",
        "pattern SM4",
        "pattern SM6",
        "pattern SM7",
    ]
    assert not await _opted_out(desk)


async def test_twilio_fact_14_twilios_own_word_counts_more_than_the_list(
    desk: Desk, phone: Phone
) -> None:
    """What a messaging service answered would be answered twice, as only it knows its words."""
    told = replace(text("SM1", "JOIN"), raw={"OptOutType": "START", "MessagingServiceSid": "MG1"})
    silent = replace(text("SM2", "YES"), raw={"MessagingServiceSid": "MG1"})
    await desk.take_in(told, silent)
    async with desk.owned() as earlier:
        await earlier.note_opt_out(WHO, out=True)
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.texts == ["YES"]
    assert not await _opted_out(desk)


async def test_a_start_cut_off_by_a_crash_is_left_to_twilio_when_it_is_handled_again(
    desk: Desk, phone: Phone
) -> None:
    """Who opts in again would get a second answer, after a crash at the wrong moment only."""
    (entry,) = await desk.take_in(text("SM1", "START"))
    async with desk.owned() as earlier:
        await earlier.note_opt_out(WHO, out=True)
        assert await earlier.begin(entry, WHO) == Begun(1, opted_out=True)
    async with ways(echo(), phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert (phone.texts, await _opted_out(desk)) == ([], False)


@pytest.mark.parametrize("recovers", [True, False])
async def test_a_start_whose_handler_fails_stays_twilios_and_opts_in_all_the_same(
    desk: Desk, phone: Phone, recovers: bool
) -> None:
    """The default would answer at the second attempt, or the list would name somebody for ever."""
    router, outcomes = Router(), [RuntimeError("not yet"), RuntimeError("nor now"), None]

    @router.keyword("START")
    async def welcome(message: Message) -> str:
        outcome = outcomes.pop(0) if recovers else RuntimeError("never")
        if outcome is not None:
            raise outcome
        return "welcome back"

    @router.default
    async def echo_it(message: Message) -> str:
        return message.body

    await desk.take_in(text("SM1", "START"))
    async with desk.owned() as earlier:
        await earlier.note_opt_out(WHO, out=True)
    async with ways(router, phone.url) as how, at_work(desk, how):
        await until(desk.empty)
    assert phone.texts == (["welcome back"] if recovers else [])
    assert [letter.route for letter in await desk.dead()] == ([] if recovers else ["keyword START"])
    assert not await _opted_out(desk)


async def test_attempts_of_earlier_workers_are_forgotten_with_their_message(
    desk: Desk, phone: Phone
) -> None:
    """A partition that is owned for months would keep an id for each text it ever took over."""
    (entry,) = await desk.take_in(text("SM1"))
    async with desk.owned() as store, ways(echo(), phone.url) as how:
        sender = Sender(store, how.sending, lambda: None, list[BaseException]().append)
        handler = Processor(store, sender, how.handling, list[BaseException]().append)
        await handler.offer(Entry(entry, text("SM1")), None, tries=1)
        assert entry in handler._unended
        await until(lambda: phone.texts == ["hello"])
        assert not handler._unended
        await handler.lanes.close(1)
        await sender.lanes.close(1)
