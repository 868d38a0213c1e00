from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from service.model import Message

pytestmark = pytest.mark.anyio

TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
FORM = "application/x-www-form-urlencoded"
URL = "https://sms.example.com/sms/callbacks/twilio"


def assert_refused(response: httpx.Response, status: int) -> None:
    """A refusal is short plain text, never TwiML, never with a 200."""
    assert response.status_code == status
    assert response.headers["content-type"] == "text/plain"
    assert 0 < len(response.content) < 100


async def test_twilio_fact_08_a_text_is_stored_whole_and_answered_with_empty_twiml(
    front: Any,
) -> None:
    """The whole point: a text comes in, is safe in Redis, and Twilio sends nothing by itself."""
    fields = front.fields(MediaUrl0="https://media.example/1", MediaContentType0="image/png")
    response = await front.post(fields)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/xml"
    assert response.content == TWIML
    [message] = await front.stored()
    assert (message.sid, message.from_, message.to) == (
        fields["MessageSid"],
        "+12125550123",
        "+14155550100",
    )
    assert message.body == "Grüße 😊 1+1=2 & more"
    assert message.media[0].url == "https://media.example/1"
    assert message.raw == fields
    assert timedelta(0) <= datetime.now(UTC) - message.received_at < timedelta(seconds=10)
    assert front.door.counters.accepted == 1


async def test_a_get_callback_is_accepted_by_its_url(front: Any) -> None:
    """Numbers configured for GET would lose every text."""
    fields = front.fields()
    query = urlencode(fields)
    signature = front.sign({}, f"{URL}?{query}")
    response = await front.client.get(
        f"{front.path}?{query}", headers={"x-twilio-signature": signature}
    )
    assert (response.status_code, response.content) == (200, TWIML)
    assert [message.raw for message in await front.stored()] == [fields]


async def test_a_query_beside_the_form_is_signed_and_not_part_of_the_message(front: Any) -> None:
    """A callback URL registered with a query of its own works, and can't be altered."""
    fields = front.fields()
    signature = front.sign(fields, f"{URL}?b=2&a=%7e")
    sent = {"content-type": FORM, "x-twilio-signature": signature}
    for query, status in (("?b=2&a=~", 403), ("?a=%7e&b=2", 403), ("", 403), ("?b=2&a=%7e", 200)):
        response = await front.client.send(
            httpx.Request(
                "POST",
                httpx.URL(front.url).copy_with(raw_path=(front.path + query).encode()),
                content=urlencode(fields),
                headers=sent,
            )
        )
        assert response.status_code == status, query
    [message] = await front.stored()
    assert "b" not in message.raw


@pytest.mark.parametrize(("query", "asked"), [("", True), ("?a=1", False)])
async def test_a_strangers_query_is_not_worth_the_librarys_time(
    front: Any, monkeypatch: pytest.MonkeyPatch, query: str, *, asked: bool
) -> None:
    """A long query cost Twilio's library nine milliseconds; we register none for a form."""
    calls: list[str] = []

    def never(self: object, url: str, *_: object) -> bool:
        calls.append(url)
        return False

    monkeypatch.setattr("twilio.request_validator.RequestValidator.validate", never)
    headers = {"content-type": FORM, "x-twilio-signature": front.sign(front.fields(), "https://x")}
    # The hint, at most once a second, asks it as well: the second refusal has none.
    for _ in range(2):
        calls.clear()
        body = urlencode(front.fields()).encode()
        answer = await front.client.post(front.path + query, content=body, headers=headers)
        assert answer.status_code == 403
    assert bool(calls) is asked


async def test_a_query_that_came_on_the_way_is_named(front: Any) -> None:
    """Of a query beside a form only one thing is tried: that it does not belong there."""
    fields = front.fields()
    for signed, hint in ((URL, "without the query"), (f"{URL}?a=O%27Neill", "No nearby reading")):
        with capture_logs() as lines:
            headers = {"content-type": FORM, "x-twilio-signature": front.sign(fields, signed)}
            body = urlencode(fields).encode()
            answer = await front.client.post(
                f"{front.path}?a=O'Neill", content=body, headers=headers
            )
            assert answer.status_code == 403
            await asyncio.sleep(1.1)  # One hint a second.
        assert hint in lines[-1]["hint"]


async def test_an_unsigned_get_is_refused_unread(front: Any) -> None:
    """Its length gives a signature away before the fields are counted, as for a POST."""
    query = urlencode([(f"Name{number}", "") for number in range(300)])
    assert (await front.client.get(f"{front.path}?{query}")).status_code == 403


