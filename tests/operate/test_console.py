"""One-time tokens and sessions of the console, attacked: used twice, too old, ended, made up."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.core.proofs import digest_of
from service.errors import SignInRefused
from service.operate.console import (
    Role,
    end_session,
    make_token,
    session_of,
    sessions,
    set_password,
    sign_in_by_token,
)
from service.store import keys
from service.store import sessions as kept
from tests.operate.pieces import HERE, PASSWORD, block, come_in, refusal
from tests.present import present

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("role", ["operator", "viewer"])
async def test_a_token_begins_a_session_of_its_role(client: Any, role: Role) -> None:
    """A viewer could act, or an operator could not."""
    cookie, session = await come_in(client, role)
    assert (session.role, session.who) == (role, f"{role} by one-time address")
    assert (session.address, session.agent) == ("127.0.0.1", "Firefox")
    assert abs(session.began - datetime.now(UTC)) < timedelta(minutes=1)
    assert session.ends == session.began + timedelta(hours=1)
    found = await session_of(client, cookie)
    assert found is not None
    assert (found.id, found.role, found.csrf) == (session.id, role, session.csrf)


async def test_a_token_is_good_once(client: Any) -> None:
    """Whoever finds the address in a history would be signed in."""
    token = await make_token(client)
    await sign_in_by_token(client, token, **HERE)
    refused = await refusal(sign_in_by_token(client, token, **HERE))
    assert "has been used or is over ten minutes old; run `parley console`" in refused.reason
    assert refused.wait_s == 0
    assert len(await sessions(client)) == 1


async def test_of_many_who_use_a_token_at_once_one_is_signed_in(client: Any) -> None:
    """Whoever looks over a shoulder has to be slower, not just as quick."""
    token = await make_token(client)
    tries = (sign_in_by_token(client, token, **HERE) for _ in range(20))
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(each, SignInRefused) for each in found) == 19
    assert len(await sessions(client)) == 1


async def test_a_token_that_two_have_found_good_is_used_up_by_one(client: Any) -> None:
    """Between the look and the use there is time for another one's use."""
    basis = present(await kept.token_of(client, await make_token(client)))
    assert await kept.begin(client, basis, **HERE) is not None
    assert await kept.begin(client, basis, **HERE) is None


async def test_a_token_is_gone_after_ten_minutes(client: Any) -> None:
    """An address that was printed yesterday would still sign in."""
    token = await make_token(client)
    key = keys.sign_in_token(digest_of(token))
    assert 590_000 < await client.pttl(key) <= 600_000
    await client.pexpireat(key, datetime.now(UTC) - timedelta(milliseconds=1))
    await refusal(sign_in_by_token(client, token, **HERE))


@pytest.mark.parametrize("token", ["", "x", "\ud800", "a:b", "é" * 10_000])
async def test_what_is_no_token_is_refused(client: Any, token: str) -> None:
    """A changed address would end in a traceback."""
    await make_token(client)
    await refusal(sign_in_by_token(client, token, **HERE))


async def test_what_redis_holds_of_a_token_or_a_cookie_signs_nobody_in(client: Any) -> None:
    """Whoever reads a backup of Redis would be an operator."""
    token = await make_token(client)
    await refusal(sign_in_by_token(client, digest_of(token), **HERE))
    cookie, session = await come_in(client)
    for guess in (digest_of(cookie), session.id, session.csrf, "", "\ud800", cookie + "="):
        assert await session_of(client, guess) is None


async def test_a_token_signs_in_while_passwords_wait(client: Any) -> None:
    """Whoever fails on purpose would lock out the operator who has the machine itself."""
    await set_password(client, PASSWORD)
    for key in (keys.TRIES, keys.tries_of(digest_of("127.0.0.1"))):
        await block(client, key, 20_000)
    await come_in(client)


# --- sessions --------------------------------------------------------------------------------


async def ago(client: Any, cookie: str, **fields: timedelta) -> None:
    """Leave in a session what it would hold if these times were so long ago."""
    now = datetime.now(UTC)
    values = {name: int((now - age).timestamp() * 1000) for name, age in fields.items()}
    await client.hset(keys.session(digest_of(cookie)), mapping=values)


@pytest.mark.parametrize(
    ("began", "seen", "there"),
    [
        pytest.param(timedelta(hours=2), timedelta(minutes=59), True, id="idle"),
        pytest.param(timedelta(hours=2), timedelta(minutes=60), False, id="idle for too long"),
        pytest.param(timedelta(minutes=719), timedelta(0), True, id="late"),
        pytest.param(timedelta(minutes=720), timedelta(0), False, id="over"),
        pytest.param(timedelta(0), -timedelta(minutes=5), False, id="seen in the future"),
        pytest.param(-timedelta(hours=5), timedelta(0), False, id="begun in the future"),
    ],
)
async def test_a_session_ends_when_it_is_over_or_unseen_for_too_long(
    client: Any, began: timedelta, seen: timedelta, there: bool
) -> None:
    """A browser that somebody left open, on a machine that is somebody else's by now, would act."""
    cookie, session = await come_in(client)
    await ago(client, cookie, began=began, seen=seen)
    assert [each.id for each in await sessions(client)] == [session.id] * there
    assert (await session_of(client, cookie) is not None) is there
    # What has ended does not come back.
    assert await client.exists(keys.session(digest_of(cookie))) == int(there)
    assert await client.zcard(keys.SESSIONS) == int(there)


