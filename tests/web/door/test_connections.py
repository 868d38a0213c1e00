"""Our own connections against real sockets: the short way in, and all the ways around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.core.twilio.signature import Verifier
from service.errors import StoreError, StoreUnavailable
from service.host.bounds import BoundedConnection
from service.host.crowd import Crowd
from service.host.listeners import AppServer, listen
from service.model import Message
from service.web.door.callbacks import Door
from service.web.door.connections import Connection
from service.web.door.judging import Arrival
from service.web.door.public import public_app, written_paths
from service.web.door.way_in import connections
from tests.present import as_a
from tests.web.conftest import (
    ACCOUNT,
    CALLBACK_PATH,
    CALLBACK_URL,
    FORM,
    PREFIX,
    TOKEN,
    Front,
    events_of,
)

pytestmark = pytest.mark.anyio

Told = Callable[[bool, StoreError | None], None]


class Memory:
    """An inbox that confirms when it is told to: at once, unless `held`."""

    def __init__(self) -> None:
        self.held = False
        self.messages: list[Message] = []
        self.owed: list[Told] = []

    async def accept(self, message: Message) -> bool:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.offer(message, lambda new, _: answer.set_result(new))
        return await answer

    def offer(self, arrival: Arrival, done: Told) -> None:
        message = as_a(Message, arrival)
        self.messages.append(message)
        self.owed.append(done)
        if not self.held:
            asyncio.get_running_loop().call_soon(self.confirm)

    def confirm(self, error: StoreError | None = None) -> None:
        """Confirm what is owed, or fail it."""
        owed, self.owed = self.owed, []
        for done in owed:
            done(error is None, error)


@dataclass
class Listener:
    """A public listener of the service's own server, and what reached its application."""

    port: int
    door: Door
    inbox: Memory
    crowd: Crowd
    stop: asyncio.Event
    running: asyncio.Task[None]
    usual_way: list[str]
    wires: list[Wire] = field(default_factory=list)

    async def wire(self) -> Wire:
        """Open a connection."""
        self.wires.append(Wire(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.wires[-1]

    async def end(self) -> None:
        """Stop, and leave nothing open."""
        self.inbox.held = False
        self.inbox.confirm()
        for wire in self.wires:
            wire.abort()
        await asyncio.gather(
            *(wire.writer.wait_closed() for wire in self.wires), return_exceptions=True
        )
        self.stop.set()
        await self.running


@dataclass
class Wire:
    """One connection to the listener, written to byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, each read by the server before the next one comes."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.02 if len(pieces) > 1 else 0)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers, body."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return int(first.split()[1]), headers, body

    async def rest(self) -> bytes:
        """Read until the server closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    def abort(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()


FIELDS = {
    "MessageSid": "SM" + "1" * 32,
    "AccountSid": ACCOUNT,
    "From": "+12125550123",
    "To": "+14155550100",
    "Body": "Grüße 😊 1+1=2 & more",
    "SmsStatus": "received",
}


def callback(
    *extra: str,
    path: str = CALLBACK_PATH,
    version: str = "1.1",
    method: str = "POST",
    content_type: str = FORM,
    signature: str | None = None,
    framing: str | None = None,
    body: bytes | None = None,
    **changes: str,
) -> bytes:
    """Write a signed callback as it crosses the wire. extra: header lines."""
    fields = FIELDS | changes
    query = urlsplit(path).query
    url = CALLBACK_URL + (f"?{query}" if query else "")
    form = urlencode(fields).encode() if body is None else body
    lines = [
        f"{method} {path} HTTP/{version}",
        "Host: sms.example.com",
        f"Content-Type: {content_type}",
        framing or f"Content-Length: {len(form)}",
        f"X-Twilio-Signature: {signature or Front.sign(fields, url)}",
        *extra,
    ]
    return "\r\n".join((*lines, "", "")).encode() + form


Opener = Callable[..., Awaitable[Listener]]


@pytest.fixture
async def open_listener() -> AsyncIterator[Opener]:
    """Open a listener as the service does; keyword arguments go to the door.

    crowd: bounds of its connections.
    """
    async with AsyncExitStack() as stack:

        async def start(*, crowd: Crowd | None = None, **options: Any) -> Listener:
            inbox = Memory()
            events = events_of(inbox, None)
            door = Door(Verifier(CALLBACK_URL, [TOKEN]), ACCOUNT, inbox, events=events, **options)
            app = public_app(door, callback_path=CALLBACK_PATH, prefix=PREFIX)
            usual_way: list[str] = []

            async def noting(scope: Any, receive: Any, send: Any) -> None:
                usual_way.append(scope["path"])
                await app(scope, receive, send)

            paths = written_paths(callback_path=CALLBACK_PATH, prefix=PREFIX)
            socket = listen("127.0.0.1", 0, "PORT")
            port = socket.getsockname()[1]
            crowd = crowd or Crowd()
            server = AppServer(noting, socket, stop_s=5, http=connections(door, paths, crowd))
            stop = asyncio.Event()
            running = asyncio.create_task(server.run_until(stop))
            opened = Listener(port, door, inbox, crowd, stop, running, usual_way)
            stack.push_async_callback(opened.end)
            return opened

        yield start


@pytest.fixture
async def listener(open_listener: Opener) -> Listener:
    """A listener with the default settings."""
    return await open_listener()


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that has to happen."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_whole_callback_takes_the_short_way(listener: Listener) -> None:
    """The speed of the door would be lost without anybody noticing."""
    wire = await listener.wire()
    for path in (CALLBACK_PATH, PREFIX + CALLBACK_PATH, f"{CALLBACK_PATH}?a=%7e&b"):
        await wire.send(callback(path=path))
        status, headers, body = await wire.answer()
        assert (status, headers["content-type"]) == (200, "text/xml")
        assert body.endswith(b"<Response/>")
    assert listener.usual_way == []
    assert [message.body for message in listener.inbox.messages] == [FIELDS["Body"]] * 3


NOT_PLAIN = {
    "a body in pieces": (callback()[:-20], callback()[-20:]),
    "a head in pieces": (callback()[:40], callback()[40:-20], callback()[-20:]),
    "chunks": (
        callback(
            framing="Transfer-Encoding: chunked",
            body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(urlencode(FIELDS)), urlencode(FIELDS).encode()),
        ),
    ),
    "a connection to be closed": (callback("Connection: close"),),
    "HTTP/1.0": (callback(version="1.0"),),
    "HTTP/1.0, kept alive": (callback("Connection: keep-alive", version="1.0"),),
    "an escaped path": (callback(path="/callbacks/%74wilio"),),
}


@pytest.mark.parametrize("pieces", NOT_PLAIN.values(), ids=NOT_PLAIN)
async def test_what_is_not_plain_takes_the_usual_way_and_is_accepted(
    listener: Listener, pieces: tuple[bytes, ...]
) -> None:
    """A proxy that sends head and body apart, or chunks, would lose every text."""
    wire = await listener.wire()
    await wire.send(*pieces)
    assert (await wire.answer())[0] == 200
    assert len(listener.usual_way) == 1
    assert [message.body for message in listener.inbox.messages] == [FIELDS["Body"]]


async def test_a_callback_cut_anywhere_is_accepted(listener: Listener) -> None:
    """TCP cuts where it likes."""
    whole = callback()
    cuts = [*range(1, len(whole), 23), len(whole) - 1]

    async def send_cut(at: int) -> int:
        wire = await listener.wire()
        await wire.send(whole[:at], whole[at:])
        status, _, _ = await wire.answer()
        return status

    assert set(await asyncio.gather(*map(send_cut, cuts))) == {200}
    assert len(listener.inbox.messages) == len(cuts)


async def test_a_caller_who_asks_first_is_told_to_continue(listener: Listener) -> None:
    """Some clients wait a second for it, some for ever."""
    wire = await listener.wire()
    whole = callback("Expect: 100-continue")
    head, _, body = whole.partition(b"\r\n\r\n")
    await wire.send(head + b"\r\n\r\n")
    assert (await wire.answer())[0] == 100
    await wire.send(body)
    assert (await wire.answer())[0] == 200


MANY: dict[str, Any] = {f"x{n}": "" for n in range(1001)}

SENT = {
    "accepted": callback(),
    "forged": callback(Body="other", signature="junk"),
    "foreign account": callback(AccountSid="AC" + "0" * 32),
    "incomplete": callback(MessageSid=""),
    "report": callback(MessageStatus="delivered", SmsStatus="delivered"),
    "no form": callback(content_type="text/plain"),
    "too large": callback(Body="x" * 70_000),
    "too many fields": callback(**MANY),
    "no body": callback(body=b""),
    "not there": callback(path="/other"),
    "other method": callback(method="PUT"),
    "liveness": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
async def test_both_ways_give_the_same_answer_and_count_the_same(
    open_listener: Opener, sent: bytes
) -> None:
    """What Twilio is told must not depend on how TCP cut the request."""

    async def ask(*pieces: bytes) -> tuple[object, ...]:
        opened = await open_listener()
        wire = await opened.wire()
        await wire.send(*pieces)
        answer = await wire.answer()
        return answer, opened.door.counters, opened.door.in_flight

    middle = min(len(sent) - 10, 400)
    assert await ask(sent) == await ask(sent[:middle], sent[middle:])


async def test_requests_sent_without_waiting_are_answered_in_their_order(
    listener: Listener,
) -> None:
    """A proxy that pipelines would give Twilio's answer to somebody else."""
    listener.inbox.held = True
    liveness = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    forged = callback(signature="junk")
    wire = await listener.wire()
    await wire.send(forged + callback() + liveness + callback() + forged + liveness)
    assert (await wire.answer())[0] == 403
    await until(lambda: listener.inbox.owed)
    assert len(listener.inbox.messages) == 1
    listener.inbox.held = False
    listener.inbox.confirm()
    answers = [await wire.answer() for _ in range(5)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 403, 200]
    assert [b"Response" in body for _, _, body in answers] == [True, False, True, False, False]
    assert len(listener.usual_way) == 4


async def test_many_callbacks_sent_without_waiting_are_all_answered(listener: Listener) -> None:
    """A connection that stops reading under load would hang its proxy."""
    wire = await listener.wire()
    wire.writer.write(callback() * 200)
    assert {(await wire.answer())[0] for _ in range(200)} == {200}
    assert len(listener.inbox.messages) == 200


async def test_junk_behind_a_callback_is_refused(listener: Listener) -> None:
    """What can't be read ends the connection; guessing lets requests be smuggled."""
    wire = await listener.wire()
    await wire.send(callback())
    assert (await wire.answer())[0] == 200
    await wire.send(b"\x00\x01junk\r\n\r\n")
    assert (await wire.answer())[0] == 400
    assert await wire.rest() == b""


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 10\r\nTransfer-Encoding: chunked",
        "Content-Length: 10\r\nContent-Length: 20",
        "Content-Length: +10",
    ],
)
async def test_a_doubtful_length_is_refused(listener: Listener, framing: str) -> None:
    """Two servers that disagree about a request's end is how requests are smuggled."""
    wire = await listener.wire()
    await wire.send(callback(framing=framing))
    assert (await wire.answer())[0] == 400
    assert listener.inbox.messages == []


async def test_a_caller_who_leaves_before_the_answer_frees_the_place(listener: Listener) -> None:
    """Every impatient caller would cost a place until the door is shut."""
    listener.inbox.held = True
    wire = await listener.wire()
    await wire.send(callback())
    await until(lambda: listener.inbox.owed)
    wire.abort()
    await asyncio.sleep(0.05)
    listener.inbox.confirm()
    assert listener.door.in_flight == 0
    assert listener.door.counters.accepted == 1


async def test_a_store_that_fails_late_is_a_503(listener: Listener) -> None:
    """A 200 without Redis's word would be a lost text."""
    listener.inbox.held = True
    wire = await listener.wire()
    await wire.send(callback())
    await until(lambda: listener.inbox.owed)
    listener.inbox.confirm(StoreUnavailable("Redis: gone"))
    status, headers, _ = await wire.answer()
    assert status == 503
    assert int(headers["retry-after"]) > 0
    assert listener.door.counters.unavailable == 1


async def test_an_answer_that_was_given_up_on_stays_the_only_one(open_listener: Opener) -> None:
    """A second answer on the connection would be taken for that to the next callback."""
    listener = await open_listener(timeout_s=0.2)
    listener.inbox.held = True
    wire = await listener.wire()
    await wire.send(callback())
    assert (await wire.answer())[0] == 503
    assert listener.door.in_flight == 0
    listener.inbox.held = False
    listener.inbox.confirm()
    await wire.send(callback(signature="junk"))
    assert (await wire.answer())[0] == 403
    assert (listener.door.counters.unavailable, listener.door.counters.accepted) == (1, 0)


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(open_listener: Opener) -> None:
    """Idle connections would pile up; one that is closed under a callback loses it."""
    listener = await open_listener(crowd=Crowd(idle_s=1))
    began = asyncio.get_running_loop().time()
    wire = await listener.wire()
    for _ in range(4):
        await asyncio.sleep(0.4)
        await wire.send(callback())
        assert (await wire.answer())[0] == 200
    listener.inbox.held = True
    await wire.send(callback())
    await asyncio.sleep(1.5)
    listener.inbox.confirm()
    assert (await wire.answer())[0] == 200
    answered = asyncio.get_running_loop().time()
    assert answered - began > 3
    assert await wire.rest() == b""
    assert asyncio.get_running_loop().time() - answered > 0.9


async def test_a_stop_lets_callbacks_under_way_be_answered(listener: Listener) -> None:
    """Every deployment would cost the texts of that moment."""
    listener.inbox.held = True
    busy, idle = await listener.wire(), await listener.wire()
    await idle.send(callback(signature="junk"))
    assert (await idle.answer())[0] == 403
    await busy.send(callback())
    await until(lambda: listener.inbox.owed)
    listener.stop.set()
    assert await idle.rest() == b""
    assert not listener.running.done()
    listener.inbox.confirm()
    status, headers, _ = await busy.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await busy.rest() == b""
    await listener.running


async def test_a_caller_who_does_not_read_is_not_served_without_end(
    listener: Listener,
) -> None:
    """Answers nobody reads would pile up in our memory."""
    refused = callback(AccountSid="AC" + "0" * 32) * 500
    wire = await listener.wire()
    cast("asyncio.ReadTransport", wire.writer.transport).pause_reading()
    sent = 0
    async with asyncio.timeout(60):
        while sent < 300_000:
            wire.writer.write(refused)
            sent += 500
            try:
                async with asyncio.timeout(1):
                    await wire.writer.drain()
            except TimeoutError:
                break
    # The server reads no more: what it has read and not answered is a few reads long.
    answered = listener.door.counters.foreign_account
    assert answered < sent < 300_000


def test_what_uvicorn_is_expected_to_have_is_there() -> None:
    """A new uvicorn that is built otherwise must be seen here, not in production."""
    for name in ("on_message_begin", "on_body", "on_message_complete", "data_received"):
        assert name in vars(Connection)
        assert name in vars(HttpToolsProtocol)
    for name in ("on_headers_complete", "on_response_complete", "connection_lost", "pause_writing"):
        assert name in vars(BoundedConnection)
        assert name in vars(HttpToolsProtocol)
    assert "_unset_keepalive_if_required" in vars(HttpToolsProtocol)
