from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from service.connector.client import Connector
from service.errors import (
    ConnectorDisabled,
    ConnectorError,
    ConnectorFailed,
    ConnectorForbidden,
    ConnectorGone,
    ConnectorRefused,
    ConnectorThrottled,
    ConnectorUnanswered,
    ConnectorUnauthorized,
    ConnectorUnreachable,
)
from service.model import Conversation, Outbound
from tests.connector.pieces import (
    AUTH_TOKEN,
    ORGANIZATION,
    OURS,
    THEIRS,
    USER,
    Platform,
    connected,
    failure,
    misbehaving,
    outbound,
    wanted,
)

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


async def send(connector: Connector, reply: Outbound) -> str:
    """Send with no last word."""
    return await connector.send(reply, lambda: None)


async def provisioned(platform: Platform) -> str:
    """Create an instance; returns its token."""
    async with connected(platform.url) as connector:
        return (await connector.create_instance(wanted().body)).token


async def failing_send(platform: Platform, answer: web.Response) -> ConnectorError:
    """Send one reply that is answered so; returns the error."""
    platform.overrides.append(answer)
    async with connected(platform.url, token="instance-token") as connector:
        with pytest.raises(ConnectorError) as caught:
            await send(connector, outbound())
    return caught.value


def row(number: int, *, minutes_ago: int = 0, to: str = THEIRS) -> dict[str, str]:
    """A row of the message log, as Twilio's Message resource."""
    return {
        "sid": f"SM{number}",
        "from": OURS,
        "to": to,
        "body": "hi",
        "direction": "outbound-api",
        "status": "sent",
        "date_sent": format_datetime(NOON - timedelta(minutes=minutes_ago)),
        "num_media": "0",
    }


async def test_open_connectors_fact_03_the_instance_is_created_with_the_documented_request(
    platform: Platform,
) -> None:
    """Open Connectors would refuse the request, and Parley could never send."""
    async with connected(platform.url) as connector:
        created = await connector.create_instance(wanted().body)

    [request] = platform.seen
    assert (request.method, request.path) == ("POST", "/instances")
    assert request.headers["Authorization"] == f"User {USER}, Organization {ORGANIZATION}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.body == {
        "element": {"key": "twilio"},
        "configuration": {
            "messaging.sms.twilio.protocol": "sms",
            "messaging.sms.twilio.account": "AC" + "0" * 32,
            "messaging.sms.twilio.sender": OURS,
            "messaging.sms.twilio.token": AUTH_TOKEN,
            "messaging.sms.twilio.callback.url": "https://sms.example.com/callbacks/twilio",
        },
        "tags": ["parley"],
        "name": "parley",
    }
    assert created.token == platform.instances[created.id]["token"]
    assert (created.name, created.tags, created.disabled) == ("parley", ("parley",), False)


async def test_open_connectors_fact_02_a_reply_carries_the_instance_token_and_the_text_as_it_is(
    platform: Platform,
) -> None:
    """Replies would be refused, or their text damaged."""
    token = await provisioned(platform)
    async with connected(platform.url, token=token) as connector:
        sid = await send(connector, outbound('"quoted" \\ 👋 ${body}\n'))

    request = platform.seen[-1]
    assert (request.method, request.path) == ("POST", "/hubs/messaging/messages")
    assert request.headers["Authorization"] == (
        f"User {USER}, Organization {ORGANIZATION}, Element {token}"
    )
    assert request.body == {"To": THEIRS, "From": OURS, "Body": '"quoted" \\ 👋 ${body}\n'}
    assert sid.startswith("SM")


async def test_a_picture_alone_is_sent_without_an_empty_text(platform: Platform) -> None:
    """Twilio refuses an empty Body."""
    token = await provisioned(platform)
    async with connected(platform.url, token=token) as connector:
        await send(connector, outbound("", media=("https://example.com/a.png",)))

    assert platform.seen[-1].body == {
        "To": THEIRS,
        "From": OURS,
        "MediaUrl": ["https://example.com/a.png"],
    }


