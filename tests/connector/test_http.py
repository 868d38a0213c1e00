from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from service.connector.http import ANSWER_LIMIT_BYTES, Client, HttpAnswer, NoAnswer, NotSent
from tests.loops import BOTH_LOOPS
from tests.scripted_server import Talk, answering, closing_after, serving

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ENDLESS = b"x" * 65536


@pytest.fixture(scope="module", params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops."""
    return request.param


@contextlib.asynccontextmanager
async def client(
    origin: str,
    *,
    connections: int = 4,
    connect_timeout_s: float = 2,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Client]:
    """Make a client that is closed again."""
    made = Client(origin, connections=connections, connect_timeout_s=connect_timeout_s, tls=tls)
    try:
        yield made
    finally:
        await made.aclose()
        await asyncio.sleep(0.01)


async def get(http: Client, timeout_s: float = 5) -> bytes:
    """GET /; returns the body of the answer."""
    return (await http.request("GET", http.target("/", {}), timeout_s=timeout_s)).body


async def post(
    http: Client,
    body: bytes = b"{}",
    *,
    before_write: Callable[[], None] = lambda: None,
    timeout_s: float = 5,
) -> HttpAnswer:
    """POST / as a reply is."""
    return await http.post(http.target("/", {}), body, before_write, timeout_s=timeout_s)


async def eventually(event: asyncio.Event) -> None:
    """Wait for what must happen soon."""
    async with asyncio.timeout(2):
        await event.wait()


def free_port() -> int:
    """Find a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_request_arrives_as_it_was_given() -> None:
    """The connector would refuse requests, or read another text than the handler wrote."""
    async with serving(answering(OK)) as server, client(server.origin) as http:
        body = "é {}".encode()
        target = http.target("/a?b=c", {"X-Name": "value"})
        answer = await http.post(target, body, lambda: None, timeout_s=5)

        head, _, sent = server.talks[0].seen.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        said = {line.lower() for line in lines}
        assert first == b"POST /a?b=c HTTP/1.1"
        assert {b"host: 127.0.0.1:%d" % server.port, b"x-name: value"} < said
        assert b"content-length: 5" in said
        assert sent == body
        assert (answer.status, answer.headers["content-length"], answer.body) == (200, "2", b"ok")


async def test_a_connection_is_used_again() -> None:
    """A handshake for every reply would make each of them slow."""
    async with serving(answering(OK)) as server, client(server.origin) as http:
        for _ in range(5):
            assert await get(http) == b"ok"
        assert len(server.talks) == 1


async def test_an_answer_without_a_body_leaves_the_connection_in_use() -> None:
    """Each 204 would cost a new handshake."""
    no_content = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with serving(answering(no_content, OK)) as server, client(server.origin) as http:
        assert await get(http) == b""
        assert await get(http) == b"ok"
        assert len(server.talks) == 1


async def test_a_connection_the_server_will_close_is_not_used_again() -> None:
    """The next request would cross the close and be in doubt."""
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with serving(answering(last)) as server, client(server.origin) as http:
        assert await get(http) == b"ok"
        assert await get(http) == b"ok"
        assert len(server.talks) == 2


async def test_surplus_that_begins_no_answer_leaves_the_request_in_doubt() -> None:
    """Where one answer is longer than it says, the rest of it can't be believed."""
    async with serving(answering(OK + b"X")) as server, client(server.origin) as http:
        for _ in range(2):
            with pytest.raises(NoAnswer, match="malformed"):
                await post(http)
        await eventually(server.talks[0].closed)
        assert len(server.talks) == 2


@pytest.mark.parametrize(
    "surplus",
    [
        pytest.param(b"H", id="one byte that could begin an answer"),
        pytest.param(OK.replace(b"ok", b"no"), id="a whole answer nobody asked for"),
    ],
)
async def test_surplus_is_never_taken_for_the_next_answer(surplus: bytes) -> None:
    """Another reply would be taken for sent, or not, by it: nobody could say."""
    async with serving(answering(OK + surplus)) as server, client(server.origin) as http:
        for _ in range(3):
            assert (await post(http)).body == b"ok"


async def test_a_chunked_answer_is_put_together() -> None:
    """Open Connectors answers in chunks; the sid would be lost."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"3\r\nabc\r\n2;note=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n"

    async def slowly(talk: Talk) -> None:
        while await talk.request():
            for place in range(0, len(chunked), 7):
                talk.write(chunked[place : place + 7])
                await asyncio.sleep(0.001)

    async with serving(slowly) as server, client(server.origin) as http:
        assert await get(http) == b"abcde"
        assert await get(http) == b"abcde"
        assert len(server.talks) == 1


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", id="not chunked"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", id="HTTP/1.0"),
    ],
)
async def test_a_body_may_end_with_the_connection(head: bytes) -> None:
    """An old gateway's answers would count as none, and their replies be in doubt."""

    async def script(talk: Talk) -> None:
        await closing_after(talk, head + b"abc")

    async with serving(script) as server, client(server.origin) as http:
        assert await get(http) == b"abc"
        assert await get(http) == b"abc"


async def test_an_announcement_before_the_answer_is_no_answer() -> None:
    """A reply would count as sent, with status 100, before the connector decided on it."""
    hints = b"HTTP/1.1 103 Early Hints\r\nX-Hint: 1\r\n\r\n"

    async def script(talk: Talk) -> None:
        while await talk.request():
            talk.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.01)
            talk.write(hints + OK)

    async with serving(script) as server, client(server.origin) as http:
        answer = await post(http)
        assert (answer.status, answer.body) == (200, b"ok")
        assert "x-hint" not in answer.headers
        assert await get(http) == b"ok"
        assert len(server.talks) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 OK\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", id="no number"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
            id="two lengths",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok", id="no chunk size"
        ),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            id="upgrade",
        ),
    ],
)
async def test_a_malformed_answer_leaves_the_request_in_doubt(answer: bytes) -> None:
    """A reply that may be out would be sent again."""
    async with serving(answering(answer)) as server, client(server.origin) as http:
        with pytest.raises(NoAnswer):
            await get(http)
        await eventually(server.talks[0].closed)


