"""Fixtures: a deployment whose connector is the real sandbox, with an instance provisioned.

Folders that use them import them in their `conftest.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from service.operate.deployment import Deployment
from service.operate.instance import open_provisioner
from service.settings.loading import load_settings
from tests.connector.pieces import AUTH_TOKEN, ORGANIZATION, OURS, USER, running_sandbox

Platform = Callable[..., Awaitable[Any]]


@pytest.fixture
async def environ(redis_server: str) -> AsyncIterator[dict[str, str]]:
    """Settings of a deployment beside a sandbox of its own."""
    async with running_sandbox() as base_url:
        yield {
            "PUBLIC_URL": "https://sms.example.com",
            "REDIS_URL": redis_server,
            "TWILIO_ACCOUNT_SID": f"AC{'0' * 32}",
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TWILIO_SENDER": OURS,
            "OPEN_CONNECTORS_BASE_URL": base_url,
            "OPEN_CONNECTORS_USER_SECRET": USER,
            "OPEN_CONNECTORS_ORGANIZATION_SECRET": ORGANIZATION,
            "SECRET_KEY": "k" * 40,
        }


@pytest.fixture
async def bare(environ: dict[str, str]) -> Deployment:
    """A deployment without an instance."""
    return Deployment(load_settings(None, environ), environ["REDIS_URL"])


@pytest.fixture
async def token(bare: Deployment) -> str:
    """The token of the deployment's instance."""
    async with open_provisioner(bare) as provisioner:
        return (await provisioner.ensure()).token


@pytest.fixture
async def deployment(bare: Deployment, token: str) -> Deployment:
    """A deployment with an instance."""
    return bare


@pytest.fixture
async def platform(environ: dict[str, str]) -> AsyncIterator[Platform]:
    """Ask the platform as somebody does in its console."""
    authorization = f"User {USER}, Organization {ORGANIZATION}"
    async with aiohttp.ClientSession(headers={"Authorization": authorization}) as session:

        async def ask(method: str, path: str, body: Any = None) -> Any:
            url = environ["OPEN_CONNECTORS_BASE_URL"] + path
            async with session.request(method, url, json=body) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        yield ask