async def test_replies_share_connections(platform: Platform) -> None:
    """A TLS handshake for every reply would make each of them slow."""
    token = await provisioned(platform)
    platform.connections.clear()
    async with connected(platform.url, token=token) as connector:
        for _ in range(5):
            await send(connector, outbound())

    assert len(platform.connections) == 1


async def test_a_cookie_is_never_sent_back(platform: Platform) -> None:
    """A load balancer's cookie would tie every later reply to one machine of the connector's."""
    token = await provisioned(platform)
    platform.headers["Set-Cookie"] = "JSESSIONID=abc; Path=/"
    # Cookie jars take none from bare addresses, so the server goes by its name here.
    named = platform.url.replace("127.0.0.1", "localhost")
    async with connected(named, token=token) as connector:
        await send(connector, outbound())
        await send(connector, outbound())
    assert [each.headers.get("Cookie") for each in platform.seen] == [None] * 3


async def test_no_compressed_answer_is_asked_for(platform: Platform) -> None:
    """A compressed answer can't be read here: every reply would be in doubt."""
    token = await provisioned(platform)
    async with connected(platform.url, token=token) as connector:
        await send(connector, outbound())

    assert platform.seen[-1].headers.get("Accept-Encoding", "identity") == "identity"


async def test_the_last_word_before_a_reply_leaves_can_keep_it_back(platform: Platform) -> None:
    """A worker that lost its partition would send what the new owner sends too."""

    class LostError(Exception):
        pass

    def veto() -> None:
        raise LostError

    token = await provisioned(platform)
    async with connected(platform.url, token=token) as connector:
        with pytest.raises(LostError):
            await connector.send(outbound(), veto)
        await send(connector, outbound("next"))

    assert [each.body["Body"] for each in platform.said("POST", "/hubs")] == ["next"]


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        pytest.param(301, ConnectorFailed, True, id="redirect"),
        pytest.param(400, ConnectorRefused, False, id="bad request"),
        pytest.param(401, ConnectorUnauthorized, True, id="wrong secrets"),
        pytest.param(403, ConnectorDisabled, True, id="disabled"),
        pytest.param(404, ConnectorGone, True, id="unknown"),
        pytest.param(408, ConnectorFailed, True, id="request time-out"),
        pytest.param(413, ConnectorRefused, False, id="too large"),
        pytest.param(429, ConnectorThrottled, True, id="throttled"),
        pytest.param(500, ConnectorFailed, True, id="failed"),
        pytest.param(503, ConnectorFailed, True, id="unavailable"),
    ],
)
async def test_open_connectors_fact_08_an_error_status_becomes_the_error_of_its_kind(
    platform: Platform, status: int, kind: type[Exception], retry: bool
) -> None:
    """A reply would be repeated that never can be sent, or given up that could."""
    error = await failing_send(platform, failure(status, "no", "Twilio says no", Location="/x"))

    assert type(error) is kind
    assert error.retry is retry
    assert (error.status, error.message, error.provider_message) == (status, "no", "Twilio says no")
    assert error.request_id == "56a1e4b2e4b0a7ce7a5e6f0d"
    assert len(platform.seen) == 1


async def test_retry_after_is_kept(platform: Platform) -> None:
    """A throttled sender that comes back too early stays throttled."""
    error = await failing_send(platform, failure(429, "slow down", Retry_After="7"))

    assert error.retry_after_s == 7


async def test_a_gateways_page_is_an_error_that_quotes_nothing_of_it(platform: Platform) -> None:
    """A proxy's error page may hold our request, texts and secrets included."""
    page = web.Response(status=502, text=f"<h1>{AUTH_TOKEN}</h1>", content_type="text/html")
    error = await failing_send(platform, page)

    assert type(error) is ConnectorFailed
    assert str(error) == "502: Bad Gateway (text/html, not the JSON of Open Connectors)"


