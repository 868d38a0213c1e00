"""HTTP with the connector: httpx over aiohttp's connections, bounded, and true about what was sent.

Calls of the platform go through httpx. The POST of a reply goes straight to the aiohttp session
below it, with its address and headers prepared, which takes half of the CPU.

What decides whether a failed request may simply be repeated is whether its body was asked for:
aiohttp asks for it when it has a connection and writes next. What errors are called decides nothing
of that. No redirects are followed, no cookies are kept, and nothing is decompressed.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict
from yarl import URL

IDLE_LIMIT_S = 30.0
"""An idle connection older than this is not used again: usual servers close after 60 s, and a
request that crosses their close would be in doubt."""

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
"""Most bytes read of one answer's body. Of its head, aiohttp reads 128 lines of 8190 bytes."""

NO_ORIGIN = "an origin is http:// or https://, a host, and a port or none"

NO_PROXY_ADDRESS = "a proxy is http://host:port, with user:password@ before the host or without"

NO_CONNECTION = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
)
"""What says, of a request without a body, that it never left. The transport's own exceptions do
not: it calls a connection that ended before the answer a ConnectTimeout as well."""

PROXY_LOGIN_WANTED = 407
"""What only a proxy answers: it passed nothing on."""


class NotSent(Exception):
    """Nothing reached the other side: no connection, or none free in time."""


class NoAnswer(Exception):
    """The request was sent, or may have been, and no whole answer came back."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP answer. headers: names in lower case, the last of a repeated name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and the headers they go with: made once by `Client.target`."""

    url: URL
    headers: CIMultiDict[str]


class Client:
    """Requests to one origin.

    origin: "http://host:port" or "https://host"; a path in it is ignored.
    connections: most requests at once; further ones wait. connect_timeout_s: for one connection.
    tls: for https, instead of the system's trusted authorities.
    proxy: "http://user:password@host:port", its login percent-encoded; "" for none.
    Raises ValueError when origin or proxy is none; its text quotes neither.
    """

    def __init__(
        self,
        origin: str,
        *,
        connections: int,
        connect_timeout_s: float,
        tls: ssl.SSLContext | None = None,
        proxy: str = "",
    ) -> None:
        url = _address(origin, NO_ORIGIN)
        self._origin = url.copy_with(raw_path=b"/", fragment=None, username=None, password=None)
        self._connections = connections
        self._connect_timeout_s = connect_timeout_s
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_timeout_s)
        by_proxy = _proxy(proxy)
        self._by = f"{by_proxy.url.host}:{by_proxy.url.port}" if by_proxy is not None else ""
        self._more_headers: Mapping[str, str] = {}
        if url.scheme == "http" and by_proxy is not None:
            # Without a tunnel the request itself is what the proxy reads.
            self._more_headers = dict(by_proxy.headers)
            by_proxy = httpx.Proxy(by_proxy.url)
        if url.scheme == "https":
            tls = tls or ssl.create_default_context()
        self._proxy = by_proxy
        self._session: aiohttp.ClientSession | None = None
        self._tls = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._transport = AiohttpTransport(verify=self._tls, client=self._open, proxy=by_proxy)
        self._under_way = 0
        self._closed = False
        self._client = httpx.AsyncClient(
            transport=self._transport,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    def target(self, path: str, headers: Mapping[str, str]) -> Target:
        """Prepare what many requests have in common.

        path: with its query, already encoded. headers: without Host and Content-Length.
        Raises ValueError when there is a letter beyond ASCII in them; aiohttp does before it sends
            one with a line break.
        """
        "".join((*headers, *headers.values())).encode("ascii")
        url = URL(str(self._origin.copy_with(raw_path=path.encode("ascii"))), encoded=True)
        return Target(url, CIMultiDict({**headers, **self._more_headers}))

    async def request(
        self, method: str, target: Target, body: bytes = b"", *, timeout_s: float
    ) -> HttpAnswer:
        """Send one request and return its answer, of whatever status.

        timeout_s: for all of it. Raises NotSent or NoAnswer.
        """
        word = _LastWord() if body else None
        headers = {**target.headers, "Content-Length": str(len(body))} if body else target.headers
        stream = None if word is None else _Stream(body, word)
        request = httpx.Request(
            method,
            str(target.url),
            headers=headers,
            stream=stream,
            extensions={"timeout": {"connect": self._connect_timeout_s}},
        )

        async def exchange() -> HttpAnswer:
            response = await self._client.send(request, stream=True)
            try:
                body = await _whole(response.aiter_raw())
            finally:
                await response.aclose()
            return HttpAnswer(response.status_code, _as_dict(response.headers.raw), body)

        return await self._answer(exchange, word, timeout_s)

    async def post(
        self, target: Target, body: bytes, before_write: Callable[[], None], *, timeout_s: float
    ) -> HttpAnswer:
        """POST, straight over the session: what is done for each reply.

        body: not empty. before_write: called when there is a connection and the bytes leave next,
            in the same turn of the loop; what it raises ends the request unsent and is raised.
        timeout_s: for all of it. Raises NotSent or NoAnswer.
        """
        word = _LastWord(before_write)
        payload = _Payload(body, word)

        async def exchange() -> HttpAnswer:
            posting = self._open().post(
                target.url,
                data=payload,
                headers=target.headers,
                allow_redirects=False,
                timeout=self._timeout,
                proxy=str(self._proxy.url) if self._proxy is not None else None,
                proxy_headers=self._proxy.headers if self._proxy is not None else None,
            )
            async with posting as response:
                answered = await _whole(response.content.iter_any())
                return HttpAnswer(response.status, _as_dict(response.raw_headers), answered)

        return await self._answer(exchange, word, timeout_s)

    async def aclose(self) -> None:
        """Close every connection, but while requests are under way: then the last one does."""
        self._closed = True
        if not self._under_way:
            await self._close()

    async def _close(self) -> None:
        await self._client.aclose()
        if self._session is not None:
            await self._session.close()
        # Transports close in the next turn of the loop.
        await asyncio.sleep(0)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=IDLE_LIMIT_S, ssl=self._tls
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept-Encoding",),
                auto_decompress=False,
                request_class=_Request,
            )
        return self._session

    async def _answer(
        self,
        exchange: Callable[[], Awaitable[HttpAnswer]],
        word: _LastWord | None,
        timeout_s: float,
    ) -> HttpAnswer:
        self._under_way += 1
        try:
            async with asyncio.timeout(timeout_s):
                answer = await _over_clean_connection(exchange)
        except TimeoutError as error:
            text = f"no answer within {timeout_s:g} s"
            if word is not None and not word.left:
                raise NotSent(f"no connection, {text}") from error
            raise NoAnswer(text) from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            if word is not None and word.refused is not None:
                raise word.refused from None
            cause = (isinstance(error, httpx.HTTPError) and error.__cause__) or error
            unsent = isinstance(cause, NO_CONNECTION) if word is None else not word.left
            failed = (NotSent if unsent else NoAnswer)(self._text(cause))
            if isinstance(cause, aiohttp.ClientResponseError):
                raise failed from None  # It holds the request's headers, logins and all.
            raise failed from error
        finally:
            self._under_way -= 1
            if self._closed and not self._under_way:
                await self._close()
        if answer.status < 200:
            raise NoAnswer(f"the connection was changed over unasked ({answer.status})")
        if answer.status == PROXY_LOGIN_WANTED:
            raise NotSent("the proxy wants another user and password (407)")
        return answer

    def _text(self, cause: BaseException) -> str:
        """Say what went wrong. The library's own texts quote addresses and what was answered."""
        where = f"{self._origin.host}:{self._origin.port or self._origin.scheme}"
        if self._by:
            where += f" by way of the proxy {self._by}"
        if isinstance(cause, aiohttp.ConnectionTimeoutError):
            return f"no connection to {where} in {self._connect_timeout_s:g} s"
        if isinstance(cause, aiohttp.ClientHttpProxyError):
            return f"no connection to {where}: it answered {cause.status}"
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            return f"no connection to {where}: {cause.certificate_error}"
        if isinstance(cause, aiohttp.ClientConnectorError):
            return f"no connection to {where}: {cause.os_error}"
        if isinstance(cause, aiohttp.ClientResponseError):
            return "malformed answer"
        if isinstance(cause, _TooLong):
            return str(cause)
        return f"the connection was lost: {type(cause).__name__}"


