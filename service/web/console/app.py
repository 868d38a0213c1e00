"""The console as an ASGI application; `wiring` puts it on the internal listener."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.core.tally import Figures
from service.errors import SettingsError, StoreMismatch, StoreUnavailable
from service.host.answers import AsgiApp
from service.operate.deployment import Deployment
from service.operate.overview import Checked
from service.operate.setup import Setup
from service.store.client import Redis
from service.web.console import paths
from service.web.console.asking import Asking
from service.web.console.assets import Assets
from service.web.console.connect_pages import ConnectPages
from service.web.console.cookies import Cookies
from service.web.console.formula_pages import FormulaPages
from service.web.console.glance import Glance
from service.web.console.guard import guarded
from service.web.console.instance_pages import InstancePages
from service.web.console.live import EVERY_S, Streams
from service.web.console.mapping_pages import MappingPages
from service.web.console.members import SESSION, Members
from service.web.console.pages import Pages
from service.web.console.reference_pages import ReferencePages
from service.web.console.rendering import Renderer
from service.web.console.sign_in import SignIn

TITLES = {
    400: "That can't be read",
    403: "That is not allowed",
    404: "There is nothing here",
    409: "That can't be done as it stands",
}
"""Of the pages that say why something can't be shown; others have the status's own words."""


def console_app(
    redis: Redis,
    readiness: Callable[[], Awaitable[Mapping[str, Checked]]],
    gather: Callable[[], Awaitable[Figures]],
    *,
    deployment: Deployment,
    changed: Callable[[], None] = lambda: None,
    ending: asyncio.Event,
    hosts: Collection[str] = (),
    tls: bool = False,
    every_s: float = EVERY_S,
) -> AsgiApp:
    """Make the console.

    readiness, gather: as `service.web.console.glance.Glance` takes them.
    deployment: what pages work on that do what commands do.
    changed: called when a page has put another setup in use.
    ending: set when the process stops; what is live ends then.
    hosts: names and addresses it may be asked for by, besides this machine's own.
    tls: browsers come by https alone. every_s: seconds between two looks of a live page.
    """
    app = pages_app(
        redis,
        readiness,
        gather,
        deployment=deployment,
        changed=changed,
        ending=ending,
        tls=tls,
        every_s=every_s,
    )
    return guarded(app, hosts, tls=tls)


def pages_app(
    redis: Redis,
    readiness: Callable[[], Awaitable[Mapping[str, Checked]]],
    gather: Callable[[], Awaitable[Figures]],
    *,
    deployment: Deployment,
    changed: Callable[[], None],
    ending: asyncio.Event,
    tls: bool,
    every_s: float,
) -> Starlette:
    """Make the pages and their routes, as `console_app` takes them, without the guard before."""
    assets, cookies = Assets(), Cookies(tls=tls)
    renderer, members = Renderer(assets), Members(redis, cookies)
    streams = Streams(ending, every_s=every_s)
    glance = Glance(readiness, gather)
    pages = Pages(redis, renderer, glance, streams, members)
    sign_in = SignIn(redis, renderer, cookies, members)
    only, writing = members.only, members.writing
    asking = Asking(redis, deployment, renderer, members)
    reads = {
        paths.SIGN_IN: sign_in.show,
        paths.OVERVIEW: only(pages.overview),
        paths.LIVE: members.live(pages.live),
        paths.SESSIONS: only(pages.sessions),
        paths.AUDIT: only(pages.audit),
        paths.KEYBOARD: only(pages.keyboard),
        paths.STATIC + "/{name}": assets.serve,
    }
    writes = {
        paths.SIGN_IN: sign_in.sign_in,
        paths.SIGN_OUT: writing(sign_in.sign_out, operators=False),
        paths.END_SESSION: writing(pages.end_session, operators=True),
    }
    connect: list[Route] = []
    if deployment.given is not None:
        setup = Setup(redis, deployment.given)
        connect = ConnectPages(setup, renderer, glance, streams, members, changed=changed).routes()
    routes = [
        *connect,
        *ReferencePages(asking).routes(),
        *MappingPages(asking).routes(),
        *FormulaPages(asking).routes(),
        *(Route(path, page, methods=["POST"]) for path, page in writes.items()),
        *(Route(path, page, methods=["GET"]) for path, page in reads.items()),
        *InstancePages(asking, glance).routes(),
        Route(paths.ROOT + "/{rest:path}", only(pages.unknown), methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers=_handlers(renderer))
    app.router.redirect_slashes = False
    return app


def _handlers(renderer: Renderer) -> Mapping[type[Exception], Callable[..., Awaitable[Response]]]:
    """Make what answers when a page can't be shown: a page that says why, and what to do."""

    def say(request: Request, status: int, text: str, headers: Mapping[str, str]) -> Response:
        session = request.scope.get(SESSION)
        title = TITLES.get(status, HTTPStatus(status).phrase)
        page = renderer.page(request, "problem", session, status, title=title, text=text)
        page.headers.update(headers)
        return page

    async def refused(request: Request, error: HTTPException) -> Response:
        return say(request, error.status_code, error.detail, error.headers or {})

    async def without_redis(request: Request, error: StoreUnavailable) -> Response:
        headers = {"retry-after": str(error.retry_after_s)}
        page = renderer.page(request, "no_redis", None, 503, detail=str(error))
        page.headers.update(headers)
        return page

    async def unsettled(request: Request, error: SettingsError) -> Response:
        return say(request, 409, " ".join(error.problems), {})

    async def laid_out_otherwise(request: Request, error: StoreMismatch) -> Response:
        return say(request, 503, str(error), {})

    async def failed(request: Request, error: Exception) -> Response:
        return say(request, 500, "This page has failed; the log of the service says why.", {})

    return {
        HTTPException: refused,
        StoreUnavailable: without_redis,
        StoreMismatch: laid_out_otherwise,
        SettingsError: unsettled,
        Exception: failed,
    }
