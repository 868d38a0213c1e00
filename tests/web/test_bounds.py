"""Attacks on the listeners by callers who have nothing but a connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from structlog.testing import capture_logs

from service.host.bounded import bounded
from service.host.bounds import HEAD_LIMIT_BYTES, HEADERS_LIMIT
from service.host.crowd import Crowd
from service.host.listeners import AppServer, listen
from service.web.internal.app import internal_app
from tests.web.conftest import CALLBACK_PATH, FORM
from tests.web.door.test_connections import (
    FIELDS,
    Listener,
    Opener,
    Wire,
    callback,
    open_listener,  # noqa: F401  (a fixture)
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def listener(open_listener: Opener) -> Listener:  # noqa: F811
    """A listener with the default settings."""
    return await open_listener()


ENDLESS = {
    "a header's value": b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000,
    "a header's name": b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"a" * 70_000,
    "a URL": b"GET /" + b"a" * 70_000,
    "small headers": b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 12_000,
    "a trailer": (
        b"POST /other HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n0\r\nA: " + b"a" * 70_000
    ),
    "an extension of a chunk": (
        b"POST /other HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 70_000
    ),
    "chunks of one byte": (
        b"POST /callbacks/twilio HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + b"1\r\na\r\n" * 12_000
    ),
}


@pytest.mark.parametrize("sent", ENDLESS.values(), ids=ENDLESS)
async def test_a_head_without_end_is_refused_early(listener: Listener, sent: bytes) -> None:
    """200 MB of one header took 37 s of CPU, and every other answer waited for it."""
    wire = await listener.wire()
    with capture_logs() as lines:
        await wire.send(sent)
        head = await wire.rest()
    # Where the application had answered by itself, the connection ends after that.
    assert head.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 404 ", b"HTTP/1.1 403 "))
    assert listener.crowd.counters.heads_too_large == 1
    assert [line["event"] for line in lines if "head" in line["event"]]
    assert listener.inbox.messages == []


@pytest.mark.parametrize("piece", [997, 16_384, 262_144])
async def test_a_head_is_bounded_however_it_is_cut(listener: Listener, piece: int) -> None:
    """What the parser joins of an endless value costs CPU that grows with its square."""
    wire = await listener.wire()
    began = time.process_time()
    wire.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ")
    sent = 0
    try:
        while sent < 8_000_000:
            wire.writer.write(b"a" * piece)
            await wire.writer.drain()
            sent += piece
    except ConnectionError:
        pass
    assert listener.crowd.counters.heads_too_large == 1
    assert time.process_time() - began < 2
    assert (await (await ask_alive(listener)).answer())[0] == 200


async def ask_alive(listener: Listener) -> Wire:
    """Ask for liveness on a new connection."""
    wire = await listener.wire()
    await wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    return wire


async def test_a_head_at_the_limit_is_served_and_one_over_it_is_not(listener: Listener) -> None:
    """The limit is what it says, whether the head comes whole or cut."""
    start, end = b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ", b"\r\n\r\n"
    fits = start + b"a" * (HEAD_LIMIT_BYTES - len(start) - len(end)) + end
    for pieces in ((fits,), (fits[:100], fits[100:20_000], fits[20_000:])):
        wire = await listener.wire()
        await wire.send(*pieces)
        assert (await wire.answer())[0] == 200
    over = fits.replace(b"aaaa", b"aaaaa", 1)
    for pieces in ((over,), (over[:100], over[100:20_000], over[20_000:])):
        wire = await listener.wire()
        await wire.send(*pieces)
        assert (await wire.answer())[0] == 431


async def test_more_headers_than_anybody_sends_are_refused(listener: Listener) -> None:
    """Each becomes objects of ours before anybody has looked at the signature."""
    for count, status in ((HEADERS_LIMIT - 1, 200), (HEADERS_LIMIT, 431)):
        wire = await listener.wire()
        lines = b"".join(b"a%d: b\r\n" % number for number in range(count))
        await wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        assert (await wire.answer())[0] == status


async def test_a_long_body_is_no_head(listener: Listener) -> None:
    """A picture's add-ons would be refused for the head they do not have."""
    wire = await listener.wire()
    whole = callback(Body="x" * 60_000)
    await wire.send(whole[:600], whole[600:50_000], whole[50_000:] + callback(Body="y" * 40_000))
    assert (await wire.answer())[0] == 200
    assert (await wire.answer())[0] == 200