async def test_twilio_fact_06_a_repeated_callback_is_answered_the_same_and_changes_nothing(
    front: Any,
) -> None:
    """Twilio repeats what it is unsure of; a second reply would go to a person."""
    fields = front.fields()
    await front.post(fields)
    before = await front.contents()
    again = await front.post(fields)
    assert (again.status_code, again.content) == (200, TWIML)
    assert await front.contents() == before
    assert (front.door.counters.accepted, front.door.counters.duplicates) == (1, 1)


async def test_two_hundred_forged_callbacks_leave_redis_untouched(front: Any) -> None:
    """Nobody without the auth token may cost us a byte of Redis."""
    await front.post(front.fields())
    before = await front.contents()
    calls = (await front.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]

    async def forge(number: int) -> int:
        fields = front.fields(Body=f"forged {number}")
        signature = front.sign(fields | {"Body": "signed"})
        return int((await front.post(fields, x_twilio_signature=signature)).status_code)

    statuses = await asyncio.gather(*(forge(number) for number in range(200)))
    assert statuses == [403] * 200
    assert await front.contents() == before
    assert (await front.redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == calls
    assert front.door.counters.bad_signature == 200


@pytest.mark.parametrize(
    ("changes", "headers", "status", "counter"),
    [
        pytest.param({}, {"x_twilio_signature": ""}, 403, "bad_signature", id="empty signature"),
        pytest.param({}, {"x_twilio_signature": "junk"}, 403, "bad_signature", id="junk signature"),
        pytest.param(
            {"AccountSid": "AC" + "0" * 32}, {}, 403, "foreign_account", id="foreign account"
        ),
        pytest.param({"AccountSid": None}, {}, 403, "foreign_account", id="no account"),
        pytest.param({"MessageSid": None}, {}, 400, "incomplete", id="no MessageSid"),
        pytest.param({"From": None}, {}, 400, "incomplete", id="no From"),
        pytest.param({"To": ""}, {}, 400, "incomplete", id="empty To"),
        pytest.param({}, {"content_type": "text/plain"}, 415, "unsupported", id="plain text"),
        pytest.param({}, {"content_type": "application/xml"}, 415, "unsupported", id="XML"),
        pytest.param(
            {}, {"content_type": "multipart/form-data"}, 415, "unsupported", id="multipart"
        ),
        pytest.param({}, {"content_type": ""}, 415, "unsupported", id="no type"),
        pytest.param({}, {"content_type": FORM + "x"}, 415, "unsupported", id="longer type"),
        pytest.param({"Body": "x" * 70_000}, {}, 413, "too_large", id="too long"),
        pytest.param(
            {f"x{n}": "" for n in range(1001)}, {}, 413, "too_large", id="too many fields"
        ),
    ],
)
async def test_what_is_refused_is_counted_and_not_stored(
    front: Any, changes: dict[str, str | None], headers: dict[str, str], status: int, counter: str
) -> None:
    """Each refusal has its own status for Twilio's debugger and leaves nothing behind."""
    response = await front.post(front.fields(**changes), **headers)
    assert_refused(response, status)
    assert await front.contents() == {}
    assert getattr(front.door.counters, counter) == 1
    assert (await front.post(front.fields())).status_code == 200


async def test_a_callback_without_a_signature_is_refused(front: Any) -> None:
    """The library raises on a missing header: to a stranger that would be a 500."""
    response = await front.client.post(
        front.path, content=urlencode(front.fields()), headers={"content-type": FORM}
    )
    assert_refused(response, 403)
    assert await front.contents() == {}


async def test_missing_parameters_are_named_in_the_answer(front: Any) -> None:
    """Twilio's debugger shows the body: it should say what is wrong."""
    response = await front.post(front.fields(MessageSid=None, From=None))
    assert response.text == "missing MessageSid, From"


@pytest.mark.parametrize(
    "content_type", [f"{FORM}; charset=UTF-8", FORM.upper(), f"{FORM} ;charset=utf-8"]
)
async def test_a_form_is_known_by_its_type_whatever_follows(front: Any, content_type: str) -> None:
    """Twilio adds a charset; refusing it would refuse every text."""
    assert (await front.post(front.fields(), content_type=content_type)).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
async def test_other_methods_are_told_which_there_are(front: Any, method: str) -> None:
    """A mistaken tool learns what to use."""
    response = await front.client.request(method, front.path)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"


async def test_a_delivery_report_is_answered_and_not_taken_for_a_text(front: Any) -> None:
    """Handled as a text it would be answered, and the answer reported, for ever."""
    fields = front.fields(SmsStatus="delivered", MessageStatus="delivered", Body=None)
    response = await front.post(fields)
    assert (response.status_code, response.content) == (200, TWIML)
    assert await front.stored() == []
    assert front.door.counters.statuses == 1


async def test_twilio_fact_06_each_status_of_a_reply_is_taken_once(front: Any) -> None:
    """By the sid alone "delivered" would be a duplicate of "sent"; without it, counted for ever."""
    base = front.fields(SmsStatus=None, Body=None)
    for status in ("delivered", "sent", "delivered", "sent", "read"):
        assert (await front.post(base | {"MessageStatus": status})).status_code == 200
    assert (front.door.counters.statuses, front.door.counters.duplicates) == (3, 2)
    assert await front.stored() == []


async def test_twilio_fact_10_a_reply_that_did_not_arrive_is_told_once_with_its_code(
    front: Any,
) -> None:
    """The connector had taken it: nobody else will say that it was lost at the carrier."""
    fields = front.fields(
        SmsStatus=None, Body=None, MessageStatus="undelivered", ErrorCode="30003", To="+12125550123"
    )
    with capture_logs() as lines:
        for _ in range(2):
            await front.post(fields)
    [line] = [each for each in lines if each["event"] == "a reply did not reach its phone"]
    assert (line["status"], line["twilio_error"]) == ("undelivered", "30003")
    assert line["sid"] == fields["MessageSid"]
    assert "2125550123" not in repr(lines)


async def test_a_report_that_redis_has_not_confirmed_is_asked_for_again(open_front: Any) -> None:
    """Answered 200 it would be lost."""
    front = await open_front(redis_url="unix:///nowhere/redis.sock")
    response = await front.post(front.fields(SmsStatus=None, MessageStatus="failed"))
    assert_refused(response, 503)


async def test_twilio_fact_02_the_host_header_decides_nothing(front: Any) -> None:
    """Behind a proxy Host is anything; and an attacker writes it at will."""
    lies = {"host": "evil.example", "x_forwarded_host": "evil.example", "x_forwarded_proto": "http"}
    assert (await front.post(front.fields(), **lies)).status_code == 200
    fields = front.fields()
    signature = front.sign(fields, "http://evil.example/sms/callbacks/twilio")
    assert_refused(await front.post(fields, **lies, x_twilio_signature=signature), 403)


async def test_an_unreachable_redis_is_a_503_with_retry_after(open_front: Any) -> None:
    """A 200 here would be a lost text."""
    front = await open_front(redis_url="unix:///nowhere/redis.sock")
    response = await front.post(front.fields())
    assert_refused(response, 503)
    assert int(response.headers["retry-after"]) > 0
    assert front.door.counters.unavailable == 1


async def test_a_full_inbox_is_a_503_with_retry_after(open_front: Any) -> None:
    """Twilio then tries the fallback; a 200 would be a lost text."""
    front = await open_front(limit=1)
    assert (await front.post(front.fields())).status_code == 200
    response = await front.post(front.fields())
    assert_refused(response, 503)
    assert int(response.headers["retry-after"]) > 0
    assert len(await front.stored()) == 1


async def test_a_redis_that_does_not_answer_is_a_503_in_time(open_front: Any) -> None:
    """Twilio gives up after 15 s without learning anything; it has to hear from us before."""
    front = await open_front(timeout_s=0.3)
    await front.redis.execute_command("CLIENT", "PAUSE", "30000", "WRITE")
    try:
        response = await front.post(front.fields())
    finally:
        await front.redis.execute_command("CLIENT", "UNPAUSE")
    assert_refused(response, 503)
    assert int(response.headers["retry-after"]) > 0
    assert front.door.in_flight == 0


class Broken:
    """An inbox with a defect whose error quotes the message."""

    async def accept(self, message: Message) -> bool:
        raise KeyError(message.body)

    def offer(self, message: Message, done: Any) -> None:
        raise KeyError(message.body)


async def test_a_defect_of_ours_is_a_503_and_quotes_nobody(open_front: Any) -> None:
    """A 500 page would be no worse for Twilio, but a traceback with a text in it leaks it."""
    front = await open_front(inbox=Broken())
    with capture_logs() as lines:
        response = await front.post(front.fields(Body="my word is heron"))
    assert_refused(response, 503)
    assert int(response.headers["retry-after"]) > 0
    [line] = [line for line in lines if line["event"] == "callback failed"]
    assert line["error"] == "KeyError"
    assert line["where"].split(" > ")[-1].startswith(("accept:", "offer:"))
    assert "heron" not in repr(lines) + response.text
    assert front.door.counters.failed == 1
    assert front.door.in_flight == 0


async def test_a_refusal_is_explained_once_a_second_and_without_the_text(front: Any) -> None:
    """The hint is what saves the operator's evening; a flood must not drown the log."""
    with capture_logs() as lines:
        for _ in range(20):
            fields = front.fields(Body="my word is heron")
            signature = front.sign(fields, URL.replace("https", "http"))
            await front.post(fields, x_twilio_signature=signature)
    refused = [line for line in lines if line["event"] == "signature refused"]
    assert 1 <= len(refused) <= 3
    assert refused[0]["log_level"] == "warning"
    assert "http for https" in refused[0]["hint"]
    assert refused[0]["suppressed"] == 0
    assert "heron" not in repr(lines)
    assert "2125550123" not in repr(lines)


async def test_a_flood_of_forgeries_does_not_hide_what_twilio_signed(front: Any) -> None:
    """An attack must not cover a wrong account setting, which needs the operator."""
    with capture_logs() as lines:
        await front.post(front.fields(), x_twilio_signature="junk")
        await front.post(front.fields(AccountSid="AC0"))
    assert [line["event"] for line in lines] == [
        "signature refused",
        "callback for another account refused",
    ]


async def test_a_flood_of_unsigned_requests_does_not_hide_why_a_signature_fails(front: Any) -> None:
    """Scanners call every public address; what explains Twilio's own must come through."""
    with capture_logs() as lines:
        for unsigned in (None, "", "junk", "A" * 300):
            sent = {"content-type": FORM} | ({"x-twilio-signature": unsigned} if unsigned else {})
            assert (await front.client.post(front.path, headers=sent)).status_code == 403
        fields = front.fields()
        signature = front.sign(fields, URL.replace("https", "http"))
        await front.post(fields, x_twilio_signature=signature)
    assert "http for https" in lines[-1]["hint"]
    assert len(lines) < 4


async def test_every_kind_of_refusal_is_logged_apart(open_front: Any) -> None:
    """A proxy that rewrites the method, the type or the body shows in the log, not as silence."""
    front = await open_front(timeout_s=0.2, in_flight_limit=1, inbox=Undecided())
    form = {"content-type": FORM}
    with capture_logs() as lines:
        for _ in range(3):
            await front.client.put(front.path)
            await front.client.post(
                front.path, content=b"<x/>", headers=[(b"content-type", b"a\xfc")]
            )
            await front.client.post(front.path, content=b"a" * 70_000, headers=form)
        wire = await Wire.open(front.url, "Content-Length: 100", b"Body=")
        assert (await wire.read()).startswith(b"HTTP/1.1 408 ")
        await wire.close()
        both = await asyncio.gather(*(front.post(front.fields()) for _ in range(2)))
        assert [response.status_code for response in both] == [503, 503]
    said = {line["event"]: line for line in reversed(lines)}
    assert set(said) == {
        "callback of a wrong method refused",
        "callback of a wrong type refused",
        "callback too large refused",
        "callback not accepted: too many at once",
        "callback not accepted",
        "callback refused: its body did not arrive in time",
    }
    assert said["callback of a wrong method refused"]["method"] == "PUT"
    assert said["callback of a wrong type refused"]["content_type"].isascii()
    assert said["callback too large refused"]["limit_bytes"] == "65536"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """Make httpx send a chunked body."""
    for part in parts:
        yield part


async def test_a_body_in_many_chunks_is_read_whole(front: Any) -> None:
    """Proxies re-chunk bodies; a text must not be lost for it."""
    fields = front.fields()
    body = urlencode(fields).encode()
    headers = {"content-type": FORM, "x-twilio-signature": front.sign(fields)}
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    response = await front.client.post(front.path, content=chunks(*parts), headers=headers)
    assert response.status_code == 200
    assert len(await front.stored()) == 1


class Wire:
    """One connection, written to byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, url: str, head: str, body: bytes = b"") -> Wire:
        """Send a POST's head, and as much of its body as given."""
        parts = urlsplit(url)
        wire = cls(*await asyncio.open_connection(parts.hostname, parts.port))
        start = (
            f"POST /callbacks/twilio HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n{head}\r\n\r\n"
        )
        wire.writer.write(start.encode() + body)
        await wire.writer.drain()
        return wire

    async def read(self) -> bytes:
        """Read until the server closes."""
        async with asyncio.timeout(5):
            return await self.reader.read()

    async def close(self) -> None:
        """Close our side."""
        self.writer.close()
        await self.writer.wait_closed()


async def test_a_body_announced_too_long_is_refused_before_it_is_sent(front: Any) -> None:
    """Nobody can make us wait for a gigabyte."""
    wire = await Wire.open(front.url, "Content-Length: 65537")
    assert (await wire.read()).startswith(b"HTTP/1.1 413 ")
    await wire.close()
    assert front.door.counters.too_large == 1


async def test_a_body_that_grows_too_long_is_cut_off(front: Any) -> None:
    """Without a Content-Length the limit has to hold while reading."""
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    wire = await Wire.open(front.url, "Transfer-Encoding: chunked", chunk * 3)
    assert (await wire.read()).startswith(b"HTTP/1.1 413 ")
    await wire.close()
    assert front.door.counters.too_large == 1
    assert front.door.in_flight == 0


async def test_a_body_at_the_limit_is_read(open_front: Any) -> None:
    """The limit is what the setting says, to the byte, query included."""
    fields = {"Body": "x" * 95}
    front = await open_front(body_limit_bytes=100)
    assert (await front.post(fields)).status_code == 403  # read, verified, of no account
    assert (await front.post(fields | {"Body": "x" * 96})).status_code == 413
    front.path += "?a"
    assert (await front.post(fields)).status_code == 413
    assert front.door.counters.foreign_account == 1


async def test_a_query_over_the_limit_is_refused_too(open_front: Any) -> None:
    """A GET has no body; its parameters are bounded all the same."""
    front = await open_front(body_limit_bytes=1000)
    assert_refused(await front.client.get(f"{front.path}?Body={'x' * 995}"), 403)
    assert_refused(await front.client.get(f"{front.path}?Body={'x' * 996}"), 413)


async def test_a_slow_body_is_given_up_on(open_front: Any) -> None:
    """A caller who drips bytes must not hold a place for ever."""
    front = await open_front(timeout_s=0.2)
    wire = await Wire.open(front.url, "Content-Length: 100", b"Body=")
    assert (await wire.read()).startswith(b"HTTP/1.1 408 ")
    await wire.close()
    assert front.door.counters.too_slow == 1
    assert front.door.in_flight == 0


async def test_a_caller_who_leaves_early_leaves_nothing_behind(front: Any) -> None:
    """Half a form is no text."""
    wire = await Wire.open(front.url, "Content-Length: 100", b"Body=")
    await asyncio.sleep(0.1)
    await wire.close()
    await asyncio.sleep(0.1)
    assert await front.contents() == {}
    assert front.door.counters.bad_signature == 0
    assert (await front.post(front.fields())).status_code == 200


class Undecided:
    """An inbox that confirms nothing until it is told to."""

    def __init__(self) -> None:
        self.owed: list[Any] = []

    async def accept(self, message: Message) -> bool:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.offer(message, lambda new, _: answer.set_result(new))
        return await answer

    def offer(self, message: Message, done: Any) -> None:
        self.owed.append(done)


async def test_more_callbacks_than_the_bound_are_told_to_come_back(open_front: Any) -> None:
    """Under a burst we say so, before memory suffers, and recover by ourselves."""
    inbox = Undecided()
    front = await open_front(in_flight_limit=1, inbox=inbox)
    first = asyncio.create_task(front.post(front.fields()))
    async with asyncio.timeout(5):
        while not front.door.in_flight:
            await asyncio.sleep(0.01)
    response = await front.post(front.fields())
    assert_refused(response, 503)
    assert int(response.headers["retry-after"]) > 0
    inbox.owed.pop()(True, None)
    assert (await first).status_code == 200
    assert front.door.in_flight == 0
    assert front.door.counters.busy == 1


async def test_a_whole_callback_does_not_wait_behind_one_that_never_ends(open_front: Any) -> None:
    """A thousand half bodies would have every text refused, for the price of a connection each."""
    front = await open_front(in_flight_limit=1)
    wires = [await Wire.open(front.url, "Content-Length: 100", b"Body=") for _ in range(3)]
    await asyncio.sleep(0.1)
    assert front.door.in_flight == 0
    assert (await front.post(front.fields())).status_code == 200
    for wire in wires:
        await wire.close()


async def test_a_hundred_texts_at_once_are_all_stored(front: Any) -> None:
    """Group commit must not mix up who is answered what."""
    texts = [front.fields(From=f"+1212555{n:04}") for n in range(100)]
    responses = await asyncio.gather(*(front.post(fields) for fields in texts))
    assert {response.status_code for response in responses} == {200}
    stored = {message.sid for message in await front.stored()}
    assert stored == {fields["MessageSid"] for fields in texts}
