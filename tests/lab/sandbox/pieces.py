"""A running sandbox, and a service's door that takes its callbacks down."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvicorn
from aiohttp import web

from service.host.listeners import listen
from service.lab.sandbox.app import SandboxConfig, sandbox_app

BASE = "/elements/api-v2"
USER, ORGANIZATION = "user-secret", "organization-secret"
PLATFORM = f"User {USER}, Organization {ORGANIZATION}"
ACCOUNT, AUTH_TOKEN = "AC" + "1" * 32, "twilio-auth-token"
OURS, THEIRS = "+15005550100", "+15005550123"
PREFIX = "messaging.sms.twilio."
TWILIO_V2: dict[str, Any] = {
    "element": {"key": "twiliov2"},
    "name": "parley",
    "configuration": {
        "username": ACCOUNT,
        "password": AUTH_TOKEN,
        "event.notification.enabled": "true",
        "event.notification.callback.url": "http://127.0.0.1:9/callbacks",
        "event.notification.signature.key": "key-of-ours",
    },
}
TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; json: None where there is none."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Callback:
    """A callback as it arrived."""

    headers: Any
    body: bytes
    target: str


@dataclass
class Door:
    """A service's front door. answers: given to the next callbacks, then empty TwiML."""

    url: str = ""
    callbacks: list[Callback] = field(default_factory=list)
    answers: list[web.StreamResponse | None] = field(default_factory=list)

    async def wait_for(self, count: int) -> None:
        """Wait until so many callbacks have come."""
        async with asyncio.timeout(10):
            while len(self.callbacks) < count:
                await asyncio.sleep(0.01)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Note a callback; None among the answers cuts the connection instead."""
        body = await request.read()
        self.callbacks.append(Callback(request.headers, body, request.raw_path))
        answer = self.answers.pop(0) if self.answers else twiml()
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer


def twiml() -> web.Response:
    """Make the answer Twilio likes best."""
    return web.Response(body=TWIML, content_type="text/xml")


@contextlib.asynccontextmanager
async def running_door() -> AsyncIterator[Door]:
    """A door on a free port."""
    door = Door()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", door.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    door.url = f"http://{host}:{port}"
    try:
        yield door
    finally:
        await runner.cleanup()


class Sandbox:
    """A sandbox and a client of it."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http

    async def ask(
        self, method: str, path: str, authorization: str = "", body: Any = None, **more: Any
    ) -> Answer:
        """Send a request; body: sent as JSON."""
        headers = {"Authorization": authorization, **more.pop("headers", {})}
        async with self.http.request(
            method, self.url + path, headers=headers, json=body, **more
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def platform(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask /instances, with the right secrets."""
        return await self.ask(method, BASE + path, PLATFORM, body)

    async def provision(self, callback_url: str = "http://127.0.0.1:9", **changes: Any) -> Any:
        """Create an instance; returns the platform's description of it."""
        answer = await self.platform("POST", "/instances", wanted(callback_url, **changes))
        assert answer.status == 200, answer.body
        return answer.json

    async def send(self, token: str, body: Any = None, path: str = "/hubs/messaging") -> Answer:
        """POST a reply with an instance's token."""
        body = {"To": THEIRS, "From": OURS, "Body": "hi"} if body is None else body
        return await self.ask("POST", f"{BASE}{path}/messages", instance(token), body)

    async def text(self, body: str = "hello", **more: Any) -> Any:
        """Send a text from a phone; returns what became of it."""
        more.setdefault("from", THEIRS)
        answer = await self.ask("POST", "/sandbox/texts", body={"body": body, **more})
        assert answer.status == 200, answer.body
        return answer.json

    async def trouble(self, **switches: Any) -> None:
        """Make the connector misbehave."""
        assert (await self.ask("POST", "/sandbox/trouble", body=switches)).status == 200

    async def switch(self, **switches: bool | str | float) -> Answer:
        """Make the platform behave otherwise until told again."""
        return await self.ask("POST", "/sandbox/switches", body=switches)

    async def records(self) -> Any:
        """Everything the sandbox noted."""
        return (await self.ask("GET", "/sandbox/records")).json

    async def thread(self, theirs: str = THEIRS) -> Any:
        """A phone's messages."""
        threads = (await self.ask("GET", "/sandbox/threads")).json["threads"]
        return next(each["messages"] for each in threads if each["theirs"] == theirs)


def wanted(callback_url: str, **changes: Any) -> dict[str, Any]:
    """A body of POST /instances."""
    configuration = {
        f"{PREFIX}protocol": "sms",
        f"{PREFIX}account": ACCOUNT,
        f"{PREFIX}sender": OURS,
        f"{PREFIX}token": AUTH_TOKEN,
        f"{PREFIX}callback.url": callback_url,
    }
    body = {"element": {"key": "twilio"}, "name": "parley", "tags": ["parley"]}
    return {**body, "configuration": configuration, **changes}


def instance(token: str) -> str:
    """The Authorization header of an instance."""
    return f"{PLATFORM}, Element {token}"


@contextlib.asynccontextmanager
async def running_sandbox(**config: Any) -> AsyncIterator[Sandbox]:
    """A sandbox under uvicorn, on a free port. config: more of its `SandboxConfig`."""
    listener = listen("127.0.0.1", 0, "PORT")
    app = sandbox_app(SandboxConfig(user_secret=USER, organization_secret=ORGANIZATION, **config))
    served = uvicorn.Config(app, lifespan="on", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(served)
    serving = asyncio.create_task(server._serve(sockets=[listener]))  # leaves signals alone
    try:
        async with aiohttp.ClientSession() as http:
            yield Sandbox(f"http://127.0.0.1:{listener.getsockname()[1]}", http)
    finally:
        server.should_exit = True
        await serving
        listener.close()