async def test_an_error_never_repeats_a_secret_or_a_number(platform: Platform) -> None:
    """Whoever reads the log would have the account, and the customers' numbers."""
    said = f"Authentication failed: {AUTH_TOKEN} {ORGANIZATION}, {THEIRS}"
    platform.overrides.append(failure(400, said, said))
    async with connected(platform.url) as connector:
        with pytest.raises(ConnectorRefused) as caught:
            await connector.create_instance(wanted().body)

    assert AUTH_TOKEN not in str(caught.value)
    assert ORGANIZATION not in str(caught.value)
    assert THEIRS not in str(caught.value)
    assert "Authentication failed" in caught.value.message
    assert THEIRS[-4:] in str(caught.value)


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
async def test_an_error_never_repeats_what_was_sent_to_whom(
    platform: Platform, status: int
) -> None:
    """A dead letter's error, the log and the console would hold a stranger's letter."""
    text = 'Dear "Ada",\nyour code is 471108. Grüße'
    picture = "https://pictures.example/private/471108.png?signature=abc"
    echo: dict[str, Any] = {
        "sent": {"To": THEIRS.removeprefix("+1"), "Body": text, "MediaUrl": [picture]}
    }
    echo |= {"authorization": f"User {USER}, Element instance-token, Twilio {AUTH_TOKEN}"}
    said = {"requestId": echo, "message": echo, "providerMessage": json.dumps(echo)}
    platform.overrides.append(web.json_response(said, status=status))
    async with connected(platform.url, token="instance-token") as connector:
        with pytest.raises(ConnectorError) as caught:
            await send(connector, outbound(text, media=(picture,)))

    told = str(caught.value)
    for private in (
        text[:12],
        "471108",
        "Grüße",
        picture[8:30],
        THEIRS[3:],
        "instance-token",
        USER,
    ):
        assert private not in told
    assert AUTH_TOKEN not in told
    assert caught.value.request_id is None


async def test_an_instance_that_repeats_its_token_does_not_have_it_logged_and_kept(
    platform: Platform,
) -> None:
    """A sid is logged and becomes a key of Redis, a row's text goes to a handler."""
    platform.instances["1"] = {"token": "instance-token", "disabled": False}
    async with connected(platform.url, token="instance-token") as connector:
        platform.overrides.append(web.json_response({"sid": "SM-instance-token"}))
        assert "instance-token" not in await send(connector, outbound())


async def test_open_connectors_fact_14_the_header_tells_the_request_where_the_body_does_not(
    platform: Platform,
) -> None:
    """There is nothing to quote to the connector's support."""
    platform.headers["elements-request-id"] = "56a1e4b2e4b0a7ce7a5e6f0d"
    answers = {
        "send": web.json_response({"message": "no"}, status=400),
        "page": web.Response(text="<html>", content_type="text/html"),
        "log": web.json_response([{"id": "SM1"}]),
        "instance": web.json_response({"id": 7}),
    }
    async with connected(platform.url, token="instance-token") as connector:
        asks: dict[str, Callable[[], Awaitable[object]]] = {
            "send": lambda: send(connector, outbound()),
            "page": lambda: connector.media_of("SM1"),
            "log": lambda: anext(connector.log_between(NOON)),
            "instance": lambda: connector.create_instance(wanted().body),
        }
        for name, ask in asks.items():
            platform.overrides.append(answers[name])
            with pytest.raises(ConnectorError) as caught:
                await ask()
            assert caught.value.request_id == "56a1e4b2e4b0a7ce7a5e6f0d", name


async def test_json_without_a_bottom_leaves_the_reply_in_doubt(platform: Platform) -> None:
    """A defect would stop every reply of its partition."""
    answer = web.Response(body=b"[" * 200_000, content_type="text/plain")
    assert type(await failing_send(platform, answer)) is ConnectorFailed


async def test_the_client_never_shows_its_secrets(platform: Platform) -> None:
    """A traceback with local variables would give them away."""
    async with connected(platform.url, token="element-token") as connector:
        shown = repr(connector)

    assert not any(secret in shown for secret in (USER, ORGANIZATION, "element-token"))


async def test_open_connectors_fact_01_a_page_instead_of_json_leaves_the_reply_in_doubt(
    platform: Platform,
) -> None:
    """A sign-in page answered 200 would pass for a reply sent: it would vanish."""
    page = web.Response(text="<html>Sign in</html>", content_type="text/html")
    error = await failing_send(platform, page)

    assert type(error) is ConnectorFailed