class _TooLong(aiohttp.ClientError):
    """An answer is longer than is read of any."""


class _Soiled(aiohttp.ClientConnectionError):
    """A kept connection holds bytes that nobody asked for; nothing was written to it."""


class _Request(aiohttp.ClientRequest):
    """Looks at its connection first: what came unasked would be taken for the answer."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request (aiohttp)."""
        if conn.protocol is None or conn.protocol.should_close:
            raise _Soiled
        return await super().send(conn)


async def _over_clean_connection(exchange: Callable[[], Awaitable[HttpAnswer]]) -> HttpAnswer:
    """Use the first connection that is as it should be; each that is not was closed."""
    while True:
        try:
            return await exchange()
        except (httpx.HTTPError, _Soiled) as error:
            if not isinstance(error, _Soiled) and not isinstance(error.__cause__, _Soiled):
                raise


class _LastWord:
    """What is asked when a request's body is: whether it may leave, and later whether it did.

    left: the body was given out, so that it may have been sent.
    refused: what `before_write` raised.
    """

    def __init__(self, before_write: Callable[[], None] = lambda: None) -> None:
        self._before_write = before_write
        self.left = False
        self.refused: BaseException | None = None

    def ask(self) -> None:
        """Let the body leave, once. Raises what `before_write` does."""
        if self.left:
            raise RuntimeError("a request is sent once")
        try:
            self._before_write()
        except BaseException as error:
            self.refused = error
            raise
        self.left = True


class _Stream(httpx.AsyncByteStream):
    """A body for httpx."""

    def __init__(self, body: bytes, word: _LastWord) -> None:
        self._body = body
        self._word = word

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._word.ask()
        yield self._body


class _Payload(aiohttp.BytesPayload):
    """A body for aiohttp, which writes it in one piece with the head."""

    def __init__(self, body: bytes, word: _LastWord) -> None:
        super().__init__(body)
        self._body = body
        self._word = word

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write it (aiohttp)."""
        self._word.ask()
        await writer.write(self._body)


async def _whole(parts: AsyncIterator[bytes]) -> bytes:
    """Read an answer's body, as it came."""
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > ANSWER_LIMIT_BYTES:
            raise _TooLong(f"the answer is longer than {ANSWER_LIMIT_BYTES} bytes")
    return bytes(body)


def _as_dict(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _address(text: str, otherwise: str) -> httpx.URL:
    """Read an address of http or https; raises ValueError with the text `otherwise`."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:  # whose text may quote a password
        raise ValueError(otherwise) from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(otherwise)
    return url


def _proxy(address: str) -> httpx.Proxy | None:
    """Read a proxy's address; its login becomes a header, as aiohttp wants it."""
    if not address:
        return None
    url = _address(address, NO_PROXY_ADDRESS)
    headers = {}
    if url.userinfo:
        login = base64.b64encode(f"{url.username}:{url.password}".encode())
        headers["Proxy-Authorization"] = f"Basic {login.decode()}"
    return httpx.Proxy(url.copy_with(username=None, password=None), headers=headers)
