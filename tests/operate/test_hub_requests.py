"""Requests by hand, of the real sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import aiohttp
import pytest

from service.core.open_connectors.hub_request import read_request
from service.errors import ConnectorGone, ConnectorUnanswered, ConnectorUnreachable, SettingsError
from service.operate.api_docs import read_api
from service.operate.deployment import Deployment
from service.operate.hub_requests import send, write_curl, write_python
from service.settings.loading import load_settings
from tests.connector.pieces import AUTH_TOKEN, BASE, ORGANIZATION, OURS, THEIRS, USER
from tests.present import present
from tests.programs import program

pytestmark = pytest.mark.anyio

TEXT = json.dumps({"To": THEIRS, "From": OURS, "Body": "it's 5 o'clock"})


async def test_a_text_is_sent_and_read_back(deployment: Deployment) -> None:
    """Nobody could see what the instance answers."""
    sent = await send(deployment, read_request("POST", "/messages", (), TEXT))
    log = await send(deployment, read_request("GET", "/messages", ["pageSize=1"]))
    head = await send(deployment, read_request("HEAD", "/messages"))

    assert (sent.status, sent.error) == (200, None)
    assert [row["sid"] for row in log.body] == [sent.body["sid"]]
    assert log.body[0]["body"] == "it's 5 o'clock"
    assert log.headers["elements-returned-count"] == "1"
    assert 0 < log.took_s < 10
    assert (head.status, head.body) == (200, None)


async def test_an_errors_answer_is_shown_with_its_request_id(deployment: Deployment) -> None:
    """The connector's support asks for it first."""
    answer = await send(deployment, read_request("GET", "/messages/SMnope"))

    assert answer.status == 404
    assert answer.body["message"] == "No message found with sid SMnope"
    assert isinstance(answer.error, ConnectorGone)
    assert answer.error.request_id == answer.body["requestId"]
    assert "TWILIO_ACCOUNT_SID" in present(answer.error).advice  # Twilio's word: 20404


async def test_what_is_refused_leads_to_the_reference_and_not_to_files(
    deployment: Deployment,
) -> None:
    """The operator would look for a mistake in config/message.json."""
    for request in (read_request("GET", "/nothing"), read_request("POST", "/messages", (), "[]")):
        answer = await send(deployment, request)
        assert answer.status in {400, 404}
        assert "parley connector docs" in present(answer.error).advice


@pytest.mark.parametrize("way", ["as it is", "in JSON in JSON", "in a URL"])
async def test_no_secret_is_shown_however_it_comes_back(
    deployment: Deployment, token: str, way: str
) -> None:
    """The connector need only quote the request for its token to stand on a screen."""
    secrets = (token, USER, ORGANIZATION, AUTH_TOKEN)
    quoted = " ".join(secrets)
    if way == "in JSON in JSON":
        quoted = json.dumps(json.dumps(quoted))
    elif way == "in a URL":
        quoted = "".join(f"%{byte:02x}" for byte in quoted.encode())
    text = json.dumps({"To": THEIRS, "From": OURS, "Body": quoted})
    await send(deployment, read_request("POST", "/messages", (), text))
    answer = await send(deployment, read_request("GET", "/messages"))

    assert answer.body[0]["body"]
    told = json.dumps(asdict(answer), default=str)
    for secret in (*secrets, quoted):
        assert secret not in told


async def test_without_an_instance_nothing_is_sent(bare: Deployment) -> None:
    """The request would go out without a token and come back as a riddle."""
    with pytest.raises(SettingsError, match="no instance"):
        await send(bare, read_request("GET", "/messages"))


async def test_an_overdue_answer_is_not_waited_for(
    environ: dict[str, str], deployment: Deployment
) -> None:
    """A command would hang for ever."""
    url = environ["OPEN_CONNECTORS_BASE_URL"].removesuffix(BASE)
    async with aiohttp.ClientSession() as session:
        trouble = {"hang": True, "where": "log"}
        async with session.post(f"{url}/sandbox/trouble", json=trouble) as told:
            assert told.status < 300
    settings = load_settings(None, environ | {"SEND_TIMEOUT_S": "1"})
    hurried = Deployment(settings, environ["REDIS_URL"])

    with pytest.raises(ConnectorUnanswered, match="no answer within 1 s"):
        await send(hurried, read_request("GET", "/messages"))


async def test_a_connector_that_is_not_there_is_said(
    environ: dict[str, str], deployment: Deployment
) -> None:
    """A wrong address would look like a wrong request."""
    environ = environ | {"OPEN_CONNECTORS_BASE_URL": f"http://127.0.0.1:9{BASE}"}
    elsewhere = Deployment(load_settings(None, environ), environ["REDIS_URL"])

    with pytest.raises(ConnectorUnreachable):
        await send(elsewhere, read_request("GET", "/messages"))


@pytest.mark.parametrize("how", ["curl", "python"])
async def test_what_is_written_for_others_does_the_same(
    deployment: Deployment, environ: dict[str, str], token: str, how: str
) -> None:
    """What is pasted into a ticket would not be what was asked."""
    request = read_request("POST", "/messages", (), TEXT)
    write = write_curl if how == "curl" else write_python
    written = write(deployment.settings, request)
    for secret in (token, USER, ORGANIZATION):
        assert secret not in written
    command = [sys.executable, "-c", written]
    if how == "curl":
        program("curl", package="curl")
        command = [program("bash", package="bash"), "-c", written]
    given = {name: environ[name] for name in environ if name.startswith("OPEN_CONNECTORS")}
    given |= {"INSTANCE_TOKEN": token, "PATH": os.environ["PATH"]}

    ran = await in_a_process(command, given)

    assert '"sid"' in ran, ran
    log = await send(deployment, read_request("GET", "/messages"))
    assert [row["body"] for row in log.body] == ["it's 5 o'clock"]


async def in_a_process(command: list[str], environ: dict[str, str]) -> str:
    """Run a program while the sandbox of this loop answers it."""
    ran = await asyncio.to_thread(
        subprocess.run,
        command,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return f"{ran.stdout}{ran.stderr}"


async def test_the_instances_own_description_is_read(
    deployment: Deployment, platform: Callable[..., Awaitable[Any]]
) -> None:
    """What can be asked would have to be looked up in JSON."""
    reference = await read_api(deployment)

    assert reference.title == "Twilio SMS"
    ids = [each.id for each in reference.operations]
    assert ids == ["getMessages", "createMessage", "getMessageById", "getMessageMedia", "getPing"]
    (log,) = reference.find("getMessages")
    assert [each.name for each in log.parameters] == ["where", "page", "pageSize"]
    assert log.example == "parley connector request GET /messages --query pageSize=5"
    assert {"from", "sid"} <= {each.path for each in present(log.answers[0].model).fields}


async def test_every_example_of_the_reference_is_taken_by_request(deployment: Deployment) -> None:
    """The reference would teach commands that are refused."""
    for operation in (await read_api(deployment)).operations:
        _, _, _, method, path, *options = shlex.split(operation.example)
        given = dict(zip(options[::2], options[1::2], strict=True))
        query = [given["--query"]] if "--query" in given else []
        answer = await send(deployment, read_request(method, path, query, given.get("--data")))
        assert answer.status in {200, 404}, operation.example