async def test_many_requests_in_one_piece_are_many_heads(listener: Listener) -> None:
    """A proxy that sends on one connection without waiting would be cut off."""
    wire = await listener.wire()
    whole = callback() * 200
    assert len(whole) > 2 * HEAD_LIMIT_BYTES
    await wire.send(whole[: len(whole) - 50], whole[len(whole) - 50 :])
    for _ in range(200):
        assert (await wire.answer())[0] == 200


async def test_trailers_are_no_headers(listener: Listener) -> None:
    """A name that a proxy has checked in the head could come in again behind the body."""
    form = urlencode(FIELDS).encode()
    body = b"%x\r\n%s\r\n0\r\nX-Twilio-Signature: junk\r\nContent-Type: text/plain\r\n\r\n"
    wire = await listener.wire()
    framing = "Transfer-Encoding: chunked"
    await wire.send(callback(framing=framing, body=body % (len(form), form)))
    assert (await wire.answer())[0] == 200


UPGRADE = ("Connection: Upgrade", "Upgrade: foo")


@pytest.mark.parametrize("cut", [True, False], ids=["in two writes", "whole"])
async def test_no_request_is_smuggled_behind_an_upgrade(listener: Listener, cut: bool) -> None:
    """A proxy's next callback was answered 200 with another one's answer, and lost."""
    inner = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    sent = callback(*UPGRADE, body=inner)
    head, _, body = sent.partition(b"\r\n\r\n")
    wire = await listener.wire()
    with contextlib.suppress(ConnectionError):
        await wire.send(*([head + b"\r\n\r\n", body] if cut else [sent]))
        await wire.send(callback())
    answered = await wire.rest()
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert answered.count(b"HTTP/1.1 ") == 1
    assert listener.inbox.messages == []
    assert listener.crowd.counters.upgrades == 1


async def test_a_request_without_a_body_may_ask_for_an_upgrade_in_vain(listener: Listener) -> None:
    """Some clients offer HTTP/2; they get their answer, and the connection ends."""
    wire = await listener.wire()
    lines = "\r\n".join(UPGRADE)
    await wire.send(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode() + callback())
    answered = await wire.rest()
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert answered.count(b"HTTP/1.1 ") == 1
    assert listener.inbox.messages == []


async def test_a_query_over_the_parsers_limit_is_an_answer(listener: Listener) -> None:
    """With the body in a second write it was an exception nobody caught."""
    for length in (33_000, 65_530, 65_600):
        wire = await listener.wire()
        whole = callback(path=f"{CALLBACK_PATH}?{'a' * length}")
        head, _, body = whole.partition(b"\r\n\r\n")
        await wire.send(head + b"\r\n\r\n", body)
        assert (await wire.rest()).startswith(b"HTTP/1.1 431 ")


MALFORMED = {
    "no path": b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a bad URL": b"GET /healthz:99999999 HTTP/1.1\r\n\x00: x\r\n\r\n",
    "a bad authority": b"CONNECT a:b:c HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_request_is_answered_and_logged_seldom(
    listener: Listener, sent: bytes
) -> None:
    """Malformed requests wrote thousands of log lines a second."""
    with capture_logs() as lines:
        for _ in range(20):
            wire = await listener.wire()
            await wire.send(sent)
            assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")
    assert listener.crowd.counters.malformed == 20
    assert len(lines) <= 2


MANY = b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n"


@pytest.mark.parametrize("behind", [*MALFORMED.values(), MANY], ids=[*MALFORMED, "many headers"])
@pytest.mark.parametrize("usual", [False, True], ids=["the short way", "the usual way"])
async def test_an_answer_that_is_owed_goes_out_before_a_refusal(
    listener: Listener,
    behind: bytes,
    usual: bool,
) -> None:
    """The text is kept, and whoever sent it would not hear of it."""
    listener.inbox.held = True
    wire = await listener.wire()
    first = callback("Expect: 100-continue") if usual else callback()
    await wire.send(first)
    await until(lambda: listener.inbox.owed)
    await wire.send(behind)
    await until(
        lambda: listener.crowd.counters.malformed + listener.crowd.counters.heads_too_large == 1
    )
    listener.inbox.confirm()
    answered = await wire.rest()
    assert answered.count(b"HTTP/1.1 200 ") == 1
    assert answered.endswith(b"<Response/>")
    await until(lambda: listener.crowd.size == 0)


