"""A platform of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.connector.pieces import Platform, running_platform


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    """Open Connectors as documented, empty."""
    async with running_platform() as running:
        yield running
