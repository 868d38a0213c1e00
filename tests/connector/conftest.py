"""A platform of the test's own, and the real store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.core.sealing import Sealer
from service.store.connection import connect
from service.store.instances import Instances
from tests.connector.pieces import KEY, Platform, running_platform


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    """Open Connectors as documented, empty."""
    async with running_platform() as running:
        yield running


@pytest.fixture
async def store(redis_server: str) -> AsyncIterator[Instances]:
    """The real store, empty."""
    client = connect(redis_server)
    yield Instances(client, Sealer([KEY]))
    await client.aclose()
