"""Signing in at the console, attacked: what is used, old, ended, guessed or read out of Redis."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.core.proofs import digest_of
from service.errors import SignInRefused, StoreUnavailable, UsageError
from service.operate import passwords
from service.operate.audit import note, trail
from service.operate.console import (
    end_session,
    has_password,
    make_token,
    remove_password,
    session_of,
    sessions,
    set_password,
    sign_in_by_password,
    sign_in_by_token,
)
from service.store import keys
from service.store import sessions as kept
from service.store.tries import IN_ALL, OF_NETWORK
from tests.store.pieces import configure
from tests.workers.test_keys import forms_of

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse battery"
HERE = {"address": "127.0.0.1", "agent": "Firefox"}
THERE = {"address": "192.0.2.66", "agent": "curl"}


async def come_in(client: Any, role: Any = "operator"):
    """Sign in by a one-time token; return the cookie and the session."""
    return await sign_in_by_token(client, await make_token(client, role), **HERE)


async def refusal(awaitable: Any) -> SignInRefused:
    """Return how a sign-in was refused."""
    with pytest.raises(SignInRefused) as caught:
        await awaitable
    return caught.value


# --- one-time tokens -------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["operator", "viewer"])
async def test_a_token_begins_a_session_of_its_role(client, role):
    """A viewer could act, or an operator could not."""
    cookie, session = await come_in(client, role)
    assert (session.role, session.who) == (role, f"{role} by one-time address")
    assert (session.address, session.agent) == ("127.0.0.1", "Firefox")
    assert abs(session.began - datetime.now(UTC)) < timedelta(minutes=1)
    assert session.ends == session.began + timedelta(hours=1)
    found = await session_of(client, cookie)
    assert found is not None
    assert (found.id, found.role, found.csrf) == (session.id, role, session.csrf)


async def test_a_token_is_good_once(client):
    """Whoever finds the address in a history would be signed in."""
    token = await make_token(client)
    await sign_in_by_token(client, token, **HERE)
    refused = await refusal(sign_in_by_token(client, token, **HERE))
    assert "has been used or is over ten minutes old; run `parley console`" in refused.reason
    assert refused.wait_s == 0
    assert len(await sessions(client)) == 1


async def test_of_many_who_use_a_token_at_once_one_is_signed_in(client):
    """Whoever looks over a shoulder has to be slower, not just as quick."""
    token = await make_token(client)
    tries = (sign_in_by_token(client, token, **HERE) for _ in range(20))
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(each, SignInRefused) for each in found) == 19
    assert len(await sessions(client)) == 1


async def test_a_token_that_two_have_found_good_is_used_up_by_one(client):
    """Between the look and the use there is time for another one's use."""
    basis = await kept.token_of(client, await make_token(client))
    assert await kept.begin(client, basis, **HERE) is not None
    assert await kept.begin(client, basis, **HERE) is None


async def test_a_token_is_gone_after_ten_minutes(client):
    """An address that was printed yesterday would still sign in."""
    token = await make_token(client)
    key = keys.sign_in_token(digest_of(token))
    assert 590_000 < await client.pttl(key) <= 600_000
    await client.pexpireat(key, datetime.now(UTC) - timedelta(milliseconds=1))
    await refusal(sign_in_by_token(client, token, **HERE))


@pytest.mark.parametrize("token", ["", "x", "\ud800", "a:b", "é" * 10_000])
async def test_what_is_no_token_is_refused(client, token):
    """A changed address would end in a traceback."""
    await make_token(client)
    await refusal(sign_in_by_token(client, token, **HERE))


async def test_what_redis_holds_of_a_token_or_a_cookie_signs_nobody_in(client):
    """Whoever reads a backup of Redis would be an operator."""
    token = await make_token(client)
    await refusal(sign_in_by_token(client, digest_of(token), **HERE))
    cookie, session = await come_in(client)
    for guess in (digest_of(cookie), session.id, session.csrf, "", "\ud800", cookie + "="):
        assert await session_of(client, guess) is None


