"""HTTP with the connector: httpx over aiohttp's connections, bounded, and true about what was sent.

What decides whether a failed request may simply be repeated is whether its body was asked for: the
transport asks for it when it has a connection and writes next. What the transport's errors are
called decides nothing of that. No redirects are followed, no cookies are kept, and nothing is
decompressed.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport

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
class Answer:
    """An HTTP answer. headers: names in lower case, the last of a repeated name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and the headers they go with: made once by `Client.target`."""

    url: httpx.URL
    headers: httpx.Headers


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
        try:
            url = httpx.URL(origin)
        except httpx.InvalidURL:  # whose text may quote a password
            raise ValueError(NO_ORIGIN) from None
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError(NO_ORIGIN)
        self._origin = url.copy_with(raw_path=b"/", fragment=None, username=None, password=None)
        self._connections = connections
        self._connect_timeout_s = connect_timeout_s
        self._timeouts = {"timeout": {"connect": connect_timeout_s}}
        by_proxy = _proxy(proxy)
        self._by = f"{by_proxy.url.host}:{by_proxy.url.port}" if by_proxy is not None else ""
        self._more_headers: Mapping[str, str] = {}
        if url.scheme == "http" and by_proxy is not None:
            # Without a tunnel the request itself is what the proxy reads.
            self._more_headers = dict(by_proxy.headers)
            by_proxy = httpx.Proxy(by_proxy.url)
        if url.scheme == "https":
            tls = tls or ssl.create_default_context()
        self._tls = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._transport = AiohttpTransport(verify=self._tls, client=self._session, proxy=by_proxy)
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
        """
        url = self._origin.copy_with(raw_path=path.encode("ascii"))
        return Target(url, httpx.Headers({**headers, **self._more_headers}))

    async def request(
        self, method: str, target: Target, body: bytes = b"", *, timeout_s: float
    ) -> Answer:
        """Send one request and return its answer, of whatever status.

        timeout_s: for all of it. Raises NotSent or NoAnswer.
        """
        leaving = _Leaving(body, None) if body else None
        request = self._request(method, target, body, leaving)
        return await self._answer(
            lambda: self._client.send(request, stream=True), leaving, timeout_s
        )

    async def post(
        self, target: Target, body: bytes, before_write: Callable[[], None], *, timeout_s: float
    ) -> Answer:
        """POST, straight over the transport: what is done for each reply.

        body: not empty. before_write: called when there is a connection and the bytes leave next,
            in the same turn of the loop; what it raises ends the request unsent and is raised.
        timeout_s: for all of it. Raises NotSent or NoAnswer.
        """
        leaving = _Leaving(body, before_write)
        request = self._request("POST", target, body, leaving)
        return await self._answer(
            lambda: self._transport.handle_async_request(request), leaving, timeout_s
        )

    async def aclose(self) -> None:
        """Close every connection, but while requests are under way: then the last one does."""
        self._closed = True
        if not self._under_way:
            await self._close()

    async def _close(self) -> None:
        await self._client.aclose()
        # Transports close in the next turn of the loop.
        await asyncio.sleep(0)

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._connections, keepalive_timeout=IDLE_LIMIT_S, ssl=self._tls
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept-Encoding",),
            request_class=_Request,
        )

    def _request(
        self, method: str, target: Target, body: bytes, leaving: _Leaving | None
    ) -> httpx.Request:
        request = httpx.Request(
            method, target.url, headers=target.headers, stream=leaving, extensions=self._timeouts
        )
        if leaving is not None:
            request.headers["Content-Length"] = str(len(body))
        return request

    async def _answer(
        self,
        send: Callable[[], Awaitable[httpx.Response]],
        leaving: _Leaving | None,
        timeout_s: float,
    ) -> Answer:
        self._under_way += 1
        try:
            async with asyncio.timeout(timeout_s):
                answer = await _read(await _over_clean_connection(send))
        except TimeoutError as error:
            text = f"no answer within {timeout_s:g} s"
            if leaving is not None and not leaving.left:
                raise NotSent(f"no connection, {text}") from error
            raise NoAnswer(text) from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            if leaving is not None and leaving.refused is not None:
                raise leaving.refused from None
            cause = (isinstance(error, httpx.HTTPError) and error.__cause__) or error
            unsent = isinstance(cause, NO_CONNECTION) if leaving is None else not leaving.left
            raise (NotSent if unsent else NoAnswer)(self._text(cause)) from error
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


class _TooLong(httpx.ReadError):
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


async def _over_clean_connection(send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Send over the first connection that is as it should be; each that is not was closed."""
    while True:
        try:
            return await send()
        except httpx.HTTPError as error:
            if not isinstance(error.__cause__, _Soiled):
                raise


class _Leaving(httpx.AsyncByteStream):
    """The body of one request, which knows whether it was asked for.

    left: it was, so that it may have been sent. refused: what the last word raised.
    """

    def __init__(self, body: bytes, before_write: Callable[[], None] | None) -> None:
        self._body = body
        self._before_write = before_write
        self.left = False
        self.refused: BaseException | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.left:
            raise RuntimeError("a request is sent once")
        if self._before_write is not None:
            try:
                self._before_write()
            except BaseException as error:
                self.refused = error
                raise
        self.left = True
        yield self._body


async def _read(response: httpx.Response) -> Answer:
    """Read an answer whole, as it came."""
    body = bytearray()
    try:
        async for part in response.aiter_raw():
            body += part
            if len(body) > ANSWER_LIMIT_BYTES:
                raise _TooLong(f"the answer is longer than {ANSWER_LIMIT_BYTES} bytes")
    finally:
        await response.aclose()
    raw = response.headers.raw
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}
    return Answer(response.status_code, headers, bytes(body))


def _proxy(address: str) -> httpx.Proxy | None:
    """Read a proxy's address; its login becomes a header, as aiohttp wants it."""
    if not address:
        return None
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:  # whose text may quote a password
        raise ValueError(NO_PROXY_ADDRESS) from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(NO_PROXY_ADDRESS)
    headers = {}
    if url.userinfo:
        login = base64.b64encode(f"{url.username}:{url.password}".encode())
        headers["Proxy-Authorization"] = f"Basic {login.decode()}"
    return httpx.Proxy(url.copy_with(username=None, password=None), headers=headers)
