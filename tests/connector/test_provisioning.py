from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from aiohttp import web

from service.connector.client import Connector
from service.connector.provisioning import INSTANCE_NAMES, Provisioner, Wanted
from service.core.sealing import Sealer
from service.core.templates import Template
from service.errors import ConnectorForbidden, SettingsError
from service.model import Instance
from service.store.connection import connect
from service.store.instances import Instances
from service.store.keys import INSTANCE
from tests.connector.pieces import (
    AUTH_TOKEN,
    ORGANIZATION,
    USER,
    Platform,
    connected,
    failure,
    outbound,
    running_platform,
    wanted,
)

pytestmark = pytest.mark.anyio

KEY = "a secret key of thirty-two characters"


@pytest.fixture
async def store(redis_server: str) -> AsyncIterator[Instances]:
    """The real store, empty."""
    client = connect(redis_server)
    yield Instances(client, Sealer([KEY]))
    await client.aclose()


def provisioner(
    connector: Connector, store: Instances, what: Wanted | None = None, **options: Any
) -> Provisioner:
    """One process's provisioner; options: watch_s, repair."""
    return Provisioner(connector, store, Sealer([KEY]), what or wanted(), **options)


async def ensured(platform: Platform, store: Instances, what: Wanted | None = None) -> Instance:
    """Provision as one start of the service does."""
    async with connected(platform.url) as connector:
        return await provisioner(connector, store, what).ensure()