async def test_a_token_signs_in_while_passwords_wait(client):
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
async def test_a_session_ends_when_it_is_over_or_unseen_for_too_long(client, began, seen, there):
    """A browser that somebody left open, on a machine that is somebody else's by now, would act."""
    cookie, session = await come_in(client)
    await ago(client, cookie, began=began, seen=seen)
    assert [each.id for each in await sessions(client)] == [session.id] * there
    assert (await session_of(client, cookie) is not None) is there
    # What has ended does not come back.
    assert await client.exists(keys.session(digest_of(cookie))) == int(there)
    assert await client.zcard(keys.SESSIONS) == int(there)


async def test_a_session_is_put_off_by_being_seen_and_never_beyond_its_end(client):
    """Who works would be signed out; or who is signed in once would be so for ever."""
    cookie, _ = await come_in(client)
    await ago(client, cookie, seen=timedelta(minutes=50))
    unseen = await session_of(client, cookie, renew=False)
    assert unseen.ends < datetime.now(UTC) + timedelta(minutes=11)
    assert (await session_of(client, cookie, renew=False)).seen == unseen.seen
    seen = await session_of(client, cookie)
    again = await session_of(client, cookie, renew=False)
    assert again.seen > unseen.seen + timedelta(minutes=49)
    assert seen.ends > datetime.now(UTC) + timedelta(minutes=59)
    await ago(client, cookie, began=timedelta(hours=11, minutes=50))
    last = await session_of(client, cookie)
    assert last.ends < datetime.now(UTC) + timedelta(minutes=11)
    assert await client.pttl(keys.session(digest_of(cookie))) <= 600_000


async def test_redis_lets_go_of_a_session_that_nobody_sees_again(client):
    """Browsers that were closed would stay in Redis."""
    cookie, _ = await come_in(client)
    assert 3_590_000 < await client.pttl(keys.session(digest_of(cookie))) <= 3_600_000
    assert 0 < await client.pttl(keys.SESSIONS) <= 43_200_000
    await client.delete(keys.session(digest_of(cookie)))
    assert await sessions(client) == []
    assert await session_of(client, cookie) is None


async def test_an_ended_session_is_over_and_others_go_on(client):
    """A lost laptop would stay signed in."""
    (lost, session), (mine, other) = await come_in(client), await come_in(client)
    assert [each.id for each in await sessions(client)] == [other.id, session.id]
    assert await end_session(client, session.id)
    assert await session_of(client, lost) is None
    assert (await session_of(client, mine)).id == other.id
    assert not await end_session(client, session.id)


@pytest.mark.parametrize("id_", ["", "x", "*", "\ud800"])
async def test_what_is_no_id_ends_nothing(client, id_):
    """A slip of the keyboard would sign everybody out, or end in a traceback."""
    cookie, _ = await come_in(client)
    assert not await end_session(client, id_)
    assert await session_of(client, cookie) is not None


async def test_a_session_that_is_ended_while_it_is_seen_does_not_come_back(client):
    """Ending a session of a page that asks all the time would do nothing."""
    cookie, session = await come_in(client)
    await asyncio.gather(
        *(session_of(client, cookie) for _ in range(20)),
        end_session(client, session.id),
        *(session_of(client, cookie) for _ in range(20)),
    )
    assert await session_of(client, cookie) is None
    assert not await client.exists(keys.session(digest_of(cookie)))


async def test_the_oldest_session_ends_when_there_are_too_many(client, monkeypatch):
    """Whoever has a password could fill Redis with sessions."""
    monkeypatch.setattr(kept, "MOST_SESSIONS", 3)
    cookies = [(await come_in(client))[0] for _ in range(5)]
    there = [await session_of(client, cookie) is not None for cookie in cookies]
    assert there == [False, False, True, True, True]


async def test_what_a_form_carries_differs_from_session_to_session_and_stays(client):
    """A page of somebody else's could act in one's name."""
    (one, first), (two, second) = await come_in(client), await come_in(client)
    assert re.fullmatch("[0-9a-f]{64}", first.csrf)
    assert first.csrf != second.csrf
    assert (await session_of(client, one)).csrf == first.csrf
    assert (await session_of(client, two)).csrf == second.csrf
    assert {each.csrf for each in await sessions(client)} == {""}