async def test_a_reply_accepted_without_a_sid_counts_as_sent(platform: Platform) -> None:
    """It is out: anything else would send it again."""
    platform.overrides += [web.json_response({}), web.Response(status=202)]
    async with connected(platform.url, token="instance-token") as connector:
        assert await send(connector, outbound()) == "unnamed-SM1-0"
        assert await send(connector, outbound()) == "unnamed-SM1-0"


async def test_a_damaged_success_counts_as_sent(platform: Platform) -> None:
    """It is out, whatever became of the answer's last byte: holding it back helps nobody."""
    platform.overrides.append(
        web.Response(text='{"sid": "SM1234567"', content_type="application/json")
    )
    async with connected(platform.url, token="instance-token") as connector:
        assert await send(connector, outbound()) == "unnamed-SM1-0"


async def test_nothing_is_sent_before_there_is_a_token(platform: Platform) -> None:
    """The connector would take replies for an attack with a wrong token."""
    async with connected(platform.url) as connector:
        with pytest.raises(ConnectorUnreachable, match="not provisioned"):
            await send(connector, outbound())

    assert platform.seen == []


async def test_a_refused_connection_means_nothing_was_sent() -> None:
    """The reply would be looked up, or held, although repeating it is safe."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with connected(f"http://127.0.0.1:{port}", token="instance-token") as connector:
            with pytest.raises(ConnectorUnreachable):
                await send(connector, outbound())


async def test_a_name_that_does_not_resolve_means_nothing_was_sent() -> None:
    """The same, for a resolver that is away."""
    async with connected("http://connector.invalid", token="instance-token") as connector:
        with pytest.raises(ConnectorUnreachable):
            await send(connector, outbound())


async def test_a_connection_that_can_not_be_opened_in_time_means_nothing_was_sent() -> None:
    """The same, for a firewall that swallows packets."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        # Its queue is full: the kernel drops further handshakes.
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            await asyncio.sleep(0.1)
            async with connected(f"http://127.0.0.1:{port}", token="t", timeout_s=1) as connector:
                with pytest.raises(ConnectorUnreachable):
                    await send(connector, outbound())
        finally:
            for filler in fillers:
                filler.close()


async def test_no_free_connection_in_time_means_nothing_was_sent() -> None:
    """Replies behind a hanging connector would all be in doubt, though none of them left."""
    arrived = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A connection made at the deadline is closed again before anything is written.
        with contextlib.suppress(asyncio.IncompleteReadError):
            arrived.append(await reader.readuntil(b"}"))
            await hang(reader, writer)

    async with misbehaving(take) as url, connected(url, token="t", timeout_s=1) as connector:
        answers = await asyncio.gather(
            *(send(connector, outbound()) for _ in range(30)), return_exceptions=True
        )

    kinds = [type(answer) for answer in answers]
    assert set(kinds) <= {ConnectorUnanswered, ConnectorUnreachable}
    # What crosses the deadline may be called in doubt; what arrived may never be called unsent.
    assert 8 <= len(arrived) <= kinds.count(ConnectorUnanswered)
    assert kinds.count(ConnectorUnreachable) >= 10


async def test_tls_that_fails_means_nothing_was_sent() -> None:
    """A handshake that fails ends before the request is sent."""

    async def no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with misbehaving(no_tls) as plain:
        secure = plain.replace("http://", "https://")
        async with connected(secure, token="instance-token") as connector:
            with pytest.raises(ConnectorUnreachable):
                await send(connector, outbound())


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request, never answer."""
    await reader.read()
    writer.close()


async def reset_unread(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset at once."""
    writer.transport.abort()


async def reset_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request whole, then reset: the message may have been sent."""
    await reader.readuntil(b"}")
    writer.transport.abort()


async def close_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request whole, then close without an answer."""
    await reader.readuntil(b"}")
    writer.close()


async def half_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Promise more than is sent."""
    await reader.readuntil(b"}")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
    writer.close()


async def half_answer_hanging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin an answer and never end it."""
    await reader.readuntil(b"}")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
    await reader.read()
    writer.close()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer so slowly that no single wait is long, but all of them together are."""
    await reader.readuntil(b"}")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")
    while not reader.at_eof():
        writer.write(b" ")
        try:
            await asyncio.wait_for(reader.read(1), 0.05)
        except TimeoutError:
            continue
    writer.close()


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with something else."""
    await reader.readuntil(b"}")
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    writer.close()