async def test_a_refused_connection_sent_nothing() -> None:
    """Replies would count as in doubt whenever the connector is being restarted."""
    async with client(f"http://127.0.0.1:{free_port()}") as http:
        with pytest.raises(NotSent):
            await get(http)


async def test_a_host_without_an_address_sent_nothing() -> None:
    """A name server's outage would leave every reply in doubt."""
    async with client("http://parley.invalid") as http:
        with pytest.raises(NotSent):
            await get(http)


async def test_a_connection_that_is_not_accepted_in_time_sent_nothing() -> None:
    """Replies would count as in doubt while a firewall swallows the connector's packets."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):  # The kernel then drops what would begin another connection.
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        origin = "http://{}:{}".format(*address)
        async with client(origin, connect_timeout_s=0.2) as http:
            began = time.monotonic()
            with pytest.raises(NotSent, match=r"in 0\.2 s"):
                await get(http)
            assert time.monotonic() - began < 2
            with pytest.raises(NotSent, match=r"within 0\.05 s"):
                await post(http, timeout_s=0.05)


async def test_a_reset_after_the_request_leaves_it_in_doubt() -> None:
    """A reply the connector took before it fell over would be sent twice."""

    async def script(talk: Talk) -> None:
        await talk.request()
        talk.reset()

    async with serving(script) as server, client(server.origin) as http:
        with pytest.raises(NoAnswer):
            await get(http)


async def test_a_reset_while_the_body_is_written_leaves_it_in_doubt() -> None:
    """Part of a reply would count as none, and the connector may have read enough of it."""

    async def script(talk: Talk) -> None:
        await talk.reader.readuntil(b"\r\n\r\n")
        talk.reset()

    async with serving(script) as server, client(server.origin) as http:
        with pytest.raises(NoAnswer):
            await post(http, b"x" * 1_000_000)


async def test_a_connection_reset_before_the_request_sent_nothing_or_is_in_doubt() -> None:
    """What never left may be repeated; what may have left may not be taken for unsent."""

    async def script(talk: Talk) -> None:
        talk.reset()

    words: list[None] = []
    async with serving(script) as server, client(server.origin) as http:
        for _ in range(5):
            words.clear()
            with pytest.raises((NotSent, NoAnswer)) as caught:
                await post(http, before_write=lambda: words.append(None))
            assert isinstance(caught.value, NoAnswer) == bool(words)


async def test_a_post_is_sent_once_whatever_becomes_of_it() -> None:
    """The library repeats some requests by itself: a reply would reach the phone twice."""

    async def script(talk: Talk) -> None:
        if len(server.talks) == 1:
            await talk.request()
            talk.write(OK)
        await talk.request()
        talk.close()

    async with serving(script) as server, client(server.origin) as http:
        assert (await post(http)).body == b"ok"
        with pytest.raises(NoAnswer):
            await post(http)
        with pytest.raises(NoAnswer):
            await post(http)
        assert sum(talk.seen.count(b"POST") for talk in server.talks) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_not_followed(status: int) -> None:
    """A reply, and our secrets, would go wherever the answer says."""
    moved = b"HTTP/1.1 %d Moved\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n" % status
    async with serving(answering(moved)) as server, client(server.origin) as http:
        assert (await post(http)).status == status
        assert (await http.request("GET", http.target("/", {}), timeout_s=5)).status == status
        assert sum(talk.seen.count(b"HTTP/1.1") for talk in server.talks) == 2


async def test_nothing_is_decompressed() -> None:
    """A few kilobytes would become gigabytes."""
    packed = gzip.compress(b"x" * 100_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    bomb = answering(head % len(packed) + packed)
    async with serving(bomb) as server, client(server.origin) as http:
        assert (await post(http)).body == packed
        assert await get(http) == packed


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"", id="before the answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="in the head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", id="in the body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", id="in the chunks"
        ),
    ],
)
async def test_an_answer_cut_short_is_none(part: bytes) -> None:
    """Half an answer would be read as a whole one."""

    async def script(talk: Talk) -> None:
        await closing_after(talk, part)

    async with serving(script) as server, client(server.origin) as http:
        with pytest.raises(NoAnswer):
            await get(http)


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
async def test_a_server_that_hangs_is_given_up_in_time(part: bytes) -> None:
    """A worker would wait for ever, and the replies behind it."""

    async def script(talk: Talk) -> None:
        await talk.request()
        talk.write(part)
        await talk.until_closed()

    async with serving(script) as server, client(server.origin, connections=1) as http:
        for _ in range(2):  # The second finds the only connection free again.
            began = time.monotonic()
            with pytest.raises(NoAnswer):
                await get(http, timeout_s=0.2)
            assert 0.15 < time.monotonic() - began < 2
        await eventually(server.talks[0].closed)
        await eventually(server.talks[1].closed)


async def test_an_idle_connection_the_server_closed_is_not_used_again() -> None:
    """The first reply after a quiet minute would be in doubt."""

    async def script(talk: Talk) -> None:
        await closing_after(talk, OK)

    async with serving(script) as server, client(server.origin) as http:
        for _ in range(3):
            assert await get(http) == b"ok"
            await asyncio.sleep(0.05)
        assert len(server.talks) == 3


async def test_a_close_that_the_loop_has_not_seen_yet_is_seen() -> None:
    """A reply sent after a busy moment would be in doubt."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        async with client("http://{}:{}".format(*listener.getsockname())) as http:
            asking = asyncio.create_task(get(http))
            first, _ = await loop.sock_accept(listener)
            await loop.sock_recv(first, 65536)
            await loop.sock_sendall(first, OK)
            assert await asking == b"ok"

            first.close()  # No turn of the loop from here to the next request.
            asking = asyncio.create_task(get(http))
            second, _ = await loop.sock_accept(listener)
            await loop.sock_recv(second, 65536)
            await loop.sock_sendall(second, OK)
            assert await asking == b"ok"
            second.close()