async def test_what_a_browser_says_of_itself_is_cut_and_printable(client):
    """A list of sessions would hold what somebody else made up."""
    agent = "Evil\r\nSet-Cookie: x\x1b[2J\u202e" + "x" * 5000
    token = await make_token(client)
    await sign_in_by_token(client, token, address="192.0.2.1\n" + "9" * 100, agent=agent)
    (session,) = await sessions(client)
    assert session.agent.startswith("Evil??Set-Cookie: x?[2J?xxx")
    assert len(session.agent) == 200
    assert session.address.startswith("192.0.2.1?999")
    assert len(session.address) == 64


# --- passwords -------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["operator", "viewer"])
async def test_a_password_begins_a_session_of_its_role(client, role):
    """A viewer could act, or an operator could not."""
    assert not await has_password(client)
    await set_password(client, PASSWORD, role)
    assert await has_password(client)
    _, session = await sign_in_by_password(client, PASSWORD, **HERE)
    assert (session.role, session.who) == (role, f"{role} by password")


async def test_each_role_has_a_password_of_its_own(client):
    """Setting the viewers' would take the operators' away, or make operators of them."""
    await set_password(client, PASSWORD)
    await set_password(client, "another good one", "viewer")
    with pytest.raises(UsageError, match="password of the role operator; choose another one"):
        await set_password(client, PASSWORD, "viewer")
    for password, role in ((PASSWORD, "operator"), ("another good one", "viewer")):
        assert (await sign_in_by_password(client, password, **HERE))[1].role == role


@pytest.mark.parametrize(
    ("password", "said"),
    [
        pytest.param("", "12 characters or more", id="none"),
        pytest.param("x" * 11, "12 characters or more", id="short"),
        pytest.param("x" * 1001, "at most 1,000", id="long"),
        pytest.param("\ud800" * 12, "no text in UTF-8", id="no text"),
    ],
)
async def test_a_password_that_is_none_is_refused(client, password, said):
    """It would be guessed, or could never be typed again."""
    with pytest.raises(UsageError, match=said):
        await set_password(client, password)
    assert not await has_password(client)


async def test_a_password_is_the_same_from_every_keyboard(client):
    """A Mac composes an é otherwise than a phone does."""
    await set_password(client, unicodedata.normalize("NFD", "clé de l'été 42"))
    await sign_in_by_password(client, unicodedata.normalize("NFC", "clé de l'été 42"), **HERE)


@pytest.mark.parametrize(
    "password", ["", PASSWORD + " ", PASSWORD.upper(), "\ud800", "x" * 100_000]
)
async def test_a_wrong_password_is_refused(client, password):
    """Anybody would be an operator, or the sign-in would end in a traceback."""
    await set_password(client, PASSWORD)
    refused = await refusal(sign_in_by_password(client, password, **HERE))
    assert (refused.reason, refused.wait_s) == ("that is not the password", 0)
    assert await sessions(client) == []


async def test_without_a_password_the_way_in_is_said(client):
    """People would try passwords that nobody has set."""
    refused = await refusal(sign_in_by_password(client, PASSWORD, **HERE))
    assert "no password is set; run `parley console`" in refused.reason


async def test_a_new_password_ends_the_sessions_of_the_former_one(client):
    """Whoever has found the former one out would stay signed in."""
    await set_password(client, PASSWORD)
    await set_password(client, "another good one", "viewer")
    (mine, _), (out, _), (viewer, _) = (
        await come_in(client),
        await sign_in_by_password(client, PASSWORD, **HERE),
        await sign_in_by_password(client, "another good one", **HERE),
    )
    assert await set_password(client, "something new 1") == 1
    there = [await session_of(client, cookie) is not None for cookie in (mine, out, viewer)]
    assert there == [True, False, True]
    await refusal(sign_in_by_password(client, PASSWORD, **HERE))
    assert await remove_password(client, "viewer")
    assert await session_of(client, viewer) is None
    assert not await remove_password(client, "viewer")


async def test_a_password_that_is_changed_while_it_is_looked_at_signs_nobody_in(client):
    """Looking takes tens of ms; the session would outlive the change."""
    await set_password(client, PASSWORD)
    (basis,) = await kept.passwords_of(client)
    await set_password(client, "something new 1")
    assert await kept.begin(client, basis, **HERE) is None
    assert await sessions(client) == []