async def test_a_session_is_put_off_by_being_seen_and_never_beyond_its_end(client: Any) -> None:
    """Who works would be signed out; or who is signed in once would be so for ever."""
    cookie, _ = await come_in(client)
    await ago(client, cookie, seen=timedelta(minutes=50))
    unseen = present(await session_of(client, cookie, renew=False))
    assert unseen.ends < datetime.now(UTC) + timedelta(minutes=11)
    assert present(await session_of(client, cookie, renew=False)).seen == unseen.seen
    seen = present(await session_of(client, cookie))
    again = present(await session_of(client, cookie, renew=False))
    assert again.seen > unseen.seen + timedelta(minutes=49)
    assert seen.ends > datetime.now(UTC) + timedelta(minutes=59)
    await ago(client, cookie, began=timedelta(hours=11, minutes=50))
    last = present(await session_of(client, cookie))
    assert last.ends < datetime.now(UTC) + timedelta(minutes=11)
    assert await client.pttl(keys.session(digest_of(cookie))) <= 600_000


async def test_redis_lets_go_of_a_session_that_nobody_sees_again(client: Any) -> None:
    """Browsers that were closed would stay in Redis."""
    cookie, _ = await come_in(client)
    assert 3_590_000 < await client.pttl(keys.session(digest_of(cookie))) <= 3_600_000
    assert 0 < await client.pttl(keys.SESSIONS) <= 43_200_000
    await client.delete(keys.session(digest_of(cookie)))
    assert await sessions(client) == []
    assert await session_of(client, cookie) is None


async def test_an_ended_session_is_over_and_others_go_on(client: Any) -> None:
    """A lost laptop would stay signed in."""
    (lost, session), (mine, other) = await come_in(client), await come_in(client)
    assert [each.id for each in await sessions(client)] == [other.id, session.id]
    assert await end_session(client, session.id)
    assert await session_of(client, lost) is None
    assert present(await session_of(client, mine)).id == other.id
    assert not await end_session(client, session.id)


@pytest.mark.parametrize("id_", ["", "x", "*", "\ud800"])
async def test_what_is_no_id_ends_nothing(client: Any, id_: str) -> None:
    """A slip of the keyboard would sign everybody out, or end in a traceback."""
    cookie, _ = await come_in(client)
    assert not await end_session(client, id_)
    assert await session_of(client, cookie) is not None


async def test_a_session_that_is_ended_while_it_is_seen_does_not_come_back(client: Any) -> None:
    """Ending a session of a page that asks all the time would do nothing."""
    cookie, session = await come_in(client)
    await asyncio.gather(
        *(session_of(client, cookie) for _ in range(20)),
        end_session(client, session.id),
        *(session_of(client, cookie) for _ in range(20)),
    )
    assert await session_of(client, cookie) is None
    assert not await client.exists(keys.session(digest_of(cookie)))


async def test_the_oldest_session_ends_when_there_are_too_many(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a password could fill Redis with sessions."""
    monkeypatch.setattr(kept, "MOST_SESSIONS", 3)
    cookies = [(await come_in(client))[0] for _ in range(5)]
    there = [await session_of(client, cookie) is not None for cookie in cookies]
    assert there == [False, False, True, True, True]


async def test_what_a_form_carries_differs_from_session_to_session_and_stays(client: Any) -> None:
    """A page of somebody else's could act in one's name."""
    (one, first), (two, second) = await come_in(client), await come_in(client)
    assert re.fullmatch("[0-9a-f]{64}", first.csrf)
    assert first.csrf != second.csrf
    assert present(await session_of(client, one)).csrf == first.csrf
    assert present(await session_of(client, two)).csrf == second.csrf
    assert {each.csrf for each in await sessions(client)} == {""}


async def test_what_a_browser_says_of_itself_is_cut_and_printable(client: Any) -> None:
    """A list of sessions would hold what somebody else made up."""
    agent = "Evil\r\nSet-Cookie: x\x1b[2J\u202e" + "x" * 5000
    token = await make_token(client)
    await sign_in_by_token(client, token, address="192.0.2.1\n" + "9" * 100, agent=agent)
    (session,) = await sessions(client)
    assert session.agent.startswith("Evil??Set-Cookie: x?[2J?xxx")
    assert len(session.agent) == 200
    assert session.address.startswith("192.0.2.1?999")
    assert len(session.address) == 64
