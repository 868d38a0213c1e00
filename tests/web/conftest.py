"""Real servers on free loopback ports, in the test's own event loop, over the run's own Redis."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import uvicorn
from twilio.request_validator import RequestValidator

from service.core import entries
from service.core.twilio.signature import Verifier
from service.model import Media, Message
from service.store.batch import Batch
from service.store.connection import connect
from service.store.inbox import Inbox
from service.store.watermark import Watermark
from service.web.door.callbacks import Door
from service.web.door.events import Events
from service.web.door.public import public_app, written_paths
from service.web.door.way_in import connections

TOKEN = "0123456789abcdef0123456789abcdef"
ACCOUNT = "AC" + "1f" * 16
OURS = "+14155550100"
PREFIX = "/sms"
CALLBACK_PATH = "/callbacks/twilio"
CALLBACK_URL = f"https://sms.example.com{PREFIX}{CALLBACK_PATH}"
FORM = "application/x-www-form-urlencoded"


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an ASGI application with uvicorn; yields its address. options: uvicorn's."""
    # With protocol 0 asyncio leaves Nagle's algorithm on, and each answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    usual = {"http": "httptools", "lifespan": "on", "log_level": "critical"}
    config = uvicorn.Config(app, **(usual | options))
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.005)
            assert not running.done(), "the server ended before it had started"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


class NoPictures:
    """A connector that has none."""

    async def media_of(self, sid: str) -> tuple[Media, ...]:
        """Return nothing."""
        return ()


def events_of(inbox: Any, redis: Any, key: str = "", **options: Any) -> Events:
    """Make what takes the platform's events; options: other parts of it."""
    parts: dict[str, Any] = {"numbers": Watermark(redis), "pictures": NoPictures()} | options
    return Events(key, account=ACCOUNT, sender=OURS, inbox=inbox, **parts)


@dataclass
class Front:
    """A public listener, its Redis, and a caller that signs as Twilio does."""

    url: str
    door: Door
    client: httpx.AsyncClient
    redis: Any
    path: str = CALLBACK_PATH
    count: int = field(default=0)

    def fields(self, **changes: str | None) -> dict[str, str]:
        """Return a new text's parameters; a change to None leaves one out."""
        self.count += 1
        sid = f"SM{self.count:032x}"
        base: dict[str, str | None] = {
            "ToCountry": "US",
            "FromCity": "",
            "SmsMessageSid": sid,
            "NumMedia": "0",
            "SmsSid": sid,
            "SmsStatus": "received",
            "Body": "Grüße 😊 1+1=2 & more",
            "To": OURS,
            "MessageSid": sid,
            "AccountSid": ACCOUNT,
            "From": "+12125550123",
            "ApiVersion": "2010-04-01",
        }
        return {name: value for name, value in (base | changes).items() if value is not None}

    @staticmethod
    def sign(fields: dict[str, str], url: str = CALLBACK_URL, token: str = TOKEN) -> str:
        """Sign with Twilio's library."""
        signature: str = RequestValidator(token).compute_signature(url, fields)
        return signature

    async def post(self, fields: dict[str, str], **headers: str) -> httpx.Response:
        """POST a form as Twilio does, with a right signature unless `headers` says otherwise."""
        sent = {"content-type": FORM, "x-twilio-signature": self.sign(fields)}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = urlencode(fields).encode()
        return await self.client.post(self.path, content=body, headers=sent)

    async def stored(self) -> list[Message]:
        """Read every message in every inbox, as the next version will."""
        found: list[Message] = []
        async for key in self.redis.scan_iter("*", _type="stream"):
            for _, fields in await self.redis.xrange(key):
                message = entries.decode(fields)
                assert isinstance(message, Message)
                found.append(message)
        return found

    async def contents(self) -> dict[bytes, bytes]:
        """Return all of Redis, byte for byte."""
        return {key: await self.redis.dump(key) async for key in self.redis.scan_iter("*")}


Opener = Callable[..., Awaitable[Front]]


@pytest.fixture(params=["connections of ours", "any ASGI server"])
async def open_front(redis_server: str, request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """Open a public listener; keyword arguments go to the door.

    redis_url: another Redis. limit: of an inbox. inbox: another one altogether.
    shared_keys: of the verifier. shut: there is none.
    event_key, events: of what takes the platform's events.
    """
    ours = request.param == "connections of ours"
    async with AsyncExitStack() as stack:

        async def start(
            *,
            redis_url: str = redis_server,
            limit: int = 1000,
            inbox: Any = None,
            shared_keys: dict[str, str] | None = None,
            shut: bool = False,
            event_key: str = "",
            events: dict[str, Any] | None = None,
            **options: Any,
        ) -> Front:
            redis = connect(redis_url)
            stack.push_async_callback(redis.aclose)
            batch = Batch(redis)
            stack.push_async_callback(batch.aclose)
            inbox = inbox or Inbox(batch, partitions=4, window_s=60, limit=limit)
            relayed = events_of(inbox, redis, event_key, **(events or {}))
            verifier = None if shut else Verifier(CALLBACK_URL, [TOKEN], shared_keys)
            door = Door(verifier, ACCOUNT, inbox, events=relayed, **options)
            app = public_app(door, callback_path=CALLBACK_PATH, prefix=PREFIX)
            paths = written_paths(callback_path=CALLBACK_PATH, prefix=PREFIX)
            server = {"http": connections(door, paths)} if ours else {}
            url = await stack.enter_async_context(serving(app, **server))
            client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=10)
            await stack.enter_async_context(client)
            return Front(url, door, client, redis)

        yield start


@pytest.fixture
async def front(open_front: Opener) -> Front:
    """A public listener with the default settings."""
    return await open_front()


@pytest.fixture
def serve() -> Callable[[Any], Any]:
    """Return what serves any ASGI application, as a context manager that yields its address."""
    return serving