async def test_a_slow_request_behind_others_does_not_keep_the_connection(
    open_listener: Opener,  # noqa: F811
) -> None:
    """Connections that nobody closes any more would run out for good."""
    listener = await open_listener(crowd=Crowd(body_s=0.3))
    listener.inbox.held = True
    wire = await listener.wire()
    await wire.send(callback())
    await until(lambda: listener.inbox.owed)
    await wire.send(callback()[:-20])
    await until(lambda: listener.crowd.counters.too_slow == 1)
    listener.inbox.confirm()
    answered = await wire.rest()
    assert answered.count(b"HTTP/1.1 200 ") == 1
    await until(lambda: listener.crowd.size == 0)


SLOW = {
    "no byte of the second request": (b"GET /healthz HTTP/1.1\r\nHost", 408),
    "half a head": (callback()[:60], 408),
    "half a body": (callback()[:-20], 408),
}


@pytest.mark.parametrize(("sent", "status"), SLOW.values(), ids=SLOW)
async def test_who_keeps_us_waiting_is_given_up_on(
    open_listener: Opener,  # noqa: F811
    sent: bytes,
    status: int,
) -> None:
    """A head that never ended was never timed out."""
    listener = await open_listener(crowd=Crowd(head_s=0.4, body_s=0.4))
    wire = await listener.wire()
    began = time.monotonic()
    dripping = asyncio.create_task(drip(wire))
    await wire.send(sent)
    assert (await wire.answer())[0] == status
    dripping.cancel()
    assert time.monotonic() - began < 3
    assert listener.crowd.counters.too_slow == 1
    assert listener.inbox.messages == []


async def drip(wire: Wire) -> None:
    """Send a byte now and then."""
    while True:
        await asyncio.sleep(0.1)
        wire.writer.write(b"a")


async def test_a_body_that_keeps_coming_has_its_time(open_listener: Opener) -> None:  # noqa: F811
    """A page of events over a slow link takes longer than a text; it must not be cut off."""
    listener = await open_listener(
        crowd=Crowd(head_s=0.4, body_s=0.3), body_limit_bytes=500_000, timeout_s=10
    )
    wire = await listener.wire()
    whole = callback(Body="x" * 130_000)
    pieces = [whole[start : start + 20_000] for start in range(0, len(whole), 20_000)]
    for piece in pieces:
        await asyncio.sleep(0.15)
        wire.writer.write(piece)
    assert (await wire.answer())[0] == 200


@pytest.mark.long
async def test_who_does_not_read_is_given_up_on(open_listener: Opener) -> None:  # noqa: F811
    """Ten thousand such callers would hold every connection for ever."""
    listener = await open_listener(crowd=Crowd(body_s=0.5))
    wire = await listener.wire()
    transport: Any = wire.writer.transport
    transport.pause_reading()
    refused = callback(AccountSid="AC" + "0" * 32) * 500
    await until(lambda: listener.crowd.size == 1)
    for _ in range(2000):
        if listener.crowd.size == 0 or transport.is_closing():
            break
        wire.writer.write(refused)
        try:
            async with asyncio.timeout(0.5):
                await wire.writer.drain()
        except (TimeoutError, ConnectionError):
            await asyncio.sleep(0.2)
    await until(lambda: listener.crowd.counters.too_slow == 1)
    await until(lambda: listener.crowd.size == 0)


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["idle", "closing"])
async def test_answers_that_nobody_reads_keep_no_connection(
    open_listener: Opener,  # noqa: F811
    last: bytes,
) -> None:
    """Closed, it would wait for its last bytes to be read, for ever, and take up a place."""
    listener = await open_listener(crowd=Crowd(idle_s=0.5, body_s=0.5))
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, ("127.0.0.1", listener.port))
    await until(lambda: listener.crowd.size == 1)
    connection: Any = next(iter(listener.crowd._fresh))
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n%s\r\n"
    # Until the kernel takes no more, and a little is left with us.
    while not connection.transport.get_write_buffer_size():
        await loop.sock_sendall(peer, (request % b"") * 50)
        await asyncio.sleep(0.01)
    if last:
        await loop.sock_sendall(peer, request % last)
    await until(lambda: listener.crowd.size == 0)
    peer.close()


async def test_half_a_request_behind_unread_answers_has_its_time(open_listener: Opener) -> None:  # noqa: F811
    """Once its answers were read it would have been forgotten, open, for ever."""
    listener = await open_listener(crowd=Crowd(head_s=0.5, body_s=5))
    wire = await listener.wire()
    transport: Any = wire.writer.transport
    transport.pause_reading()
    refused = callback(AccountSid="AC" + "0" * 32) * 300
    await until(lambda: listener.crowd.size == 1)
    while not listener.crowd.waiting:
        wire.writer.write(refused)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await wire.writer.drain()
        await asyncio.sleep(0.01)
    wire.writer.write(b"GET / HT")
    transport.resume_reading()
    await wire.rest()
    await until(lambda: listener.crowd.size == 0)