@pytest.mark.parametrize(
    "behaviour",
    [hang, reset_unread, reset_read, close_read, half_answer, half_answer_hanging, drip, no_http],
    ids=lambda behaviour: behaviour.__name__,
)
async def test_a_lost_answer_leaves_the_reply_in_doubt(behaviour: Callable[..., Any]) -> None:
    """Taken for unsent, the reply would be repeated unasked and reach the phone twice."""
    began = asyncio.get_running_loop().time()
    async with misbehaving(behaviour) as url, connected(url, token="t", timeout_s=1) as connector:
        with pytest.raises(ConnectorUnanswered) as caught:
            await send(connector, outbound())

    assert asyncio.get_running_loop().time() - began < 3
    assert "Cancelled" not in str(caught.value)


async def test_a_hanging_connector_is_named_with_the_time_waited() -> None:
    """The operator could not tell a slow connector from a broken one."""
    async with misbehaving(hang) as url, connected(url, token="t", timeout_s=0.5) as connector:
        with pytest.raises(ConnectorUnanswered, match=r"no answer within 0\.5 s"):
            await send(connector, outbound())


async def test_a_kept_connection_that_has_been_closed_is_not_used_again() -> None:
    """Each pause in the traffic would put the next reply in doubt."""

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"sid":"SM1"}')
        writer.close()

    async with misbehaving(answer_once) as url, connected(url, token="instance-token") as connector:
        for _ in range(3):
            assert await send(connector, outbound()) == "SM1"
            await asyncio.sleep(0.05)


async def test_the_log_is_read_page_by_page_back_to_the_time_asked_for(platform: Platform) -> None:
    """A reply in doubt that did arrive would not be found, and sent again."""
    token = await provisioned(platform)
    platform.messages = [row(n, minutes_ago=n) for n in range(250)]
    async with connected(platform.url, token=token) as connector:
        found = await connector.sent_to(Conversation(OURS, THEIRS), NOON - timedelta(minutes=150))

    assert {f"SM{n}" for n in range(151)} <= {each.sid for each in found}
    assert len(platform.said("GET", "/hubs/messaging/messages")) == 2


async def test_the_log_is_read_on_when_its_pages_are_shorter_than_asked_for(
    platform: Platform,
) -> None:
    """A connector with a bound of its own on pages would hide everything behind the first."""
    token = await provisioned(platform)
    platform.messages = [row(n, minutes_ago=n) for n in range(120)]
    platform.page_limit = 50
    async with connected(platform.url, token=token) as connector:
        found = await connector.sent_to(Conversation(OURS, THEIRS), NOON - timedelta(minutes=200))

    assert {each.sid for each in found} == {f"SM{n}" for n in range(120)}


async def test_the_log_of_a_connector_that_ignores_paging_can_not_tell(platform: Platform) -> None:
    """Half a log taken for a whole one would send a reply twice."""
    token = await provisioned(platform)
    page = [row(n, minutes_ago=n) for n in range(100)]
    platform.overrides = [web.json_response(page) for _ in range(5)]
    async with connected(platform.url, token=token) as connector:
        with pytest.raises(ConnectorFailed, match="same page"):
            await connector.sent_to(Conversation(OURS, THEIRS), NOON - timedelta(minutes=200))

    assert len(platform.overrides) == 2, "three pages were enough to see it"


async def test_other_conversations_stay_out_of_the_log(platform: Platform) -> None:
    """The same text to somebody else would pass for this reply."""
    token = await provisioned(platform)
    platform.messages = [row(1), row(2, to="+15005550199")]
    async with connected(platform.url, token=token) as connector:
        found = await connector.sent_to(Conversation(OURS, THEIRS), NOON)

    assert [each.sid for each in found] == ["SM1"]