async def test_the_loop_goes_on_while_a_password_is_hashed(client):
    """Texts would wait whenever somebody signs in."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    hashed = await passwords.hash_password(PASSWORD)
    after_hash, turns = turns, 0
    assert await passwords.matches(PASSWORD, hashed)
    turning.cancel()
    assert min(after_hash, turns) > 20
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_damaged_hash_signs_nobody_in(client):
    """Whatever is typed would do, or the page would end in a traceback."""
    for hashed in ("x", "$argon2id$", "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA"):
        await kept.keep_password(client, "operator", hashed)
        await refusal(sign_in_by_password(client, PASSWORD, **HERE))
    assert not await passwords.matches("", "")


# --- limits ----------------------------------------------------------------------------------


async def block(client: Any, key: str, wait_ms: int) -> None:
    """Leave in Redis what failures leave: nothing is looked at for so long."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    await client.set(key, f"{now_ms + 3_600_000} {now_ms + wait_ms}", px=3_600_000)


async def test_during_a_wait_the_right_password_is_refused_too_and_says_when(client):
    """Waits would not hold up whoever guesses right."""
    await set_password(client, PASSWORD)
    for _ in range(OF_NETWORK.free):
        assert (await refusal(sign_in_by_password(client, "wrong", **THERE))).wait_s == 0
    assert (await refusal(sign_in_by_password(client, "wrong", **THERE))).wait_s == 2
    refused = await refusal(sign_in_by_password(client, PASSWORD, **THERE))
    assert "too many sign-ins failed" in refused.reason
    assert 0 < refused.wait_s <= 2
    # Nobody else waits; and neither does this one once the time is over.
    await sign_in_by_password(client, PASSWORD, **HERE)
    key = keys.tries_of(digest_of(THERE["address"]))
    until = (await client.get(key)).split()[0].decode()
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    await client.set(key, f"{until} {now_ms}", px=3_600_000)
    await sign_in_by_password(client, PASSWORD, **THERE)


async def test_a_wait_in_all_holds_up_everybody_and_says_when(client):
    """A botnet would try as many passwords as it has addresses."""
    await set_password(client, PASSWORD)
    await block(client, keys.TRIES, 20_000)
    refused = await refusal(sign_in_by_password(client, PASSWORD, **HERE))
    assert 18 <= refused.wait_s <= 20


async def test_passwords_tried_at_once_are_bounded(client):
    """A thousand guesses at once would all be looked at before the first has failed."""
    await set_password(client, PASSWORD)
    guesses = (refusal(sign_in_by_password(client, "wrong", **THERE)) for _ in range(40))
    found = [each.reason for each in await asyncio.gather(*guesses)]
    assert found.count("that is not the password") == OF_NETWORK.free + 1


async def test_signing_in_does_not_buy_more_guesses(client):
    """Whoever may look could guess the operators' password without end, between two sign-ins."""
    await set_password(client, PASSWORD)
    await set_password(client, "viewers may know", "viewer")
    looked_at = 0
    for _ in range(4):
        for _ in range(3):
            refused = await refusal(sign_in_by_password(client, "guess", **THERE))
            looked_at += refused.reason == "that is not the password"
        try:
            await sign_in_by_password(client, "viewers may know", **THERE)
        except SignInRefused:
            break
    assert looked_at == OF_NETWORK.free + 1


async def test_signing_in_often_is_no_failure(client):
    """Whoever signs in from several browsers would be locked out."""
    await set_password(client, PASSWORD)
    for _ in range(OF_NETWORK.free + 3):
        await sign_in_by_password(client, PASSWORD, **HERE)
    assert not [key async for key in client.scan_iter("parley:{console}:tries*")]


async def test_wrong_tokens_count_as_failures(client):
    """A flood of them would cost nothing."""
    await set_password(client, PASSWORD)
    for _ in range(OF_NETWORK.free + 1):
        await refusal(sign_in_by_token(client, "wrong", **THERE))
    refused = await refusal(sign_in_by_password(client, PASSWORD, **THERE))
    assert refused.wait_s > 0
    assert IN_ALL.free > OF_NETWORK.free