async def stopped(task: asyncio.Task[None]) -> None:
    """Stop a provisioner that goes on for ever."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(what: Any) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


async def test_the_first_start_creates_an_instance_and_keeps_it(platform, store):
    """There would be nothing to send replies through, or a new instance at every start."""
    instance = await ensured(platform, store)

    [(id_, record)] = platform.instances.items()
    assert (instance.id, instance.token) == (id_, record["token"])
    assert instance.callback_url == "https://sms.example.com/callbacks/twilio"
    assert (instance.name, instance.tags) == ("parley", ("parley",))
    assert await store.load() == instance


async def test_a_second_start_uses_the_instance_again(platform, store):
    """Every restart would leave another instance behind at the connector."""
    first = await ensured(platform, store)
    second = await ensured(platform, store)

    assert second == first
    assert len(platform.said("POST", "/instances")) == 1
    assert platform.said("PUT", "/instances") == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"CALLBACK_URL": "https://new.example.com/callbacks/twilio"}, id="address"),
        pytest.param({"TWILIO_AUTH_TOKEN": "new-token"}, id="secret"),
        pytest.param({"TWILIO_SENDER": "+15005550111"}, id="sender"),
    ],
)
async def test_a_changed_setting_reaches_the_instance_at_the_next_start(platform, store, change):
    """Texts would go to the old address, or be refused for the old secret."""
    first = await ensured(platform, store)
    second = await ensured(platform, store, wanted(**change))

    assert (second.id, second.token) == (first.id, first.token)
    assert len(platform.instances) == 1
    assert platform.instances[first.id]["configuration"] == wanted(**change).body["configuration"]
    assert await store.load() == second
    assert await ensured(platform, store, wanted(**change)) == second
    assert len(platform.said("PUT", "/instances")) == 1


async def test_an_instance_deleted_behind_our_back_is_created_anew(platform, store):
    """Replies would be refused for ever with the token of an instance that is gone."""
    first = await ensured(platform, store)
    platform.instances.clear()
    second = await ensured(platform, store)

    assert second.token != first.token
    assert list(platform.instances) == [second.id]


async def test_a_disabled_instance_is_enabled_again(platform, store):
    """Every reply would be a 403; a new one would leave the old one behind, with our number."""
    first = await ensured(platform, store)
    platform.instances[first.id]["disabled"] = True

    assert await ensured(platform, store) == first
    assert platform.instances[first.id]["disabled"] is False
    assert list(platform.instances) == [first.id]


async def test_wrong_secrets_create_nothing(platform, store):
    """A revoked secret would look like a lost instance, and lose the one there is."""
    first = await ensured(platform, store)
    async with connected(platform.url, user_secret="revoked") as connector:
        with pytest.raises(ConnectorForbidden):
            await provisioner(connector, store).ensure()

    assert list(platform.instances) == [first.id]
    assert await store.load() == first


async def test_starts_at_the_same_time_create_one_instance(platform, store, redis_server):
    """Ten replicas would leave ten instances behind, nine of them with our number."""
    clients = [connect(redis_server) for _ in range(10)]
    instances = await asyncio.gather(
        *(ensured(platform, Instances(client, Sealer([KEY]))) for client in clients)
    )
    for client in clients:
        await client.aclose()

    assert len(platform.instances) == 1
    assert len({each.token for each in instances}) == 1


async def test_an_instance_with_our_tag_is_adopted_before_one_is_made(platform, store):
    """An empty Redis, or a lost answer to POST, would leave an instance behind at every start."""
    async with connected(platform.url) as connector:
        orphan = await connector.create_instance(wanted().body)
    platform.instances[orphan.id]["configuration"]["messaging.sms.twilio.sender"] = "+1999"
    platform.instances[orphan.id]["disabled"] = True
    instance = await ensured(platform, store)

    assert (instance.id, instance.token) == (orphan.id, orphan.token)
    assert list(platform.instances) == [orphan.id]
    assert platform.instances[orphan.id]["configuration"] == wanted().body["configuration"]
    assert platform.instances[orphan.id]["disabled"] is False
    assert await store.load() == instance


async def test_an_instance_of_another_account_is_not_adopted(platform, store):
    """Its owner would lose his texts to us."""
    async with connected(platform.url) as connector:
        other = await connector.create_instance(wanted(TWILIO_ACCOUNT_SID="ACother").body)
    with structlog.testing.capture_logs() as logs:
        instance = await ensured(platform, store)

    assert instance.id != other.id
    [warning] = [line for line in logs if line["log_level"] == "warning"]
    assert (warning["instances"], warning["tag"]) == ([other.id], "parley")


async def test_of_several_with_our_tag_the_newest_is_adopted_and_the_others_named(platform, store):
    """Nobody would know that three of them send callbacks to us."""
    async with connected(platform.url) as connector:
        made = [await connector.create_instance(wanted().body) for _ in range(3)]
    with structlog.testing.capture_logs() as logs:
        instance = await ensured(platform, store)

    assert instance.id == made[-1].id
    [warning] = [line for line in logs if line["log_level"] == "warning"]
    assert warning["instances"] == [each.id for each in made[:-1]]


async def test_open_connectors_fact_05_the_plan_names_every_difference_and_changes_nothing(
    platform, store
):
    """An operator has to know what a start will do to the instance that answers customers."""
    async with connected(platform.url) as connector:
        new = (await provisioner(connector, store).plan()).lines()
        assert new[0] == "create an instance"
        assert "  messaging.sms.twilio.token: (none) -> ********" in new
        first = await ensured(platform, store)
        record = platform.instances[first.id]
        record["configuration"]["messaging.sms.twilio.callback.url"] = "https://evil.example"
        record |= {"disabled": True, "token": "rotated-token", "name": "x", "tags": ["theirs"]}
        before, sent = repr(record), len(platform.seen)
        lines = (await provisioner(connector, store).plan()).lines()

    url = "'https://sms.example.com/callbacks/twilio'"
    assert lines == [
        f"take the new token of instance {first.id}",
        f"enable instance {first.id}",
        f"update instance {first.id}",
        "  name: 'x' -> 'parley'",
        "  tags: ['theirs'] -> ['theirs', 'parley']",
        f"  messaging.sms.twilio.callback.url: 'https://evil.example' -> {url}",
    ]
    assert repr(record) == before
    assert {each.method for each in platform.seen[sent:]} == {"GET"}
    instance = await ensured(platform, store)
    assert instance.token == "rotated-token"
    assert record["tags"] == ["parley", "theirs"]
    assert record["configuration"] == wanted().body["configuration"]


async def test_replies_can_be_sent_as_soon_as_it_is_ready(platform, store):
    """Replies would wait for a restart."""
    async with connected(platform.url) as connector:
        service = provisioner(connector, store)
        assert not service.ready.is_set()
        running = asyncio.create_task(service.run())
        await asyncio.wait_for(service.ready.wait(), 10)
        await stopped(running)

        assert service.state == f"instance {next(iter(platform.instances))}"
        assert await connector.send(outbound(), lambda: None)


async def test_it_keeps_trying_while_the_connector_is_away(store):
    """A start during an outage of the connector would need another one after it."""
    async with running_platform() as first:
        url = first.url
    async with connected(url) as connector:
        service = provisioner(connector, store)
        running = asyncio.create_task(service.run())
        await until(lambda: "no connection" in service.state.lower())
        assert not service.ready.is_set()
        app = web.Application()
        platform = Platform()
        app.router.add_route("*", "/{path:.*}", platform.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(url.split(":")[2].split("/")[0])).start()
        try:
            await asyncio.wait_for(service.ready.wait(), 20)
        finally:
            await stopped(running)
            await runner.cleanup()

    assert len(platform.instances) == 1
    assert service.ready.is_set()


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(400, id="an entry it does not like"),
        pytest.param(401, id="wrong secrets"),
        pytest.param(404, id="a wrong base address"),
        pytest.param(409, id="a conflict"),
    ],
)
async def test_a_refusal_is_reported_and_not_repeated_at_once(platform, store, status):
    """The connector would be hammered with a request somebody has to mend first."""
    platform.overrides = [failure(status, "no", "Twilio: 20003") for _ in range(9)]
    async with connected(platform.url) as connector:
        service = provisioner(connector, store)
        with structlog.testing.capture_logs() as logs:
            running = asyncio.create_task(service.run())
            await until(lambda: logs)
            await asyncio.sleep(0.5)
            await stopped(running)

    [line] = logs
    expected = f"{status}: no; providerMessage: Twilio: 20003; requestId: 56a1e4b2e4b0a7ce7a5e6f0d"
    assert line["error"] == expected
    assert line["again_in_ms"] >= 3_000
    assert expected in service.state


async def test_retry_after_is_waited_for(platform, store):
    """A throttled start would keep itself throttled."""
    platform.overrides = [failure(429, "slow down", Retry_After="1")]
    async with connected(platform.url) as connector:
        began = asyncio.get_running_loop().time()
        service = provisioner(connector, store)
        running = asyncio.create_task(service.run())
        await asyncio.wait_for(service.ready.wait(), 20)
        await stopped(running)

    assert asyncio.get_running_loop().time() - began >= 1


async def test_a_token_sealed_with_another_key_is_reported_and_left_alone(
    platform, store, redis_server
):
    """A mistyped SECRET_KEY would lose the instance."""
    first = await ensured(platform, store)
    client = connect(redis_server)
    async with connected(platform.url) as connector:
        service = provisioner(connector, Instances(client, Sealer(["another key " * 4])))
        running = asyncio.create_task(service.run())
        await until(lambda: "SECRET_KEY" in service.state)
        await stopped(running)
    await client.aclose()

    assert list(platform.instances) == [first.id]
    assert await store.load() == first


async def test_a_defect_is_heard_of_and_does_not_end_provisioning(platform, store, redis_server):
    """Parley would wait for ever without a word, and hide that nobody is answered."""
    client = connect(redis_server)
    await client.hset(INSTANCE, mapping={"id": "1"})
    async with connected(platform.url) as connector:
        service = provisioner(connector, store)
        with structlog.testing.capture_logs() as logs:
            running = asyncio.create_task(service.run())
            await until(lambda: logs)
            assert not running.done()
            await stopped(running)
    await client.aclose()

    assert logs[0]["log_level"] == "error"
    assert "KeyError in load (instances.py:" in logs[0]["error"]
    assert logs[0]["error"] in service.state


async def test_no_secret_reaches_redis_in_the_clear_or_the_log(platform, store, redis_server):
    """Whoever reads either could send in our name."""
    with structlog.testing.capture_logs() as logs:
        instance = await ensured(platform, store)
        await ensured(platform, store, wanted(CALLBACK_URL="https://b.example.com/x"))
    client = connect(redis_server)
    kept = await client.hgetall(INSTANCE)
    await client.aclose()

    secrets = (instance.token, AUTH_TOKEN, USER, ORGANIZATION)
    assert not any(secret in repr(kept) for secret in secrets)
    assert not any(secret in repr(logs) for secret in secrets)
    assert not any(secret in repr([instance, wanted()]) for secret in secrets)
    done = [line for line in logs if line["event"] != "plan"]
    assert [(line["event"], line["instance"]) for line in done] == [
        ("instance created", instance.id),
        ("instance updated", instance.id),
    ]
    assert done[1]["callback_url"] == "https://b.example.com/x"


def build(text: str, **values: str) -> Wanted:
    """Build from an operator's own template."""
    template = Template(text, place="instance.json", names=INSTANCE_NAMES)
    return Wanted.build(template, dict.fromkeys(INSTANCE_NAMES, "x") | values, "instance.json")


