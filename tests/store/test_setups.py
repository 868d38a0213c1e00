"""The setup in Redis: sealed, versioned, one at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.core.sealing import Sealer
from service.errors import SettingsError, SetupChanged
from service.store.keys import SETUP, SETUP_DRAFT
from service.store.setups import DRAFT_LIVES, Setups
from tests.present import present
from tests.store.pieces import Store

pytestmark = pytest.mark.anyio

VALUES = {"twilio_auth_token": "the-auth-token", "twilio_sender": "+14155550100"}


@pytest.fixture
def setups(store: Store) -> Setups:
    """Setups of an empty store."""
    return Setups(store.client, Sealer(["k" * 40]))


async def test_there_is_none_at_first(setups: Setups) -> None:
    """A new service would wait for something it takes for there."""
    assert await setups.version() == 0
    assert await setups.current() is None
    assert await setups.draft() is None


async def test_what_is_kept_is_found_again_with_who_and_when(setups: Setups) -> None:
    """Nobody could say who changed the credentials."""
    assert await setups.keep(VALUES, who="root@host", after=0) == 1
    kept = present(await setups.current())
    assert (kept.version, kept.values, kept.who) == (1, VALUES, "root@host")
    assert abs(datetime.now(UTC) - kept.at) < timedelta(seconds=5)
    assert await setups.version() == 1
    assert "the-auth-token" not in repr(kept)


async def test_nothing_of_it_is_readable_in_redis(setups: Setups, store: Store) -> None:
    """Whoever reads a backup of Redis would have the account."""
    await setups.keep(VALUES, who="somebody", after=0)
    assert await setups.keep_draft(VALUES, who="somebody", after=0)
    for key in (SETUP, SETUP_DRAFT):
        raw = b"".join(b"%b=%b" % pair for pair in (await store.client.hgetall(key)).items())
        assert b"the-auth-token" not in raw
        assert b"4155550100" not in raw


async def test_who_applies_second_is_told(setups: Setups) -> None:
    """One of two people would believe that what they typed is in use."""
    await setups.keep(VALUES, who="one", after=0)
    with pytest.raises(SetupChanged):
        await setups.keep({"twilio_sender": "+14155550101"}, who="other", after=0)
    assert present(await setups.current()).values == VALUES
    assert await setups.keep({"twilio_sender": "+14155550101"}, who="other", after=1) == 2


async def test_a_draft_is_kept_for_a_week_and_dropped(setups: Setups, store: Store) -> None:
    """Secrets that nobody uses would lie in Redis for ever."""
    assert await setups.keep_draft(VALUES, who="somebody", after=0)
    assert present(await setups.draft()).values == VALUES
    assert await setups.version() == 0
    left_ms = await store.client.pttl(SETUP_DRAFT)
    assert 0 < left_ms <= DRAFT_LIVES.total_seconds() * 1000
    await setups.drop_draft()
    assert await setups.draft() is None


async def test_another_key_is_an_error_that_says_what_to_do(setups: Setups, store: Store) -> None:
    """Parley would start as if nobody had set it up."""
    await setups.keep(VALUES, who="somebody", after=0)
    with pytest.raises(SettingsError, match=r"SECRET_KEY=new,former.*type the credentials anew"):
        await Setups(store.client, Sealer(["n" * 40])).current()
    lost = present(await Setups(store.client, Sealer(["n" * 40])).current_or_lost())
    assert (lost.version, lost.values) == (1, {})
    both = Setups(store.client, Sealer(["n" * 40, "k" * 40]))
    assert present(await both.current()).values == VALUES


async def test_of_two_who_type_at_once_the_second_is_told(setups: Setups) -> None:
    """What one of them typed would be gone, and nobody would know."""
    assert await setups.keep_draft(VALUES, who="one", after=0)
    assert not await setups.keep_draft({}, who="other", after=0)
    assert present(await setups.draft()).values == VALUES
    assert await setups.keep_draft({}, who="other", after=1)
    await setups.drop_draft(1)
    assert present(await setups.draft()).who == "other"
    await setups.drop_draft(2)
    assert await setups.draft() is None
