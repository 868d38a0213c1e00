"""A console on a real listener, over the run's own Redis, and browsers without a screen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from service.core.tally import Figures
from service.operate import console
from service.operate.deployment import Deployment
from service.settings.setup import load_given
from service.store.connection import connect
from service.web.console.app import console_app
from service.web.internal.app import Check, internal_app
from tests.sandboxed import bare, deployment, environ, platform, token

__all__ = ["bare", "deployment", "environ", "platform", "token"]

PASSWORD = "correct horse battery"

UNANSWERED = {
    "TWILIO_ACCOUNT_SID": f"AC{'0' * 32}",
    "TWILIO_AUTH_TOKEN": "0" * 32,
    "TWILIO_SENDER": "+15005550100",
    "OPEN_CONNECTORS_BASE_URL": "http://127.0.0.1:9/elements/api-v2",
    "OPEN_CONNECTORS_USER_SECRET": "user",
    "OPEN_CONNECTORS_ORGANIZATION_SECRET": "organization",
}
"""Settings more, of one whose connector does not answer."""

BARE = {"PUBLIC_URL": "https://sms.example.com", "SECRET_KEY": "k" * 40}
"""Settings of a service that nobody has set up yet."""


def field_of(page: str, name: str) -> str:
    """Return what a hidden field of a page's first form holds."""
    found = re.search(f'name="{name}" value="([^"]*)"', page)
    assert found is not None, page
    return found[1]


@dataclass
class Desk:
    """A console, what it is told of the deployment, and its Redis.

    checks, figures: what the overview is made of. ending: set, the process stops.
    """

    redis: Any
    deployment: Deployment
    url: str = ""
    checks: dict[str, Check] = field(default_factory=lambda: {"redis": Check(ok=True)})
    figures: Figures = field(default_factory=Figures)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def readiness(self) -> Mapping[str, Check]:
        """Return the checks."""
        return self.checks

    async def gather(self) -> Figures:
        """Return the figures."""
        return self.figures

    def browser(self, **headers: str) -> httpx.AsyncClient:
        """A browser that follows no redirection by itself."""
        return httpx.AsyncClient(
            base_url=self.url,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            trust_env=False,
            timeout=20,
        )

    async def sign_in(self, browser: httpx.AsyncClient, role: console.Role = "operator") -> None:
        """Sign a browser in by a one-time address."""
        token = await console.make_token(self.redis, role)
        answer = await self.enter(browser, token=token)
        assert answer.status_code == 303, answer.text

    async def enter(
        self, browser: httpx.AsyncClient, query: str = "", **fields: str
    ) -> httpx.Response:
        """Open the sign-in page, and send its form with these fields."""
        page = await browser.get(f"/console/sign-in{query}")
        assert page.status_code == 200, page.text
        hidden = {name: field_of(page.text, name) for name in ("csrf", "next")}
        return await browser.post("/console/sign-in", data=hidden | fields)


Open = Callable[..., Awaitable[Desk]]


@pytest.fixture
async def open_desk(redis_server: str, serve: Any) -> AsyncIterator[Open]:
    """Open a console; keyword arguments are `console_app`'s.

    redis_url: another Redis. environ: what settings say besides. deployment: one with a connector
    that answers.
    """
    async with AsyncExitStack() as stack:

        async def start(
            *,
            redis_url: str = redis_server,
            environ: Mapping[str, str] = {},
            deployment: Deployment | None = None,
            **options: Any,
        ) -> Desk:
            redis = connect(redis_url)
            stack.push_async_callback(redis.aclose)
            given = load_given(environ={**BARE, "REDIS_URL": redis_url, **environ})
            desk = Desk(redis, deployment or Deployment(given.partial(), redis_url, given))
            pages = console_app(
                redis,
                desk.readiness,
                desk.gather,
                deployment=desk.deployment,
                ending=desk.ending,
                **({"every_s": 0.05} | options),
            )
            app = internal_app(desk.readiness, console=pages)
            desk.url = await stack.enter_async_context(serve(app))
            stack.callback(desk.ending.set)
            return desk

        yield start


@pytest.fixture
async def desk(open_desk: Open) -> Desk:
    """A console with the default settings."""
    return await open_desk()


@pytest.fixture
async def browser(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that is not signed in."""
    async with desk.browser() as opened:
        yield opened


@pytest.fixture
async def operator(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that an operator is signed in with."""
    async with desk.browser() as opened:
        await desk.sign_in(opened)
        yield opened


@pytest.fixture
async def viewer(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that a viewer is signed in with."""
    async with desk.browser() as opened:
        await desk.sign_in(opened, "viewer")
        yield opened


@pytest.fixture
async def connected_desk(open_desk: Open, deployment: Deployment) -> Desk:
    """A console of a deployment with an instance at the sandbox."""
    return await open_desk(deployment=deployment)


@pytest.fixture
async def connected(connected_desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that an operator of it is signed in with."""
    async with connected_desk.browser() as opened:
        await connected_desk.sign_in(opened)
        yield opened