def test_every_missing_entry_is_named_before_anything_is_asked():
    """The operator would mend them one refused request at a time."""
    with pytest.raises(SettingsError) as caught:
        wanted(TWILIO_SENDER="", TWILIO_ACCOUNT_SID="")

    assert caught.value.problems == tuple(
        f"instance.json: the required entry messaging.sms.twilio.{entry} is missing"
        for entry in ("account (setting TWILIO_ACCOUNT_SID)", "sender (setting TWILIO_SENDER)")
    )


def test_open_connectors_fact_03_the_documentations_own_sample_works_with_its_broken_line():
    """The page to copy from breaks a line inside the callback URL."""
    text = """{"element": {"key": "twilio"}, "name": "n", "tags": [""], "configuration": {
      "messaging.sms.twilio.protocol": "sms",
      "messaging.sms.twilio.account": "a",
      "messaging.sms.twilio.sender": "s",
      "messaging.sms.twilio.token": "t",
      "messaging.sms.twilio.callback.url": "https://www.mycoolapp.com/auth
"}}"""

    assert build(text).callback_url == "https://www.mycoolapp.com/auth"


def test_a_callback_url_that_is_none_is_named_with_its_setting():
    """No text would ever arrive."""
    with pytest.raises(SettingsError, match=r"callback\.url \(setting PUBLIC_URL\) is no URL"):
        wanted(CALLBACK_URL="sms.example.com/callbacks")


