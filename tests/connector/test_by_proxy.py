from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.connector.client import MESSAGE_NAMES
from service.connector.http import Client, NoAnswer, NotSent
from service.operate.clients import connector_of
from service.settings.loading import load_settings
from tests.connector.pieces import outbound, template
from tests.loops import BOTH_LOOPS
from tests.settings.test_loading import COMPLETE

pytestmark = pytest.mark.anyio

LOGIN, PASSWORD = "me", "p@ss/w0rd"
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"sid":"SM1"}'


@pytest.fixture(scope="module", params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops."""
    return request.param


class Proxy:
    """A proxy that tunnels, and remembers what it was asked for."""

    def __init__(self, mood: Literal["tunnels", "refuses", "asks", "hangs", "closes"]) -> None:
        self.mood = mood
        self.heads: list[bytes] = []
        self.tunnelled = bytearray()
        self.port = 0

    @property
    def address(self) -> str:
        """With a login, percent-encoded."""
        return f"http://{LOGIN}:p%40ss%2Fw0rd@127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target, _ = head.split(b" ", 2)
        if self.mood == "hangs":
            await reader.read()
        elif self.mood == "refuses":
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        elif self.mood == "asks":
            writer.write(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
        elif self.mood == "tunnels" and method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        elif self.mood == "tunnels":
            writer.write(OK)
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.tunnelled += data
                writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def listening(serve: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Run a server on a free port; nothing of it outlives the test."""
    tasks: list[Any] = []
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await serve(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def proxying(mood: Any) -> AsyncIterator[Proxy]:
    """Run a proxy."""
    proxy = Proxy(mood)
    async with listening(proxy.serve) as proxy.port:
        yield proxy


async def connector(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each reply."""
    while await reader.readuntil(b"}"):
        writer.write(OK)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A private authority's file, and a server's context with a certificate of that authority."""
    folder = tmp_path_factory.mktemp("authority")
    now = datetime.now(UTC)

    def certify(name: str, key: Any, issuer: Any, signer: Any, *more: Any) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key.public_key(),
            x509.random_serial_number(),
            now - timedelta(hours=1),
            now + timedelta(days=1),
        )
        for each in more:
            critical = isinstance(each, x509.BasicConstraints)
            builder = builder.add_extension(each, critical=critical)
        return builder.sign(signer, hashes.SHA256())

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    ca = certify("CA", ca_key, "CA", ca_key, x509.BasicConstraints(True, None), ca_id, usage)
    leaf = certify(
        "connector",
        key,
        "CA",
        ca_key,
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id),
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "leaf.pem").write_bytes(
        leaf.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "leaf.pem")
    return folder / "ca.pem", context


@contextlib.asynccontextmanager
async def replying(port: int, **settings: str) -> AsyncIterator[Any]:
    """Make the connector's client from settings, as the service does."""
    base = f"https://127.0.0.1:{port}/elements/api-v2"
    given = {"OPEN_CONNECTORS_BASE_URL": base, "HANDLERS": "some.module", **settings}
    loaded = load_settings(None, COMPLETE | given)
    made = connector_of(loaded, template("message.json", MESSAGE_NAMES))
    made.use_token("token")
    try:
        yield made
    finally:
        await made.aclose()
        await asyncio.sleep(0.02)


async def test_replies_go_through_the_companys_proxy_to_the_connector(
    authority: tuple[Path, ssl.SSLContext],
) -> None:
    """Behind a proxy no reply would leave; without its login, neither."""
    ca, server_tls = authority
    async with listening(connector, server_tls) as port, proxying("tunnels") as proxy:
        settings = {"HTTPS_PROXY": proxy.address, "CONNECTOR_CA_FILE": str(ca)}
        async with replying(port, **settings) as made:
            for _ in range(3):
                assert await made.send(outbound("hello"), lambda: None) == "SM1"

    login = base64.b64encode(f"{LOGIN}:{PASSWORD}".encode())
    assert len(proxy.heads) == 1
    assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % port)
    assert b"proxy-authorization: basic " + login.lower() in proxy.heads[0].lower()
    assert b"Authorization: User" not in proxy.heads[0]
    assert len(proxy.tunnelled) > 1000
    assert b"hello" not in proxy.tunnelled


