"""The connector and the sandbox hold each other to the documentation: neither knows the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from service.connector.client import MESSAGE_NAMES, Connector
from service.connector.provisioning import INSTANCE_NAMES, Provisioner, Wanted
from service.core.delivery import candidates
from service.core.open_connectors.template_check import compare
from service.core.sealing import Sealer
from service.errors import ConnectorForbidden, ConnectorRefused
from service.model import Conversation, Media
from service.store.connection import connect
from service.store.instances import Instances
from tests.connector.pieces import (
    BASE,
    OURS,
    THEIRS,
    connected,
    outbound,
    running_sandbox,
    template,
    wanted,
)

pytestmark = pytest.mark.anyio

SEALER = Sealer(["a secret key of thirty-two characters"])


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    """A sandbox of the test's own; its base URL."""
    async with running_sandbox() as url:
        yield url


@pytest.fixture
async def store(redis_server: str) -> AsyncIterator[Instances]:
    """The real store, empty."""
    client = connect(redis_server)
    yield Instances(client, SEALER)
    await client.aclose()


async def provisioned(connector: Connector, store: Instances, **changes: str) -> str:
    """Provision and use the token; returns the instance's id."""
    instance = await Provisioner(connector, store, SEALER, wanted(**changes)).ensure()
    connector.use_token(instance.token)
    return instance.id


async def test_an_instance_is_created_used_again_and_updated(
    sandbox: str, store: Instances
) -> None:
    """The demo would start without an instance, or with another one each time."""
    async with connected(sandbox) as connector:
        first = await provisioned(connector, store)
        again = await provisioned(connector, store)
        moved = await provisioned(connector, store, CALLBACK_URL="http://127.0.0.1:9/callbacks")
        found = await connector.find_instances("parley")

    assert first == again == moved
    assert [each.id for each in found] == [first]


async def test_a_deleted_instance_is_created_anew_and_its_token_refused(
    sandbox: str, store: Instances
) -> None:
    """Replies would be refused for ever after somebody tidied up at the connector."""
    async with connected(sandbox) as connector:
        first = await provisioned(connector, store)
        await connector.delete_instance(first)
        with pytest.raises(ConnectorForbidden):
            await connector.send(outbound(), lambda: None)
        second = await provisioned(connector, store)
        sid = await connector.send(outbound(), lambda: None)

    assert second != first
    assert sid.startswith("SM")


async def test_a_reply_in_doubt_is_found_in_the_log_and_one_that_was_not_sent_is_not(
    sandbox: str, store: Instances
) -> None:
    """A reply would go out twice, or not at all."""
    sent, unsent = outbound("sent 👋"), outbound("never sent")
    marked_at = datetime.now(UTC)
    async with connected(sandbox) as connector:
        await provisioned(connector, store)
        sid = await connector.send(sent, lambda: None)
        log = await connector.sent_to(Conversation(OURS, THEIRS), marked_at - timedelta(minutes=2))

    assert [row.sid for row in candidates(sent, marked_at, log)] == [sid]
    assert candidates(unsent, marked_at, log) == ()


async def test_what_twilio_refuses_is_refused_with_its_words(
    sandbox: str, store: Instances
) -> None:
    """The reply would be repeated for ever."""
    async with connected(sandbox) as connector:
        await provisioned(connector, store)
        with pytest.raises(ConnectorRefused) as caught:
            await connector.send(outbound("x" * 1601), lambda: None)

    assert caught.value.status == 400
    assert "21617" in (caught.value.provider_message or "")
    assert caught.value.request_id


async def test_open_connectors_fact_10_ping_answers_for_a_working_instance(
    sandbox: str, store: Instances
) -> None:
    """A check of the instance would always say it is broken."""
    async with connected(sandbox) as connector:
        await provisioned(connector, store)
        await connector.ping()


async def test_the_sandbox_gives_its_log_by_day(sandbox: str, store: Instances) -> None:
    """Days asked for would bring the whole log, and its bound would be met after an outage."""
    now = datetime.now(UTC)
    async with connected(sandbox) as connector:
        await provisioned(connector, store)
        for n in range(120):
            await connector.send(outbound(str(n)), lambda: None)
        days_ago = now - timedelta(days=5), now - timedelta(days=3)
        narrowed = [len(page) async for page in connector.log_between(*days_ago)]
        whole = [len(page) async for page in connector.log_between(days_ago[0])]

    assert narrowed == [100], "the newest page, and then only days on which nothing was sent"
    assert whole == [100, 20]


async def test_the_pictures_of_a_logged_text_are_found(sandbox: str, store: Instances) -> None:
    """A recovered picture would reach its handler as an empty text."""
    url = "https://example.com/cat.png"
    async with connected(sandbox) as connector, aiohttp.ClientSession() as session:
        await provisioned(connector, store)
        text = {"from": THEIRS, "to": OURS, "media": [url], "lost": True}
        async with session.post(f"{sandbox.removesuffix(BASE)}/sandbox/texts", json=text) as told:
            sid = (await told.json())["sid"]
        assert await connector.media_of(sid) == (Media(url, "image/png"),)


@pytest.mark.parametrize("element", ["twilio", "twiliov2"])
async def test_connector_check_has_nothing_to_say_of_the_files_that_ship(
    sandbox: str, store: Instances, element: str
) -> None:
    """Who tries Parley is told to change what works."""
    suffix = "" if element == "twilio" else f".{element}"
    instance = template(f"instance{suffix}.json", INSTANCE_NAMES)
    message = template(f"message{suffix}.json", MESSAGE_NAMES)
    values = dict.fromkeys(INSTANCE_NAMES, "x") | {"CALLBACK_URL": "http://127.0.0.1:9/callbacks"}
    async with connected(sandbox) as connector:
        made = await connector.create_instance(Wanted.build(instance, values, "file").body)
        docs = await connector.describe_instance(made.id)

    found = compare(message.fields, docs)
    assert found is not None
    assert [str(each) for each in found.findings] == []
