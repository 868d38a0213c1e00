"""What a setup turns in a process that runs: the door, the instance, the backfill."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from service.core.sealing import Sealer
from service.errors import SetupChanged
from service.settings.setup import load_given
from service.store.keys import SETUP
from service.store.setups import Setups
from service.wiring.parts.base import Base
from service.wiring.parts.gaps import Gaps
from service.wiring.parts.public import PublicSide
from service.wiring.parts.readiness import look_at_all
from service.wiring.parts.setup import SetupWatch
from tests.connector.pieces import ORGANIZATION, USER, Platform, running_platform
from tests.wiring.conftest import CONFIG, ENVIRON
from tests.wiring.test_parts import running
from tests.workers.pieces import until

pytestmark = pytest.mark.anyio

BARE = {name: "" for name in ENVIRON if name.startswith(("TWILIO", "OPEN_CONNECTORS"))}
"""Settings of a service that nobody has set up."""


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    """Open Connectors as documented, empty."""
    async with running_platform() as opened:
        yield opened


def setup_of(platform: Platform, **changes: str) -> dict[str, str]:
    """What somebody types."""
    typed = {
        "open_connectors_base_url": platform.url,
        "open_connectors_user_secret": USER,
        "open_connectors_organization_secret": ORGANIZATION,
        "twilio_account_sid": "AC" + "2e" * 16,
        "twilio_auth_token": "token-of-the-setup",
        "twilio_sender": "+14155550177",
    }
    return typed | changes


async def keep(base: Base, values: Mapping[str, str], secret_key: str = "") -> int:
    """Put a setup in use."""
    setups = Setups(base.client, Sealer([secret_key or ENVIRON["SECRET_KEY"]]))
    return await setups.keep(values, who="somebody", after=await setups.version())


@asynccontextmanager
async def watching(base: Base) -> AsyncIterator[None]:
    """Run what watches over Redis, the setup and the instance."""
    tasks = [base.redis.run, base.setup.run, base.instance.run]
    async with running(*(asyncio.create_task(each()) for each in tasks)):
        yield


async def test_a_service_without_a_setup_says_so_and_asks_the_connector_nothing(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """Somebody who starts it would look for what is wrong, or an instance be made of nothing."""
    base = make_base(**BARE | {"OPEN_CONNECTORS_BASE_URL": platform.url})
    with capture_logs() as lines:
        async with watching(base):
            await base.setup.looked.wait()
            await asyncio.sleep(0.1)
    checks = await look_at_all(base, Gaps(base, lambda: 0), 1)
    assert not checks["setup"].ok
    assert checks["setup"].detail.startswith("not set up: run `parley console`; missing: ")
    assert "TWILIO_AUTH_TOKEN" in checks["setup"].detail
    assert "OPEN_CONNECTORS_BASE_URL" not in checks["setup"].detail
    assert not checks["instance"].ok
    [said] = [line for line in lines if line["event"] == "not set up"]
    assert said["run"] == "parley console"
    assert platform.seen == []


async def test_a_setup_is_in_use_within_two_seconds(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """The service would have to be started again, or be told by hand."""
    base = make_base(**BARE)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/callbacks/twilio"
    door = PublicSide(base, listener)
    async with watching(base), running(door.start()), httpx.AsyncClient() as caller:
        assert (await caller.post(url, data={"Body": "x"})).status_code == 503
        assert door.refused == 1
        await keep(base, setup_of(platform))
        async with asyncio.timeout(2):
            while (await caller.post(url, data={"Body": "x"})).status_code != 403:
                await asyncio.sleep(0.01)
            await base.instance.ready.wait()
        assert base.setup.check().detail == "version 1"
        base.stop.told.set()
        await until(lambda: listener.fileno() == -1)
    [instance] = platform.instances.values()
    assert instance["configuration"]["messaging.sms.twilio.sender"] == "+14155550177"


async def test_told_of_a_setup_it_looks_at_once(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """Whoever has just pressed Apply would watch an idle page."""
    base = make_base(**BARE)
    async with watching(base):
        await base.setup.looked.wait()
        await keep(base, setup_of(platform))
        base.setup.changed()
        await until(lambda: base.setup.in_use is not None, timeout_s=0.5)


async def test_what_settings_give_wins_and_the_setup_fills_the_rest(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """A secret that is rotated in its file would be overruled by what was once typed."""
    base = make_base(**BARE | {"TWILIO_AUTH_TOKEN": "token-of-the-environment"})
    await keep(base, setup_of(platform))
    async with watching(base):
        await until(lambda: base.setup.in_use is not None)
    assert base.setup.in_use is not None
    assert base.setup.in_use.settings.auth_tokens == ("token-of-the-environment",)
    assert base.setup.in_use.settings.twilio_sender == "+14155550177"


async def test_whole_settings_need_no_setup_and_take_none_of_its_entries(
    make_base: Callable[..., Base],
) -> None:
    """A service that runs today would wait for something that it does without."""
    base = make_base()
    assert base.setup.check().ok
    with capture_logs() as lines:
        async with watching(base):
            await base.setup.looked.wait()
    assert (base.setup.check().ok, base.setup.check().detail) == (True, "")
    assert not [line for line in lines if "set up" in line["event"]]


CANT_BE_USED = {
    "sealed with another key": ({}, "another-secret-key-of-32-characters", "SECRET_KEY is not"),
    "an entry that is none": ({"twilio_account_sid": "nobody"}, "", "TWILIO_ACCOUNT_SID"),
    "the entries of another connector": (
        {"connector_element": "twiliov3"},
        "",
        "CONNECTOR_ELEMENT",
    ),
}


@pytest.mark.parametrize("case", CANT_BE_USED.values(), ids=CANT_BE_USED)
async def test_a_setup_that_cant_be_used_is_told_of_once_and_the_former_stays(
    make_base: Callable[..., Base], platform: Platform, case: tuple[dict[str, str], str, str]
) -> None:
    """A mistake in the console would stop a service that answers, or nobody hear of it."""
    changes, key, says = case
    base = make_base(**BARE)
    await keep(base, setup_of(platform))
    async with watching(base):
        await base.instance.ready.wait()
        with capture_logs() as lines:
            await keep(base, setup_of(platform, **changes), key)
            await until(lambda: "setup 2 can't be used" in base.setup.check().detail)
            await asyncio.sleep(1.2)
        assert base.setup.check().ok
        assert says in base.setup.check().detail
        assert base.setup.in_use is not None
        assert base.setup.in_use.version == 1
        assert base.instance.ready.is_set()
        await keep(base, setup_of(platform, instance_name="mended"))
        await until(lambda: base.setup.check().detail == "version 3")
    told = [line for line in lines if line["event"] == "a setup can't be used"]
    assert [(each["version"], each["in_use"]) for each in told] == [(2, 1)]


async def test_an_outage_of_redis_neither_shuts_the_door_nor_ends_the_watch(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """Whoever applies a setup behind an outage would have to start the service again."""
    away = make_base("unix:///nowhere/redis.sock", **BARE)
    watch = SetupWatch(load_given(CONFIG, ENVIRON | BARE), away.setup._setups, asyncio.Event())
    watch._opened.set()
    base = make_base(**BARE)
    await keep(base, setup_of(platform))
    async with running(asyncio.create_task(watch.run())):
        await asyncio.sleep(0.2)
        assert watch.check().detail == "not looked at yet"
        watch._setups = base.setup._setups
        await until(lambda: watch.in_use is not None)
        watch._setups = away.setup._setups
        watch.changed()
        await asyncio.sleep(0.2)
        assert watch.check().detail == "version 1"


async def test_a_setup_that_is_gone_stays_in_use(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """A Redis that was emptied by mistake would end the service before anybody looks."""
    base = make_base(**BARE)
    await keep(base, setup_of(platform))
    async with watching(base):
        await until(lambda: base.setup.in_use is not None)
        await base.client.delete(SETUP)
        await until(lambda: "gone from Redis" in base.setup.check().detail)
        await base.setup.still_in_use(1)
    assert base.setup.check().ok


async def test_a_process_that_is_behind_does_not_undo_what_another_has_applied(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """The instance would get its former auth token back for a while, and Twilio refuse it."""
    base = make_base(**BARE)
    assert await keep(base, setup_of(platform)) == 1
    await base.setup.still_in_use(1)
    await keep(base, setup_of(platform, twilio_auth_token="the next token"))
    with pytest.raises(SetupChanged, match="setup 2 is in use, and this process had setup 1"):
        await base.setup.still_in_use(1)


async def test_a_setup_that_cant_be_used_here_does_not_keep_the_instance_from_being_looked_after(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """A drift would stay, for a setup that nobody here can take."""
    base = make_base(**BARE)
    await keep(base, setup_of(platform))
    async with watching(base):
        await base.instance.ready.wait()
        await keep(base, setup_of(platform, twilio_account_sid="none"))
        await until(lambda: "can't be used" in base.setup.check().detail)
        await base.setup.still_in_use(1)


async def test_the_backfill_turns_to_the_number_of_the_setup(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """Missed texts to our number would be taken for somebody else's."""
    base = make_base(**BARE)
    gaps: Any = Gaps(base, lambda: 0)
    await keep(base, setup_of(platform))
    async with watching(base):
        await until(lambda: base.setup.in_use is not None)
    assert (gaps._backfill._account, gaps._backfill._sender) == ("AC" + "2e" * 16, "+14155550177")


async def test_settings_that_are_whole_are_used_beside_a_setup_that_can_not_be(
    make_base: Callable[..., Base], platform: Platform
) -> None:
    """A deployment that went back to settings would take texts and answer none."""
    base = make_base(
        OPEN_CONNECTORS_BASE_URL=platform.url,
        OPEN_CONNECTORS_USER_SECRET=USER,
        OPEN_CONNECTORS_ORGANIZATION_SECRET=ORGANIZATION,
    )
    await keep(base, setup_of(platform), secret_key="n" * 40)
    async with watching(base):
        await until(lambda: "setup 1 can't be used" in base.setup.check().detail)
        async with asyncio.timeout(5):
            await base.instance.ready.wait()
    assert base.setup.check().ok
    assert len(platform.instances) == 1
