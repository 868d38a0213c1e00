from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from service.connector.provisioning import INSTANCE_NAMES, Wanted
from service.core.open_connectors.templates import Template
from service.core.sealing import Sealer
from service.errors import ConnectorError, ConnectorForbidden, SettingsError
from service.store.connection import connect
from service.store.instances import Instances
from service.store.keys import INSTANCE
from tests.connector.pieces import (
    AUTH_TOKEN,
    KEY,
    ORGANIZATION,
    USER,
    Platform,
    connected,
    ensured,
    failure,
    provisioner,
    wanted,
)

pytestmark = pytest.mark.anyio


async def test_the_first_start_creates_an_instance_and_keeps_it(
    platform: Platform, store: Instances
) -> None:
    """There would be nothing to send replies through, or a new instance at every start."""
    instance = await ensured(platform, store)

    [(id_, record)] = platform.instances.items()
    assert (instance.id, instance.token) == (id_, record["token"])
    assert instance.callback_url == "https://sms.example.com/callbacks/twilio"
    assert (instance.name, instance.tags) == ("parley", ("parley",))
    assert await store.load() == instance


async def test_a_second_start_uses_the_instance_again(platform: Platform, store: Instances) -> None:
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
async def test_a_changed_setting_reaches_the_instance_at_the_next_start(
    platform: Platform, store: Instances, change: dict[str, str]
) -> None:
    """Texts would go to the old address, or be refused for the old secret."""
    first = await ensured(platform, store)
    second = await ensured(platform, store, wanted(**change))

    assert (second.id, second.token) == (first.id, first.token)
    assert len(platform.instances) == 1
    assert platform.instances[first.id]["configuration"] == wanted(**change).body["configuration"]
    assert await store.load() == second
    assert await ensured(platform, store, wanted(**change)) == second
    assert len(platform.said("PUT", "/instances")) == 1


async def test_an_instance_deleted_behind_our_back_is_created_anew(
    platform: Platform, store: Instances
) -> None:
    """Replies would be refused for ever with the token of an instance that is gone."""
    first = await ensured(platform, store)
    platform.instances.clear()
    second = await ensured(platform, store)

    assert second.token != first.token
    assert list(platform.instances) == [second.id]


async def test_a_disabled_instance_is_enabled_again(platform: Platform, store: Instances) -> None:
    """Every reply would be a 403; a new one would leave the old one behind, with our number."""
    first = await ensured(platform, store)
    platform.instances[first.id]["disabled"] = True

    assert await ensured(platform, store) == first
    assert platform.instances[first.id]["disabled"] is False
    assert list(platform.instances) == [first.id]


async def test_wrong_secrets_create_nothing(platform: Platform, store: Instances) -> None:
    """A revoked secret would look like a lost instance, and lose the one there is."""
    first = await ensured(platform, store)
    async with connected(platform.url, user_secret="revoked") as connector:
        with pytest.raises(ConnectorForbidden):
            await provisioner(connector, store).ensure()

    assert list(platform.instances) == [first.id]
    assert await store.load() == first


async def test_starts_at_the_same_time_create_one_instance(
    platform: Platform, store: Instances, redis_server: str
) -> None:
    """Ten replicas would leave ten instances behind, nine of them with our number."""
    clients = [connect(redis_server) for _ in range(10)]
    instances = await asyncio.gather(
        *(ensured(platform, Instances(client, Sealer([KEY]))) for client in clients)
    )
    for client in clients:
        await client.aclose()

    assert len(platform.instances) == 1
    assert len({each.token for each in instances}) == 1


async def test_an_instance_with_our_tag_is_adopted_before_one_is_made(
    platform: Platform, store: Instances
) -> None:
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


async def test_an_instance_of_another_account_is_not_adopted(
    platform: Platform, store: Instances
) -> None:
    """Its owner would lose his texts to us."""
    async with connected(platform.url) as connector:
        other = await connector.create_instance(wanted(TWILIO_ACCOUNT_SID="ACother").body)
    with structlog.testing.capture_logs() as logs:
        instance = await ensured(platform, store)

    assert instance.id != other.id
    [warning] = [line for line in logs if line["log_level"] == "warning"]
    assert (warning["instances"], warning["tag"]) == ([other.id], "parley")


