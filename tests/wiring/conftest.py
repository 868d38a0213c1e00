"""What every process has, on the run's Redis, without a process around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from service.settings.setup import load_given
from service.wiring.parts.base import Base, build_base
from service.wiring.stopping import Stop

CONFIG = Path(__file__).parents[2] / "config"

ENVIRON = {
    "PUBLIC_URL": "https://sms.example.com",
    "TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
    "TWILIO_AUTH_TOKEN": "token-of-the-account",
    "TWILIO_SENDER": "+14155550100",
    "OPEN_CONNECTORS_BASE_URL": "http://127.0.0.1:9/elements/api-v2",
    "OPEN_CONNECTORS_USER_SECRET": "user-secret=",
    "OPEN_CONNECTORS_ORGANIZATION_SECRET": "organization-secret",
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",
    "LEASE_TTL_S": "2",
}


@pytest.fixture
async def make_base(redis_server: str) -> AsyncIterator[Callable[..., Base]]:
    """Build a base; keyword arguments are settings, as in the environment."""
    made: list[Base] = []

    def make(redis_url: str = redis_server, **settings: str) -> Base:
        made.append(
            build_base(load_given(CONFIG, ENVIRON | settings), redis_url, Stop(asyncio.Event()))
        )
        return made[-1]

    yield make
    for base in made:
        await base.connector.aclose()
        await base.batch.aclose()
        await base.client.aclose()