async def test_the_order_of_entries_in_the_file_is_no_change(platform, store):
    """Sorting the file would update the instance."""
    await ensured(platform, store)
    await ensured(platform, store, Wanted(dict(reversed(wanted().body.items()))))

    assert platform.said("PUT", "/instances") == []


async def test_drift_is_seen_where_an_instance_does_not_tell_its_configuration(platform, store):
    """Texts would go elsewhere for ever: only the list of entries says so."""
    platform.left_out = frozenset({"configuration"})
    first = await ensured(platform, store)
    configuration = platform.instances[first.id]["configuration"]
    configuration["messaging.sms.twilio.callback.url"] = "https://evil.example"
    await ensured(platform, store)

    assert platform.instances[first.id]["configuration"] == wanted().body["configuration"]
    assert len(platform.said("PUT", f"/instances/{first.id}")) == 1
    await ensured(platform, store)
    assert len(platform.said("PUT", f"/instances/{first.id}")) == 1


async def test_an_instance_whose_token_nobody_tells_is_not_adopted(platform, store):
    """No reply could leave through it."""
    async with connected(platform.url) as connector:
        orphan = await connector.create_instance(wanted().body)
    platform.left_out = frozenset({"token"})
    with structlog.testing.capture_logs() as logs:
        instance = await ensured(platform, store)

    assert instance.id != orphan.id
    assert instance.token == platform.instances[instance.id]["token"]
    [warning] = [line for line in logs if line["log_level"] == "warning"]
    assert warning["instances"] == [orphan.id]


