"""A store with one partition, and a connector, of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.workers.pieces import Desk, Phone, opened, ringing


@pytest.fixture
async def desk(redis_server: str) -> AsyncIterator[Desk]:
    """One process's view of an empty store."""
    async with opened(redis_server) as desk:
        yield desk


@pytest.fixture
async def phone() -> AsyncIterator[Phone]:
    """A connector that does as it should until told otherwise."""
    async with ringing() as phone:
        yield phone