async def test_stray_bytes_on_an_idle_connection_make_it_unusable() -> None:
    """They would be taken for the answer to the next reply."""
    strayed = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        talk.write(OK)
        await asyncio.sleep(0.03)
        talk.write(OK.replace(b"ok", b"no"))
        strayed.set()
        await talk.until_closed()

    async with serving(script) as server, client(server.origin) as http:
        assert await get(http) == b"ok"
        await strayed.wait()
        await asyncio.sleep(0.03)
        assert (await post(http)).body == b"ok"
        await eventually(server.talks[0].closed)
        assert len(server.talks) == 2


async def test_a_cancelled_request_closes_its_connection() -> None:
    """Its answer would be given to the next request on that connection."""

    async def script(talk: Talk) -> None:
        await talk.request()
        asked.set()
        await talk.until_closed()

    asked = asyncio.Event()
    async with serving(script) as server, client(server.origin, connections=1) as http:
        asking = asyncio.create_task(get(http))
        await eventually(asked)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await eventually(server.talks[0].closed)


async def test_the_last_word_is_asked_when_the_connection_stands_and_can_stop_the_request() -> None:
    """A reply taken over by another process meanwhile would go out twice."""

    class Stop(Exception):
        pass

    def stop() -> None:
        words.append(len(server.talks))
        raise Stop

    words: list[int] = []
    async with serving(answering(OK)) as server, client(server.origin) as http:
        assert await get(http) == b"ok"
        server.talks[0].seen = b""
        with pytest.raises(Stop):
            await post(http, before_write=stop)

        assert words == [1]
        await eventually(server.talks[0].closed)
        assert server.talks[0].seen == b""
        assert await get(http) == b"ok"


