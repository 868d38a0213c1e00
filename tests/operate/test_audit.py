"""The audit trail: all that was done, in order, bounded, with nothing in it that must not be."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.errors import StoreFull, UsageError
from service.operate.audit import note, note_refusal, noted, trail
from service.store import audit as kept
from service.store.keys import TRAIL
from service.store.scripts import NOTE, run_alone

pytestmark = pytest.mark.anyio

ME: Any = {"who": "root@host", "via": "command"}


async def test_acts_come_back_as_they_were_noted_newest_first(client: Any) -> None:
    """Somebody who looks into what happened would be told something else."""
    await note(client, **ME, what="dead drop", about="7-1-0", outcome="1 dropped")
    await note(client, who="operator by password", via="console", what="sign out")
    newer, older = await trail(client)
    assert (older.who, older.via, older.what) == ("root@host", "command", "dead drop")
    assert (older.about, older.outcome) == ("7-1-0", "1 dropped")
    assert (newer.via, newer.what, newer.about, newer.outcome) == (
        *("console", "sign out", "", "done"),
    )
    assert abs(newer.at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_pages_follow_each_other_and_leave_nothing_out(client: Any) -> None:
    """What stands between two pages would never be seen."""
    for i in range(25):
        await note(client, **ME, what=f"act {i}")
    pages, found, before = [], [], None
    while page := await trail(client, before=before, count=10):
        pages.append(len(page))
        found += [act.what for act in page]
        before = page[-1].id
    assert pages == [10, 10, 5]
    assert found == [f"act {i}" for i in reversed(range(25))]


async def test_a_search_goes_through_every_field_and_beyond_one_page(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An act that is further back than what was read at once would be said not to be there."""
    monkeypatch.setattr(kept, "READ_PAGE", 10)  # Five hundred acts would show the same, slowly.
    await note(client, **ME, what="connector rotate", about="instance 4711")
    for i in range(30):
        await note(client, who="somebody else", via="console", what=f"act {i}")
    for words in ("ROTATE", "4711", "root@", "command"):
        assert [act.what for act in await trail(client, contains=words)] == ["connector rotate"]
    assert len(await trail(client, contains="act", count=25)) == 25
    assert await trail(client, contains="never") == []


@pytest.mark.parametrize(
    "before", ["", "x", "1", "1-1-1", "-", "+", "(1-1", "²-1", "9" * 30 + "-1"]
)
async def test_what_is_no_id_finds_nothing(client: Any, before: str) -> None:
    """A changed address would end in a traceback."""
    await note(client, **ME, what="backfill")
    assert await trail(client, before=before) == []


async def test_numbers_are_masked_and_nothing_forges_a_line(client: Any) -> None:
    """The trail is read by people who may not see whom we text."""
    about = "to +14155550123, +4915112345678\n2026-01-01 root@host \x1b[2J" + "x" * 1000
    await note(client, **ME, what="backfill", about=about)
    (act,) = await trail(client)
    assert act.about.startswith("to +1•••0123, +4•••5678\\n2026-01-01 root@host \\x1b[2Jxxx")
    assert len(act.about) == 300


async def test_the_oldest_go_when_the_trail_is_full(client: Any) -> None:
    """It would fill Redis; or lose the newest, which is what is looked for."""
    for i in range(8):
        await run_alone(client, NOTE, (TRAIL,), (5, "what", f"act {i}"))
    assert [act.what for act in await trail(client)] == [f"act {i}" for i in (7, 6, 5, 4, 3)]
    assert kept.MOST_ACTS == 100_000


async def refuse(client: Any, address: str) -> bool:
    """Note a refused sign-in."""
    return await note_refusal(client, who="somebody", about="", outcome="wrong", address=address)


async def test_refused_sign_ins_of_an_address_are_noted_once_a_minute(client: Any) -> None:
    """A flood would push what people did out of the trail."""
    written = await asyncio.gather(*(refuse(client, "192.0.2.1") for _ in range(50)))
    assert sorted(written) == [False] * 49 + [True]
    assert await refuse(client, "192.0.2.2")
    assert len(await trail(client)) == 2


async def test_refused_sign_ins_of_many_addresses_are_bounded_too(client: Any) -> None:
    """Whoever has many addresses would flood it all the same."""
    written = [await refuse(client, f"192.0.2.{i}") for i in range(100)]
    assert sum(written) == len(await trail(client)) == 6
    # Each for a minute at most: then there is room again.
    async for key in client.scan_iter("parley:{audit}:refusals*"):
        assert 0 < await client.pttl(key) <= 60_000
        await client.delete(key)
    assert await refuse(client, "192.0.2.1")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        pytest.param(StoreFull("texts to +14155550123"), "failed: StoreFull", id="it failed"),
        pytest.param(ValueError("texts"), "failed: ValueError", id="a defect"),
        pytest.param(asyncio.CancelledError(), "broken off", id="broken off"),
    ],
)
async def test_what_failed_is_noted_without_its_words(
    client: Any, error: StoreFull | ValueError | asyncio.CancelledError, outcome: str
) -> None:
    """Half a bulk replay happened, and nobody would know; an error may quote a text."""
    with pytest.raises(type(error)):
        async with noted(client, **ME, what="dead replay", about="7-1-0"):
            raise error
    (act,) = await trail(client)
    assert (act.what, act.about, act.outcome) == ("dead replay", "7-1-0", outcome)


async def test_what_was_refused_for_its_words_is_not_noted(client: Any) -> None:
    """The trail would hold what nobody did."""
    with pytest.raises(UsageError):
        async with noted(client, **ME, what="console password"):
            raise UsageError("too short")
    assert await trail(client) == []


async def test_an_act_tells_about_itself_while_it_is_under_way(client: Any) -> None:
    """The id of a new instance is known when it is there, and not before."""
    async with noted(client, **ME, what="connector rotate") as act:
        act.about, act.outcome = "instance 7", "nothing to do"
    (found,) = await trail(client)
    assert (found.about, found.outcome) == ("instance 7", "nothing to do")
