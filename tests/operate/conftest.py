"""An open Redis, and what it holds by the time that a test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.store.connection import connect


@pytest.fixture
async def client(redis_server: str) -> AsyncIterator[Any]:
    """A client of an empty Redis: by the store's protocol, and by redis-py's own commands."""
    found = connect(redis_server)
    yield found
    await found.aclose()