async def test_the_last_word_is_not_asked_when_there_is_no_connection() -> None:
    """A reply that never left would count as one that may have."""
    asked: list[bool] = []
    async with client(f"http://127.0.0.1:{free_port()}") as http:
        with pytest.raises(NotSent):
            await post(http, before_write=lambda: asked.append(True))
    assert not asked


async def test_waiting_for_a_free_connection_in_vain_sent_nothing() -> None:
    """In a rush, replies that never left would count as in doubt."""

    async def script(talk: Talk) -> None:
        await talk.request()
        asked.set()
        await talk.until_closed()

    asked = asyncio.Event()
    async with serving(script) as server, client(server.origin, connections=1) as http:
        asking = asyncio.create_task(get(http))
        await eventually(asked)
        with pytest.raises(NotSent):
            await post(http, timeout_s=0.1)
        assert len(server.talks) == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_no_more_connections_than_allowed_are_open() -> None:
    """A rush would open thousands, and the connector would throttle the account."""
    busy = most = 0

    async def script(talk: Talk) -> None:
        nonlocal busy, most
        while await talk.request():
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0.005)
            busy -= 1
            talk.write(OK)

    async with serving(script) as server, client(server.origin, connections=3) as http:
        assert await asyncio.gather(*(get(http) for _ in range(30))) == [b"ok"] * 30
        assert most == 3
        assert len(server.talks) == 3


async def test_answers_go_to_the_requests_they_belong_to() -> None:
    """One reply would get another's sid."""

    async def script(talk: Talk) -> None:
        while request := await talk.request():
            target = request.split(b" ", 2)[1]
            await asyncio.sleep(len(target) % 3 / 1000)
            talk.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    async with serving(script) as server, client(server.origin) as http:

        async def one(number: int) -> bool:
            target = "/" + "n" * (number % 5) + str(number)
            to = http.target(target, {})
            return (await http.request("GET", to, timeout_s=5)).body == target.encode()

        assert all(await asyncio.gather(*(one(number) for number in range(100))))