async def test_a_body_behind_a_long_head_is_read_in_pieces(listener: Listener) -> None:
    """Byte by byte, one such request held everybody up for a quarter of a second."""
    start = callback(f"A: {'a' * 31_000}", Body="x" * 60_000)
    head = start.partition(b"\r\n\r\n")[0]
    padded = callback(f"A: {'a' * (31_000 + HEAD_LIMIT_BYTES - len(head) - 5)}", Body="x" * 60_000)
    wire = await listener.wire()
    began = time.process_time()
    for _ in range(5):
        await wire.send(padded)
        assert (await wire.answer())[0] == 200
    assert time.process_time() - began < 0.5


async def test_when_connections_run_out_the_slow_go_first(open_listener: Opener) -> None:  # noqa: F811
    """A thousand half requests would turn every signed callback away."""
    listener = await open_listener(crowd=Crowd(10, waiting_limit=5))
    served = await listener.wire()
    await served.send(callback())
    assert (await served.answer())[0] == 200
    for _ in range(50):
        wire = await listener.wire()
        await wire.send(callback()[:-20])
    await until(lambda: listener.crowd.counters.evicted >= 45)
    assert listener.crowd.waiting <= 5
    newcomer = await listener.wire()
    await newcomer.send(callback(Body="new"))
    assert (await newcomer.answer())[0] == 200
    await served.send(callback(Body="kept"))
    assert (await served.answer())[0] == 200
    assert [message.body for message in listener.inbox.messages][1:] == ["new", "kept"]


async def test_the_oldest_idle_connection_goes_for_a_new_one(open_listener: Opener) -> None:  # noqa: F811
    """Else whoever opens connections and waits keeps Twilio out."""
    listener = await open_listener(crowd=Crowd(3))
    wires = []
    for _ in range(3):
        wires.append(await listener.wire())
        await wires[-1].send(callback())
        assert (await wires[-1].answer())[0] == 200
    with capture_logs() as lines:
        newcomer = await listener.wire()
        await newcomer.send(callback())
        assert (await newcomer.answer())[0] == 200
    assert await wires[0].rest() == b""
    await wires[1].send(callback())
    assert (await wires[1].answer())[0] == 200
    assert [line["limit"] for line in lines if "run short" in line["event"]] == [3]


async def test_a_connection_that_is_being_answered_is_never_closed_for_another(
    open_listener: Opener,  # noqa: F811
) -> None:
    """Its text is accepted, and Twilio would not hear of it."""
    listener = await open_listener(crowd=Crowd(2))
    listener.inbox.held = True
    busy = [await listener.wire() for _ in range(2)]
    for wire in busy:
        await wire.send(callback())
    await until(lambda: len(listener.inbox.owed) == 2)
    newcomer = await listener.wire()
    assert await newcomer.rest() == b""
    assert listener.crowd.counters.refused == 1
    listener.inbox.confirm()
    for wire in busy:
        assert (await wire.answer())[0] == 200


async def test_the_internal_listener_has_the_same_bounds() -> None:
    """Whoever reaches it could stop readiness, and the orchestrator the service."""

    async def well() -> dict[str, Any]:
        return {}

    opened = listen("127.0.0.1", 0, "INTERNAL_PORT")
    port = opened.getsockname()[1]
    crowd = Crowd(4, head_s=0.4)
    server = AppServer(internal_app(well), opened, stop_s=1, http=bounded(crowd))
    stop = asyncio.Event()
    running = asyncio.create_task(server.run_until(stop))
    wires = []
    for _ in range(8):
        wires.append(Wire(*await asyncio.open_connection("127.0.0.1", port)))
        await wires[-1].send(b"GET /readyz HTTP/1.1\r\nHos")
    await until(lambda: crowd.size == 4)
    wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
    await wire.send(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (await wire.answer())[0] == 200
    await wire.send(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (await wire.answer())[0] == 200
    await until(lambda: crowd.size == 1)
    large = Wire(*await asyncio.open_connection("127.0.0.1", port))
    await large.send(ENDLESS["a header's value"])
    assert (await large.answer())[0] == 431
    stop.set()
    for each in (*wires, wire, large):
        each.abort()
    await running


async def test_a_form_of_the_usual_type_is_expected_here() -> None:
    """The attacks above are on the way that callbacks take."""
    assert callback().count(FORM.encode()) == 1