async def test_no_proxy_leads_past_it(authority: tuple[Path, ssl.SSLContext]) -> None:
    """A connector of the company's own network would be looked for outside of it."""
    ca, server_tls = authority
    async with listening(connector, server_tls) as port, proxying("refuses") as proxy:
        settings = {
            "HTTPS_PROXY": proxy.address,
            "SSL_CERT_FILE": str(ca),
            "NO_PROXY": "127.0.0.1",
        }
        async with replying(port, **settings) as made:
            assert await made.send(outbound(), lambda: None) == "SM1"
    assert not proxy.heads


async def test_a_private_authority_is_trusted_where_it_is_named_and_nowhere_else(
    authority: tuple[Path, ssl.SSLContext],
) -> None:
    """A company's connector could not be spoken to, or anybody's could."""
    ca, server_tls = authority
    async with listening(connector, server_tls) as port:
        origin = f"https://127.0.0.1:{port}"
        for tls, trusted in ((ssl.create_default_context(cafile=ca), True), (None, False)):
            http = Client(origin, connections=1, connect_timeout_s=2, tls=tls)
            posting = http.post(http.target("/", {}), b"{}", lambda: None, timeout_s=5)
            if trusted:
                assert (await posting).status == 200
            else:
                with pytest.raises(NotSent, match="certificate"):
                    await posting
            await http.aclose()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        ("refuses", "it answered 403"),
        ("asks", "it answered 407"),
        ("hangs", "no connection, no answer within 0.5 s"),
        ("closes", "by way of|lost"),
        ("away", "by way of the proxy 127.0.0.1:1: "),
    ],
)
async def test_a_proxy_that_makes_no_connection_sent_nothing(
    mood: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Replies would be in doubt for as long as the proxy is away; its password be in the log."""
    async with proxying(mood) as proxy:
        address = proxy.address.replace(f":{proxy.port}", ":1") if mood == "away" else proxy.address
        http = Client(
            "https://connector.invalid", connections=1, connect_timeout_s=2, proxy=address
        )
        with pytest.raises(NotSent, match=said) as caught:
            await http.post(http.target("/", {}), b"{}", lambda: None, timeout_s=0.5)
        await http.aclose()
    told = f"{caught.value!r} {caught.value.__cause__!r} {http!r} {caplog.text}"
    login = base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
    assert not any(secret in told for secret in (PASSWORD, "p%40ss", login))


async def test_a_plain_address_is_asked_of_the_proxy_itself() -> None:
    """HTTP_PROXY would be without effect, or its login be missing."""
    async with proxying("tunnels") as proxy:
        http = Client(
            "http://connector.invalid", connections=1, connect_timeout_s=2, proxy=proxy.address
        )
        answer = await http.post(http.target("/a?b=c", {}), b"{}", lambda: None, timeout_s=5)
        await http.aclose()
    assert answer.status == 200
    assert proxy.heads[0].startswith(b"POST http://connector.invalid/a?b=c HTTP/1.1\r\n")
    assert b"proxy-authorization: basic " in proxy.heads[0].lower()


async def test_a_proxy_that_wants_a_login_passed_a_plain_request_on_to_nobody() -> None:
    """The reply would be taken for refused by the connector, and become a dead letter."""
    async with proxying("asks") as proxy:
        http = Client(
            "http://connector.invalid", connections=1, connect_timeout_s=2, proxy=proxy.address
        )
        with pytest.raises(NotSent, match="407"):
            await http.post(http.target("/", {}), b"{}", lambda: None, timeout_s=5)
        await http.aclose()


async def test_an_answer_lost_behind_a_proxy_leaves_the_request_in_doubt(
    authority: tuple[Path, ssl.SSLContext],
) -> None:
    """A reply that the connector has would be sent again."""
    ca, server_tls = authority

    async def lose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.transport.abort()

    async with listening(lose, server_tls) as port, proxying("tunnels") as proxy:
        tls = ssl.create_default_context(cafile=ca)
        origin = f"https://127.0.0.1:{port}"
        http = Client(origin, connections=1, connect_timeout_s=2, tls=tls, proxy=proxy.address)
        with pytest.raises(NoAnswer):
            await http.post(http.target("/", {}), b"{}", lambda: None, timeout_s=5)
        await http.aclose()


@pytest.mark.parametrize("proxy", ["socks5://me:heron@x:1", "http://", "http://me:heron@x:y"])
def test_something_other_than_a_proxy_is_refused_without_its_password(proxy: str) -> None:
    """A typing error would be in the log with the password in it."""
    with pytest.raises(ValueError, match="a proxy is") as caught:
        Client("https://x", connections=1, connect_timeout_s=1, proxy=proxy)
    assert "heron" not in str(caught.value)
