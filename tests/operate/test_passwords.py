"""Passwords of the console, and how often they may be tried."""

from __future__ import annotations

import asyncio
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest

from service.core.proofs import digest_of
from service.errors import SignInRefused, UsageError
from service.operate import passwords
from service.operate.console import (
    Role,
    has_password,
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
from tests.operate.pieces import HERE, PASSWORD, THERE, block, come_in, refusal

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("role", ["operator", "viewer"])
async def test_a_password_begins_a_session_of_its_role(client: Any, role: Role) -> None:
    """A viewer could act, or an operator could not."""
    assert not await has_password(client)
    await set_password(client, PASSWORD, role)
    assert await has_password(client)
    _, session = await sign_in_by_password(client, PASSWORD, **HERE)
    assert (session.role, session.who) == (role, f"{role} by password")


async def test_each_role_has_a_password_of_its_own(client: Any) -> None:
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
async def test_a_password_that_is_none_is_refused(client: Any, password: str, said: str) -> None:
    """It would be guessed, or could never be typed again."""
    with pytest.raises(UsageError, match=said):
        await set_password(client, password)
    assert not await has_password(client)


async def test_a_password_is_the_same_from_every_keyboard(client: Any) -> None:
    """A Mac composes an é otherwise than a phone does."""
    await set_password(client, unicodedata.normalize("NFD", "clé de l'été 42"))
    await sign_in_by_password(client, unicodedata.normalize("NFC", "clé de l'été 42"), **HERE)


@pytest.mark.parametrize(
    "password", ["", PASSWORD + " ", PASSWORD.upper(), "\ud800", "x" * 100_000]
)
async def test_a_wrong_password_is_refused(client: Any, password: str) -> None:
    """Anybody would be an operator, or the sign-in would end in a traceback."""
    await set_password(client, PASSWORD)
    refused = await refusal(sign_in_by_password(client, password, **HERE))
    assert (refused.reason, refused.wait_s) == ("that is not the password", 0)
    assert await sessions(client) == []


async def test_without_a_password_the_way_in_is_said(client: Any) -> None:
    """People would try passwords that nobody has set."""
    refused = await refusal(sign_in_by_password(client, PASSWORD, **HERE))
    assert "no password is set; run `parley console`" in refused.reason


async def test_a_new_password_ends_the_sessions_of_the_former_one(client: Any) -> None:
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


async def test_a_password_that_is_changed_while_it_is_looked_at_signs_nobody_in(
    client: Any,
) -> None:
    """Looking takes tens of ms; the session would outlive the change."""
    await set_password(client, PASSWORD)
    (basis,) = await kept.passwords_of(client)
    await set_password(client, "something new 1")
    assert await kept.begin(client, basis, **HERE) is None
    assert await sessions(client) == []


async def test_the_loop_goes_on_while_a_password_is_hashed(client: Any) -> None:
    """Texts would wait whenever somebody signs in."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    hashed = await passwords.hash_password(PASSWORD)
    counted = [turns]
    for _ in range(10):  # A busy machine may leave this thread a turn or two; never each time.
        turns = 0
        assert await passwords.matches(PASSWORD, hashed)
        counted.append(turns)
    turning.cancel()
    assert min(counted) >= 1
    assert max(counted[1:]) > 20
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_damaged_hash_signs_nobody_in(client: Any) -> None:
    """Whatever is typed would do, or the page would end in a traceback."""
    for hashed in ("x", "$argon2id$", "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA"):
        await kept.keep_password(client, "operator", hashed)
        await refusal(sign_in_by_password(client, PASSWORD, **HERE))
    assert not await passwords.matches("", "")


# --- limits --------------------------------------------------------------------------------------


async def test_during_a_wait_the_right_password_is_refused_too_and_says_when(client: Any) -> None:
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


async def test_a_wait_in_all_holds_up_everybody_and_says_when(client: Any) -> None:
    """A botnet would try as many passwords as it has addresses."""
    await set_password(client, PASSWORD)
    await block(client, keys.TRIES, 20_000)
    refused = await refusal(sign_in_by_password(client, PASSWORD, **HERE))
    assert 18 <= refused.wait_s <= 20


async def test_passwords_tried_at_once_are_bounded(client: Any) -> None:
    """A thousand guesses at once would all be looked at before the first has failed."""
    await set_password(client, PASSWORD)
    guesses = (refusal(sign_in_by_password(client, "wrong", **THERE)) for _ in range(40))
    found = [each.reason for each in await asyncio.gather(*guesses)]
    assert found.count("that is not the password") == OF_NETWORK.free + 1


async def test_signing_in_does_not_buy_more_guesses(client: Any) -> None:
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


async def test_signing_in_often_is_no_failure(client: Any) -> None:
    """Whoever signs in from several browsers would be locked out."""
    await set_password(client, PASSWORD)
    for _ in range(OF_NETWORK.free + 3):
        await sign_in_by_password(client, PASSWORD, **HERE)
    assert not [key async for key in client.scan_iter("parley:{console}:tries*")]


async def test_wrong_tokens_count_as_failures(client: Any) -> None:
    """A flood of them would cost nothing."""
    await set_password(client, PASSWORD)
    for _ in range(OF_NETWORK.free + 1):
        await refusal(sign_in_by_token(client, "wrong", **THERE))
    refused = await refusal(sign_in_by_password(client, PASSWORD, **THERE))
    assert refused.wait_s > 0
    assert IN_ALL.free > OF_NETWORK.free
