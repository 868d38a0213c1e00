"""What the tests of `operate` work on: an open Redis, and a deployment beside the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.store.connection import connect
from tests.sandboxed import bare, deployment, environ, platform, token

__all__ = ["bare", "client", "deployment", "environ", "platform", "token"]


@pytest.fixture
async def client(redis_server: str) -> AsyncIterator[Any]:
    """A client of an empty Redis: by the store's protocol, and by redis-py's own commands."""
    found = connect(redis_server)
    yield found
    await found.aclose()