async def test_open_connectors_fact_13_a_search_without_a_match_is_answered_404_and_means_none(
    platform: Platform, store: Instances
) -> None:
    """Nothing would ever be provisioned at a platform that has no instance of ours yet."""
    async with connected(platform.url) as connector:
        assert await connector.find_instances("parley") == []
    assert platform.seen[-1].path == "/instances?tags%5B%5D=parley"
    instance = await ensured(platform, store)
    assert list(platform.instances) == [instance.id]


OTHERS = [
    pytest.param({"tags": ["billing"]}, id="another team's tag"),
    pytest.param({"tags": []}, id="no tag"),
    pytest.param({"element": {"id": 9, "key": "twiliov2"}}, id="our tag on another connector"),
    pytest.param(
        {"configuration": wanted(TWILIO_ACCOUNT_SID="AC" + "9" * 32).body["configuration"]},
        id="our tag in another account",
    ),
]


@pytest.mark.parametrize("theirs", OTHERS)
@pytest.mark.parametrize(
    "list_left_out", [(), ("tags", "element", "configuration", "token")], ids=["whole", "bare"]
)
async def test_open_connectors_fact_13_a_search_that_ignores_the_tag_gives_no_instance_away(
    platform: Platform, store: Instances, theirs: dict[str, Any], list_left_out: tuple[str, ...]
) -> None:
    """Another team's name, sender and callback URL would be overwritten with ours."""
    async with connected(platform.url) as connector:
        other = await connector.create_instance(wanted().body)
    platform.instances[other.id] |= theirs
    before = repr(platform.instances[other.id])
    platform.filter_tags, platform.list_left_out = "ignored", frozenset(list_left_out)
    instance = await ensured(platform, store)

    assert instance.id != other.id
    assert repr(platform.instances[other.id]) == before
    assert {each.method for each in platform.said("", f"/instances/{other.id}")} <= {"GET"}


@pytest.mark.parametrize("tag_objects", [False, True], ids=["texts", "objects"])
async def test_open_connectors_fact_14_ours_is_adopted_from_a_list_that_tells_little(
    platform: Platform, store: Instances, tag_objects: bool
) -> None:
    """Where rows have no configuration, an empty Redis would leave an instance behind each time."""
    async with connected(platform.url) as connector:
        orphan = await connector.create_instance(wanted().body)
    platform.filter_tags, platform.tag_objects = "ignored", tag_objects
    platform.list_left_out = frozenset({"configuration", "token", "tags"})
    assert (await ensured(platform, store)).id == orphan.id
    assert list(platform.instances) == [orphan.id]


async def test_of_several_with_our_tag_the_newest_is_adopted_and_the_others_named(
    platform: Platform, store: Instances
) -> None:
    """Nobody would know that three of them send callbacks to us."""
    async with connected(platform.url) as connector:
        made = [await connector.create_instance(wanted().body) for _ in range(3)]
    with structlog.testing.capture_logs() as logs:
        instance = await ensured(platform, store)

    assert instance.id == made[-1].id
    [warning] = [line for line in logs if line["log_level"] == "warning"]
    assert warning["instances"] == [each.id for each in made[:-1]]


async def test_open_connectors_fact_05_the_plan_names_every_difference_and_changes_nothing(
    platform: Platform, store: Instances
) -> None:
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


async def test_no_secret_reaches_redis_in_the_clear_or_the_log(
    platform: Platform, store: Instances, redis_server: str
) -> None:
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


@pytest.mark.parametrize("entry", ["messaging.sms.own.secret", "own.entry"])
async def test_a_secret_in_an_entry_of_the_operators_own_is_neither_logged_nor_shown(
    platform: Platform, store: Instances, entry: str
) -> None:
    """The log of the first start, and `parley connector show`, would print it."""
    value = f"Basic {AUTH_TOKEN}" if entry == "own.entry" else "heron-4711"
    body = wanted().body
    own = Wanted({**body, "configuration": body["configuration"] | {entry: value}})
    with structlog.testing.capture_logs() as logged:
        await ensured(platform, store, own)
        async with connected(platform.url) as connector:
            _, found = await provisioner(connector, store, own).current()

    steps = [line["step"] for line in logged if line["event"] == "plan"]
    assert f"  {entry}: (none) -> ********" in steps
    assert found is not None
    assert found.configuration[entry] == "********"
    assert found.configuration["messaging.sms.twilio.sender"] == "+15005550100"


