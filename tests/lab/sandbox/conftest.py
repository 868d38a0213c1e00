"""A sandbox of the test's own, and a door for its callbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.lab.sandbox.pieces import Door, Sandbox, running_door, running_sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox that knows nothing yet."""
    async with running_sandbox() as running:
        yield running


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A service's front door."""
    async with running_door() as running:
        yield running