@pytest.mark.parametrize(
    ("beginning", "said"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", "longer than", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Endless: ", "malformed", id="header"),
    ],
)
async def test_an_endless_answer_is_given_up_promptly(beginning: bytes, said: str) -> None:
    """A broken server would fill the memory of the whole service."""

    async def script(talk: Talk) -> None:
        await talk.request()
        talk.write(beginning)
        with contextlib.suppress(ConnectionError):
            for _ in range(64 * ANSWER_LIMIT_BYTES // len(ENDLESS)):
                talk.write(ENDLESS)
                sent.append(len(ENDLESS))
                await talk.writer.drain()
        ended.set()

    sent: list[int] = []
    ended = asyncio.Event()
    async with serving(script) as server, client(server.origin) as http:
        with pytest.raises(NoAnswer, match=said):
            await post(http, timeout_s=20)
        await eventually(ended)
        assert sum(sent) < 4 * ANSWER_LIMIT_BYTES


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"X-A": "b\r\nX-C: d"}, id="line break in a value"),
        pytest.param({"X-A": "b\nX-C: d"}, id="bare line feed in a value"),
        pytest.param({"X-A\r\nX-C": "d"}, id="line break in a name"),
        pytest.param({"X-A": "b\0"}, id="zero byte in a value"),
        pytest.param({"X-A": "€"}, id="a character that has no byte"),
    ],
)
async def test_what_would_break_out_of_its_line_is_refused(headers: dict[str, str]) -> None:
    """A token with a stray line break would forge a second request."""
    async with serving(answering(OK)) as server, client(server.origin) as http:
        with pytest.raises(ValueError, match=r"header|ascii"):
            await http.post(http.target("/", headers), b"{}", lambda: None, timeout_s=5)
        assert b"".join(talk.seen for talk in server.talks) == b""


@pytest.mark.parametrize("origin", ["ftp://example.com", "example.com:80", "http://", "https:///x"])
def test_something_other_than_an_origin_is_refused(origin: str) -> None:
    """A typing error in an address would look like an outage."""
    with pytest.raises(ValueError, match="origin"):
        Client(origin, connections=1, connect_timeout_s=1)


async def test_closing_waits_for_nobody_and_leaves_nothing_open() -> None:
    """A stopping service would hang, or leak connections."""
    async with serving(answering(OK)) as server:
        http = Client(server.origin, connections=2, connect_timeout_s=1)
        assert [*await asyncio.gather(get(http), get(http))] == [b"ok", b"ok"]
        await http.aclose()
        for talk in server.talks:
            await eventually(talk.closed)


async def test_a_request_under_way_is_answered_though_the_client_is_closed() -> None:
    """A stopping service would leave its last replies in doubt."""

    async def script(talk: Talk) -> None:
        await talk.request()
        asked.set()
        await closed.wait()
        talk.write(OK)
        await talk.until_closed()

    asked, closed = asyncio.Event(), asyncio.Event()
    async with serving(script) as server, client(server.origin) as http:
        asking = asyncio.create_task(get(http))
        await eventually(asked)
        await http.aclose()
        closed.set()
        assert await asking == b"ok"
        await eventually(server.talks[0].closed)


async def test_a_trusted_server_is_spoken_to_over_tls(
    certificate: Path, server_tls: ssl.SSLContext
) -> None:
    """The real connector is reached over TLS alone."""
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with (
        serving(answering(OK), server_tls) as server,
        client(server.origin, tls=trusting) as http,
    ):
        for _ in range(3):
            assert await get(http) == b"ok"
        assert len(server.talks) == 1


async def test_a_server_nobody_vouches_for_is_sent_nothing(server_tls: ssl.SSLContext) -> None:
    """Secrets and texts would go to whoever answers in the connector's place."""
    async with serving(answering(OK), server_tls) as server, client(server.origin) as http:
        with pytest.raises(NotSent, match="certificate"):
            await get(http)
        assert b"".join(talk.seen for talk in server.talks) == b""
