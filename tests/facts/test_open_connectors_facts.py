"""What is documented of Open Connectors, a fact a test, by the client and the stand-in together."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from service.connector.client import MESSAGE_NAMES, Connector
from service.connector.peer import Access
from service.connector.provisioning import INSTANCE_NAMES, Wanted
from service.core.open_connectors import wire
from service.core.open_connectors.template_check import compare
from service.errors import ConnectorDisabled, ConnectorRefused, ConnectorUnauthorized
from tests.connector.pieces import outbound, template
from tests.lab.sandbox.pieces import BASE, ORGANIZATION, USER, Sandbox, instance, running_sandbox

pytestmark = pytest.mark.anyio

VALUES = {
    "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "TWILIO_AUTH_TOKEN": "token of the account",
    "TWILIO_SENDER": "+15005550100",
    "CALLBACK_URL": "http://127.0.0.1:9/callbacks/twilio",
    "EVENT_SIGNATURE_KEY": "key of the events",
    "INSTANCE_NAME": "parley",
    "INSTANCE_TAG": "parley",
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A connector that knows nothing yet."""
    async with running_sandbox() as running:
        yield running


@pytest.fixture
async def connector(sandbox: Sandbox) -> AsyncIterator[Connector]:
    """Our client of it."""
    made = Connector(
        Access(f"{sandbox.url}{BASE}", USER, ORGANIZATION),
        message=template("message.json", MESSAGE_NAMES),
        timeout_s=10,
        connections=2,
    )
    yield made
    await made.aclose()


def wanted(file: str) -> Wanted:
    """The instance a shipped file describes."""
    return Wanted.build(template(file, INSTANCE_NAMES), VALUES, file)


async def test_open_connectors_fact_08_errors_name_the_request_and_what_twilio_said(
    sandbox: Sandbox, connector: Connector
) -> None:
    """The operator has neither a reason nor anything to quote."""
    made = await connector.create_instance(wanted("instance.json").body)
    connector.use_token(made.token)
    with pytest.raises(ConnectorRefused) as caught:
        await connector.send(outbound("x" * 1601), lambda: None)
    error = caught.value
    assert (error.status, error.code) == (400, 21617)
    assert error.message
    assert error.request_id
    assert "1,600" in error.advice
    await sandbox.platform("DELETE", f"/instances/{made.id}/enabled")
    with pytest.raises(ConnectorDisabled) as disabled:
        await connector.send(outbound(), lambda: None)
    assert (disabled.value.status, disabled.value.provider_message) == (403, None)
    await sandbox.platform("DELETE", f"/instances/{made.id}")
    with pytest.raises(ConnectorUnauthorized) as deleted:
        await connector.send(outbound(), lambda: None)
    assert deleted.value.status == 401
    assert "secret" in deleted.value.advice.lower()


@pytest.mark.parametrize("path", ["/hubs/messaging", "/hubs/general", ""])
async def test_open_connectors_fact_08_answers_carry_the_instance_and_any_hub_name_will_do(
    sandbox: Sandbox, path: str
) -> None:
    """Who reads the documentation of another hub finds no /messages."""
    made = await sandbox.provision()
    answer = await sandbox.send(made["token"], path=path)
    refused = await sandbox.send(made["token"], {"Body": "to nobody"}, path)
    assert (answer.status, refused.status) == (200, 400)
    for each in (answer, refused):
        assert each.headers["elements-element-instance-id"] == str(made["id"])
    assert {"requestId", "message", "providerMessage"} <= refused.json.keys()


@pytest.mark.parametrize("file", ["message.json", "message.twiliov2.json"])
async def test_open_connectors_fact_09_a_reply_is_a_post_whose_sid_or_id_is_read(
    sandbox: Sandbox, file: str
) -> None:
    """Replies are refused for their fields' names, or sent again for want of a sid."""
    made = await sandbox.provision()
    values = {"from": "+15005550100", "to": "+15005550123", "body": "hi", "media": ()}
    body = json.loads(template(file, MESSAGE_NAMES).render(values))
    older = {"to": body["To"], "from": body["From"], "subject": "s", "message": body["Body"]}
    answers = [await sandbox.send(made["token"], sent) for sent in (body, older)]
    assert [answer.status for answer in answers] == [200, 200]
    assert wire.read_sid(answers[0].json) == answers[0].json["sid"]
    assert {"status", "direction", "sentTime"} <= answers[1].json.keys()
    thread = await sandbox.thread()
    assert [each["body"] for each in thread] == ["hi", "hi"]


OLDER = {"to": "${to}", "from": "${from}", "subject": "s", "message": "${body}"}


@pytest.mark.parametrize(
    ("instance_file", "fields", "fits"),
    [
        ("instance.json", template("message.json", MESSAGE_NAMES).fields, True),
        ("instance.twiliov2.json", template("message.twiliov2.json", MESSAGE_NAMES).fields, True),
        ("instance.json", OLDER, True),
        ("instance.twiliov2.json", OLDER, False),
        ("instance.json", {"To": "${to}", "Bodi": "${body}"}, False),
    ],
    ids=["twilio", "twiliov2", "older for twilio", "older for twiliov2", "mistyped"],
)
async def test_open_connectors_fact_09_the_instances_own_docs_tell_its_fields(
    connector: Connector, instance_file: str, fields: dict[str, str], fits: bool
) -> None:
    """A template for the other model is found out only when replies are refused."""
    made = await connector.create_instance(wanted(instance_file).body)
    docs = await connector.describe_instance(made.id)
    found = compare(fields, docs)
    assert found is not None
    assert (found.findings == ()) is fits
    assert {each.lower() for each in found.described} >= {"to", "from"}


async def test_open_connectors_fact_12_twiliov2_takes_account_token_and_where_events_go(
    sandbox: Sandbox, connector: Connector
) -> None:
    """The newer connector can't be provisioned, or never tells of a text."""
    made = await connector.create_instance(wanted("instance.twiliov2.json").body)
    (described,) = (await sandbox.platform("GET", "/instances")).json
    configuration = described["configuration"]
    assert described["element"]["key"] == "twiliov2"
    assert configuration["username"] == VALUES["TWILIO_ACCOUNT_SID"]
    assert configuration["event.notification.enabled"] == "true"
    assert configuration["event.notification.callback.url"] == VALUES["CALLBACK_URL"]
    assert set(configuration["password"]) == {"*"}
    connector.use_token(made.token)
    assert await connector.send(outbound("hello"), lambda: None)
    ping = await sandbox.ask("GET", f"{BASE}/ping", instance(made.token))
    assert ping.status == 200
