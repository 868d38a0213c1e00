"""The sandbox as one application: Open Connectors, the phone network, the phone page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.lab.sandbox.access import Access
from service.lab.sandbox.answers import (
    Refused,
    answer_error,
    defect,
    unknown_method,
    unknown_path,
)
from service.lab.sandbox.control import Control
from service.lab.sandbox.guard import AsgiApp, Guard, Receive, Scope, Send
from service.lab.sandbox.network import Network
from service.lab.sandbox.platform import MESSAGES, Platform
from service.lab.sandbox.polling import Poller
from service.lab.sandbox.records import Records

PAGE_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' https: data:; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """The credentials the sandbox accepts from the service under test, and who may reach it.

    hosts: names it is asked for by, besides this machine's own. public: it listens beyond this
    machine, and may call beyond it.
    """

    user_secret: str = field(repr=False)
    organization_secret: str = field(repr=False)
    hosts: frozenset[str] = frozenset()
    public: bool = False


def sandbox_app(config: SandboxConfig) -> AsgiApp:
    """Make the sandbox; its memory begins empty.

    Where it is served with a lifespan, its end closes the phone network's connections.
    """
    records = Records()
    network = Network(records, public=config.public)
    poller = Poller(records, network)
    records.after_reply = network.report
    platform = Platform(records, Access(config.user_secret, config.organization_secret, records))
    pages = [Route("/", _page), Route("/page/{name}", _page)]
    routes = [*platform.routes(), *Control(records, network, poller).routes(), *pages]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await poller.aclose()
        await network.aclose()

    rest = Starlette(
        routes=routes,
        exception_handlers={404: unknown_path, 405: unknown_method, Exception: defect},
        lifespan=lifespan,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # Without Starlette's routing: load tests send thousands a second.
        posts = scope["type"] == "http" and scope["method"] == "POST"
        if posts and MESSAGES.fullmatch(scope["path"]):
            await _serve_send(platform, scope, receive, send)
        else:
            await rest(scope, receive, send)

    return Guard(app, hosts=config.hosts, public=config.public)


async def _serve_send(platform: Platform, scope: Scope, receive: Receive, send: Send) -> None:
    body, more = bytearray(), True
    try:
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body += event.get("body", b"")
            more = event.get("more_body", False)
    except Refused as error:
        await answer_error(error)(scope, receive, send)
        return
    answer = await platform.messages.send(dict(scope["headers"]), bytes(body))
    await answer(scope, receive, send)


async def _page(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    if name not in PAGE_TYPES:
        raise HTTPException(404)
    content = files("service.lab.sandbox").joinpath("page", name).read_bytes()
    return Response(content, media_type=PAGE_TYPES[name], headers=PAGE_HEADERS)