# --- what is left in Redis -------------------------------------------------------------------


async def everything_in(client: Any) -> dict[str, tuple[str, bool, str]]:
    """Read every key: its type, whether it ends, and all that it holds, as text."""
    read = {
        "string": client.get,
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    found = {}
    async for raw in client.scan_iter("*"):
        kind, ends = (await client.type(raw)).decode(), await client.pttl(raw) != -1
        found[raw.decode()] = kind, ends, repr(await read[kind](raw))
    return found


async def test_no_secret_is_in_redis_and_every_key_is_written_down(client):
    """Whoever reads a backup of Redis would be an operator; or finds what nobody has explained."""
    unused = await make_token(client)
    used = await make_token(client)
    cookie, session = await sign_in_by_token(client, used, **HERE)
    await set_password(client, PASSWORD)
    second, _ = await sign_in_by_password(client, PASSWORD, **HERE)
    await refusal(sign_in_by_password(client, "a wrong password", **THERE))
    await refusal(sign_in_by_token(client, "a-wrong-token", **THERE))
    await session_of(client, cookie)

    found = await everything_in(client)
    held = "".join(f"{key} {text}" for key, (_, _, text) in found.items())
    for secret in (unused, used, cookie, second, session.csrf, PASSWORD, "a wrong", "a-wrong"):
        assert secret not in held
    # The search would find them: what may be there is.
    for there in (digest_of(unused), digest_of(cookie), session.id, "argon2id"):
        assert there in held
    assert {key: forms_of(key) for key in found if len(forms_of(key)) != 1} == {}
    forms = {key: (forms_of(key)[0].type, bool(forms_of(key)[0].lives)) for key in found}
    assert forms == {key: (kind, ends) for key, (kind, ends, _) in found.items()}
    assert {forms_of(key)[0].name.partition("}:")[2] for key in found} == {
        *("passwords", "sessions", "session:<cookie>", "token:<token>", "tries"),
        *("tries:<network>", "trail", "refusals", "refusals:<network>"),
    }


async def test_sign_ins_and_refusals_are_in_the_trail(client):
    """Nobody would know who was in, nor that somebody tries."""
    _, session = await come_in(client)
    await set_password(client, PASSWORD)
    for _ in range(9):
        await refusal(sign_in_by_password(client, "wrong", **THERE))
    refused, came_in = await trail(client)
    assert (came_in.who, came_in.via, came_in.what) == (
        *("operator by one-time address", "console", "sign in"),
    )
    assert came_in.about == f"session {session.id} from 127.0.0.1"
    assert (refused.who, refused.what) == ("somebody", "sign-in refused")
    assert refused.about == "by password from 192.0.2.66"
    assert refused.outcome == "that is not the password"


async def test_a_full_redis_can_still_be_looked_at(client):
    """The console is opened because Redis is full, and nobody could sign in."""
    await set_password(client, PASSWORD)
    await configure(client, "maxmemory", "1")
    try:
        with pytest.raises(Exception, match=r"OOM|maxmemory"):
            await client.set("parley:probe", "it is full indeed")
        cookie, session = await come_in(client)
        await sign_in_by_password(client, PASSWORD, **HERE)
        await refusal(sign_in_by_password(client, "wrong", **THERE))
        assert await session_of(client, cookie) is not None
        await set_password(client, "something new 1")
        await note(client, who="root@host", via="command", what="dead drop")
        assert await end_session(client, session.id)
    finally:
        await configure(client, "maxmemory", "0")
    assert (await trail(client))[0].what == "dead drop"


async def test_without_redis_the_error_says_so(client, redis_server):
    """A page would show a traceback of redis-py's."""
    from service.store.connection import connect

    nobody = connect("redis://127.0.0.1:1")
    for asked in (
        make_token(nobody),
        session_of(nobody, "x"),
        sessions(nobody),
        has_password(nobody),
        sign_in_by_token(nobody, "x", **HERE),
        trail(nobody),
    ):
        with pytest.raises(StoreUnavailable):
            await asked
    await nobody.aclose()
