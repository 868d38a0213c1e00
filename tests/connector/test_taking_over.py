"""Instances made elsewhere, taken over at the real sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from service.connector.provisioning import Provisioner
from service.core.sealing import Sealer
from service.errors import UsageError
from service.store.instances import Instances
from tests.connector.pieces import (
    KEY,
    ORGANIZATION,
    OURS,
    USER,
    Platform,
    connected,
    ensured,
    provisioner,
    running_sandbox,
    wanted,
)

pytestmark = pytest.mark.anyio

ACCOUNT = "AC" + "0" * 32
SECRETS = {"Authorization": f"User {USER}, Organization {ORGANIZATION}"}

Ask = Callable[..., Any]


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    """A sandbox of the test's own; its base URL."""
    async with running_sandbox() as url:
        yield url


@pytest.fixture
async def ours(sandbox: str, store: Instances) -> AsyncIterator[Provisioner]:
    """What looks after our instance; there is none yet."""
    async with connected(sandbox) as connector:
        yield Provisioner(connector, store, Sealer([KEY]), wanted())


@pytest.fixture
async def ask(sandbox: str) -> AsyncIterator[Ask]:
    """Ask the platform as somebody does in its pages."""
    async with aiohttp.ClientSession(headers=SECRETS) as session:

        async def asked(method: str, path: str, body: Any = None) -> Any:
            async with session.request(method, sandbox + path, json=body) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        yield asked


def made_elsewhere(**changes: Any) -> dict[str, Any]:
    """What somebody fills in in the pages of Open Connectors."""
    configuration = {
        "messaging.sms.twilio.protocol": "sms",
        "messaging.sms.twilio.account": changes.pop("account", ACCOUNT),
        "messaging.sms.twilio.sender": OURS,
        "messaging.sms.twilio.token": "an older token",
        "messaging.sms.twilio.callback.url": "https://me:pw@old.example.com/sms",
    }
    body = {"element": {"key": "twilio"}, "name": "made by hand", "tags": ["billing"]}
    return body | {"configuration": configuration} | changes


async def test_an_instance_made_elsewhere_is_taken_over_with_its_token(
    ours: Provisioner, store: Instances, ask: Ask
) -> None:
    """What a team has made in the pages of Open Connectors would have to be made again."""
    made = await ask("POST", "/instances", made_elsewhere())
    plan = (await ours.plan_take(str(made["id"]))).lines()
    assert plan[0] == f"take over instance {made['id']}, with the token it has"
    assert "  tags: ['billing'] -> ['billing', 'parley']" in plan
    assert "  messaging.sms.twilio.token: ******** -> ********" in plan
    assert not any("pw" in line for line in plan)
    assert (await ask("GET", f"/instances/{made['id']}"))["tags"] == ["billing"]

    taken = await ours.take(str(made["id"]))

    kept = await store.load()
    assert kept == taken.instance
    assert (kept.id, kept.token) == (str(made["id"]), made["token"])
    assert (taken.former, taken.untagged) == ("", True)
    now = await ask("GET", f"/instances/{made['id']}")
    assert now["tags"] == ["parley", "billing"]
    url = now["configuration"]["messaging.sms.twilio.callback.url"]
    assert url == "https://sms.example.com/callbacks/twilio"
    assert not await ours.plan()
    assert await ours.ensure() == kept
    assert len(await ask("GET", "/instances")) == 1


async def test_the_former_instance_stays_without_our_tag_and_is_taken_back(
    ours: Provisioner, store: Instances, ask: Ask, sandbox: str
) -> None:
    """Replies of other processes would be refused, or an empty Redis would adopt the former one."""
    former = await ours.ensure()
    made = await ask("POST", "/instances", made_elsewhere())
    template = await ask(
        "POST",
        "/formulas",
        {"name": "CRM", "configuration": [{"key": "x", "name": "x", "type": "elementInstance"}]},
    )
    body = {"name": "nightly", "configuration": {"x": former.id}}
    await ask("POST", f"/formulas/{template['id']}/instances", body)

    taken = await ours.take(str(made["id"]))

    assert (taken.former, taken.untagged) == (former.id, True)
    assert taken.formulas.names == ("CRM / nightly",)
    assert (await ask("GET", f"/instances/{former.id}"))["tags"] == []
    async with connected(sandbox, token=former.token) as connector:
        await connector.ping()
    await store.forget()
    assert (await ours.ensure()).id == str(made["id"])
    assert (await ours.take(former.id)).former == str(made["id"])
    assert (await store.load()) == former