def test_every_missing_entry_is_named_before_anything_is_asked() -> None:
    """The operator would mend them one refused request at a time."""
    with pytest.raises(SettingsError) as caught:
        wanted(TWILIO_SENDER="", TWILIO_ACCOUNT_SID="")

    assert caught.value.problems == tuple(
        f"instance.json: the required entry messaging.sms.twilio.{entry} is missing"
        for entry in ("account (setting TWILIO_ACCOUNT_SID)", "sender (setting TWILIO_SENDER)")
    )


def test_open_connectors_fact_03_the_documentations_own_sample_works_with_its_broken_line() -> None:
    """The page to copy from breaks a line inside the callback URL."""
    text = """{"element": {"key": "twilio"}, "name": "n", "tags": [""], "configuration": {
      "messaging.sms.twilio.protocol": "sms",
      "messaging.sms.twilio.account": "a",
      "messaging.sms.twilio.sender": "s",
      "messaging.sms.twilio.token": "t",
      "messaging.sms.twilio.callback.url": "https://www.mycoolapp.com/auth
"}}"""

    assert build(text).callback_url == "https://www.mycoolapp.com/auth"


def test_a_callback_url_that_is_none_is_named_with_its_setting() -> None:
    """No text would ever arrive."""
    with pytest.raises(SettingsError, match=r"callback\.url \(setting PUBLIC_URL\) is no URL"):
        wanted(CALLBACK_URL="sms.example.com/callbacks")


async def test_the_order_of_entries_in_the_file_is_no_change(
    platform: Platform, store: Instances
) -> None:
    """Sorting the file would update the instance."""
    await ensured(platform, store)
    await ensured(platform, store, Wanted(dict(reversed(list(wanted().body.items())))))

    assert platform.said("PUT", "/instances") == []


async def test_drift_is_seen_where_an_instance_does_not_tell_its_configuration(
    platform: Platform, store: Instances
) -> None:
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


async def test_an_instance_that_tells_no_entries_at_all_is_still_there(
    platform: Platform, store: Instances
) -> None:
    """Taken for gone, another one would be made at every look, three an hour and more."""
    first = await ensured(platform, store)
    platform.left_out = frozenset({"configuration"})
    platform.no_entries = True
    async with connected(platform.url) as connector:
        assert await connector.get_instance(first.id) is not None


async def test_an_instance_whose_token_nobody_tells_is_not_adopted(
    platform: Platform, store: Instances
) -> None:
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


async def test_an_instance_that_another_process_replaced_is_not_replaced_again(
    platform: Platform, store: Instances
) -> None:
    """Each of ten processes whose token is refused would make an instance of its own."""
    first = await ensured(platform, store)
    async with connected(platform.url) as connector:
        second = await provisioner(connector, store).replace(first)
        third = await provisioner(connector, store).replace(first)

    assert third == second != first
    assert list(platform.instances) == [second.id]


async def test_no_error_of_a_look_repeats_the_login_our_own_secrets_or_the_kept_token(
    platform: Platform, store: Instances
) -> None:
    """A request without a body carries none of them; whoever answers it may know them all."""
    what = wanted(CALLBACK_URL="https://operator:login-9132@sms.example.com/callbacks/twilio")
    own = {**what.body["configuration"], "messaging.sms.own.secret": "own-secret-5561"}
    what = Wanted({**what.body, "configuration": own})
    kept = await ensured(platform, store, what)
    said = f"operator:login-9132 own-secret-5561 {kept.token}"
    platform.overrides.append(failure(400, said, said))
    async with connected(platform.url) as connector:
        with pytest.raises(ConnectorError) as caught:
            await provisioner(connector, store, what).plan()
    told = str(caught.value)
    assert not [each for each in ("login-9132", "own-secret-5561", kept.token) if each in told]