@pytest.mark.parametrize("body", ["{}", '"none"', "<html>", ""], ids=repr)
async def test_a_log_that_can_not_be_read_is_no_empty_log(platform: Platform, body: str) -> None:
    """Read as empty, it would say of a reply that arrived: never sent."""
    token = await provisioned(platform)
    platform.overrides.append(web.Response(text=body))
    async with connected(platform.url, token=token) as connector:
        with pytest.raises(ConnectorFailed):
            await connector.sent_to(Conversation(OURS, THEIRS), NOON)


async def test_an_instance_is_found_by_its_id_until_it_is_deleted(platform: Platform) -> None:
    """A deleted instance would be used for ever."""
    async with connected(platform.url) as connector:
        created = await connector.create_instance(wanted().body)
        found = await connector.get_instance(created.id)
        await connector.delete_instance(created.id)
        gone = await connector.get_instance(created.id)

    assert found == created
    assert gone is None


async def test_instances_are_found_by_tag(platform: Platform) -> None:
    """An instance left over from a lost answer would stay unnoticed."""
    async with connected(platform.url) as connector:
        created = await connector.create_instance(wanted().body)
        await connector.create_instance(wanted(INSTANCE_TAG="other & more").body)
        ours = await connector.find_instances("parley")
        other = await connector.find_instances("other & more")

    assert ours == [created]
    assert [each.tags for each in other] == [("other & more",)]


async def test_a_page_instead_of_json_is_no_missing_instance(platform: Platform) -> None:
    """A second instance would be created at every maintenance page."""
    platform.overrides.append(web.Response(text="<html>Maintenance</html>"))
    async with connected(platform.url) as connector:
        with pytest.raises(ConnectorFailed):
            await connector.get_instance("1")


async def test_wrong_secrets_are_an_error_and_no_missing_instance(platform: Platform) -> None:
    """A wrong secret would look like a lost instance."""
    async with connected(platform.url, user_secret="wrong") as connector:
        with pytest.raises(ConnectorForbidden):
            await connector.get_instance("1")


async def test_ping_speaks_for_the_instance(platform: Platform) -> None:
    """A revoked token would pass for a working one."""
    token = await provisioned(platform)
    async with connected(platform.url, token=token) as connector:
        await connector.ping()
    async with connected(platform.url, token="revoked") as connector:
        with pytest.raises(ConnectorForbidden):
            await connector.ping()


async def test_an_instance_answer_without_a_token_is_no_success(platform: Platform) -> None:
    """Parley would go on with an empty token, and every reply would be refused."""
    platform.overrides.append(web.json_response({"id": 1, "token": "********"}))
    async with connected(platform.url) as connector:
        with pytest.raises(ConnectorFailed, match="token"):
            await connector.create_instance(wanted().body)


async def test_many_replies_at_once_all_arrive(platform: Platform) -> None:
    """More replies than connections have to wait for one, not fail."""
    token = await provisioned(platform)
    async with connected(platform.url, token=token) as connector:
        sids = await asyncio.gather(*(send(connector, outbound(str(n))) for n in range(100)))

    bodies = [each.body["Body"] for each in platform.said("POST", "/hubs")]
    assert len(set(sids)) == 100
    assert sorted(bodies, key=int) == [str(n) for n in range(100)]


@pytest.mark.parametrize(
    ("headers", "ahead_s"),
    [
        pytest.param({"Date": "Fri, 01 Feb 2030 12:00:00 GMT"}, None, id="a Date"),
        pytest.param({"Date": "yesterday"}, 0.0, id="no date"),
        pytest.param({"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}, 0.0, id="the end of time"),
        pytest.param({"Date": "Fri, 01 Feb 2030 12:00:00 GMT", "Age": "9"}, 0.0, id="a cache's"),
    ],
)
async def test_the_platforms_clock_is_known_by_its_date(
    headers: dict[str, str], ahead_s: float | None
) -> None:
    """A reply in doubt is looked for in a log that is dated by that clock."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 503 No\r\n{head}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()

    async with misbehaving(answer) as url, connected(url, token="t", timeout_s=5) as connector:
        with contextlib.suppress(ConnectorFailed):
            await connector.ping()
        moment = connector.moment(time.monotonic())
    shown = datetime(2030, 2, 1, 12, tzinfo=UTC) if ahead_s is None else datetime.now(UTC)
    assert abs(moment - shown) < timedelta(seconds=6)