@pytest.mark.parametrize("what", ["deleted", "disabled", "token"])
async def test_an_instance_that_is_only_watched_is_reported_and_left(platform, store, what):
    """/readyz would call it fit, or CONNECTOR_REPAIR=report would undo what somebody did."""
    first = await ensured(platform, store)
    async with connected(platform.url) as connector:
        service = provisioner(connector, store, watch_s=0.1, repair=False)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        record = dict(platform.instances[first.id])
        changed = {"disabled": True} if what == "disabled" else {"token": "rotated"}
        sent = len(platform.seen)
        with structlog.testing.capture_logs() as logs:
            if what == "deleted":
                del platform.instances[first.id]
            else:
                platform.instances[first.id] |= changed
            await until(lambda: not service.ready.is_set() and logs)
        assert service.state.startswith("the instance is not as it should be: ")
        assert "parley connector apply" in service.state
        assert {line["log_level"] for line in logs if "advice" in line} == {"error"}
        assert {each.method for each in platform.seen[sent:]} == {"GET"}

        platform.instances[first.id] = record
        await until(service.ready.is_set)
        assert service.state == f"instance {first.id}"
        await stopped(running)


async def test_a_changed_entry_that_is_only_reported_keeps_replies_going(platform, store):
    """Replies would stop for a name, and /readyz would name what is mended long since."""
    first = await ensured(platform, store)
    async with connected(platform.url) as connector:
        service = provisioner(connector, store, watch_s=0.1, repair=False)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        platform.instances[first.id]["name"] = "theirs"
        await until(lambda: "name: 'theirs' -> 'parley'" in service.state)
        assert service.ready.is_set()
        platform.instances[first.id]["name"] = "parley"
        await until(lambda: service.state == f"instance {first.id}")
        await stopped(running)


async def test_a_revoked_secret_is_an_alarm_and_makes_no_instance(platform, store):
    """Nobody would hear of it, or instances would be made in a loop."""
    first = await ensured(platform, store)
    async with connected(platform.url) as connector:
        service = provisioner(connector, store)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        platform.overrides = [failure(401, "Invalid User secret") for _ in range(9)]
        with structlog.testing.capture_logs() as logs:
            service.suspect()
            await until(lambda: logs)
        await asyncio.sleep(0.5)
        assert not service.ready.is_set()
        await stopped(running)

    [alarm] = logs
    assert (alarm["log_level"], alarm["again_in_ms"] >= 3_000) == ("error", True)
    assert "OPEN_CONNECTORS_USER_SECRET" in alarm["advice"]
    assert alarm["error"] in service.state
    assert len(platform.overrides) == 8, "asked once, and not again at once"
    assert list(platform.instances) == [first.id]


@pytest.mark.parametrize(
    ("provider", "made"),
    [
        pytest.param("Twilio: 20003 Authenticate", 1, id="Twilio refuses the account"),
        pytest.param(None, 2, id="the connector refuses every token"),
    ],
)
async def test_a_refusal_that_no_new_instance_mends_makes_no_loop_of_them(
    platform, store, provider, made
):
    """Every refused reply would make another instance, and move the number's callback to it."""
    await ensured(platform, store)
    platform.refusal = (401, "Unauthorized", provider)
    async with connected(platform.url) as connector:
        service = provisioner(connector, store)
        running = asyncio.create_task(service.run())
        await until(service.ready.is_set)
        # As long as replies go on being refused.
        while "401" not in service.state:
            service.suspect()
            await until(lambda: service.ready.is_set() or "401" in service.state)
        assert not service.ready.is_set()
        await stopped(running)

    assert len(platform.said("POST", "/instances")) == made
    assert len(platform.instances) == 1