async def test_a_disabled_one_is_switched_on(ours: Provisioner, ask: Ask) -> None:
    """Every reply would be refused."""
    made = await ask("POST", "/instances", made_elsewhere())
    await ask("DELETE", f"/instances/{made['id']}/enabled")
    await ours.take(str(made["id"]))
    assert (await ask("GET", f"/instances/{made['id']}"))["disabled"] is False


async def test_what_can_not_be_taken_over_is_left_as_it_is(
    ours: Provisioner, store: Instances, ask: Ask
) -> None:
    """Another team's texts would come to us, or a slip would make nonsense of our own."""
    mine = await ours.ensure()
    theirs = await ask("POST", "/instances", made_elsewhere(account="AC" + "9" * 32))
    other = await ask(
        "POST",
        "/instances",
        made_elsewhere(
            element={"key": "twiliov2"}, configuration={"username": ACCOUNT, "password": "y"}
        ),
    )
    before = await ask("GET", "/instances")
    for id_, reason in {
        mine.id: "is ours already",
        str(theirs["id"]): f"it is of another Twilio account, AC{'9' * 32}",
        str(other["id"]): "it is of the connector twiliov2, not twilio",
        "424242": "there is no instance 424242",
    }.items():
        with pytest.raises(UsageError, match=reason):
            await ours.plan_take(id_)
        with pytest.raises(UsageError, match=reason):
            await ours.take(id_)
    assert await ask("GET", "/instances") == before
    assert await store.load() == mine


@pytest.mark.parametrize("bare", [False, True], ids=["whole", "bare"])
async def test_the_instances_of_our_connector_are_listed_the_newest_first(
    ours: Provisioner, ask: Ask, sandbox: str, bare: bool
) -> None:
    """An id would have to be looked up elsewhere, or a password in a URL would be shown."""
    assert await ours.candidates() == []
    mine = await ours.ensure()
    made = await ask("POST", "/instances", made_elsewhere())
    theirs = await ask("POST", "/instances", made_elsewhere(account="AC" + "9" * 32))
    await ask(
        "POST",
        "/instances",
        made_elsewhere(
            element={"key": "twiliov2"}, configuration={"username": ACCOUNT, "password": "y"}
        ),
    )
    if bare:
        async with aiohttp.ClientSession() as session:
            origin = sandbox.partition("/elements/")[0]
            async with session.post(
                f"{origin}/sandbox/switches", json={"bare_lists": True}
            ) as answer:
                assert answer.status == 200, await answer.text()
    found = await ours.candidates()

    assert [each.id for each in found] == [str(theirs["id"]), str(made["id"]), mine.id]
    assert [each.ours for each in found] == [False, False, True]
    assert [bool(each.why_not) for each in found] == [True, False, False]
    assert (found[1].name, found[1].account) == ("made by hand", ACCOUNT)
    assert found[1].callback_url == "https://********@old.example.com/sms"
    assert made["token"] not in repr(found)


async def test_a_former_one_that_can_not_be_untagged_is_told(
    platform: Platform, store: Instances
) -> None:
    """The takeover would look as if it had failed, or nobody would know of the two."""
    async with connected(platform.url) as connector:
        made = await connector.create_instance(wanted().body)
        platform.instances[made.id]["tags"] = []
        former = await ensured(platform, store)
        platform.refused_method = "PATCH"
        taken = await provisioner(connector, store).take(made.id)
        assert (taken.former, taken.untagged) == (former.id, False)
        assert await store.load() == taken.instance
        assert platform.instances[former.id]["tags"] == ["parley"]
        # Gone by now: there is nothing to untag.
        del platform.instances[former.id]
        await store.save(former)
        assert (await provisioner(connector, store).take(made.id)).untagged
