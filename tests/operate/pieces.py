"""What the tests of signing in share: who signs in, from where, and how that is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from service.errors import SignInRefused
from service.operate.console import Role, Session, make_token, sign_in_by_token

PASSWORD = "correct horse battery"
HERE = {"address": "127.0.0.1", "agent": "Firefox"}
THERE = {"address": "192.0.2.66", "agent": "curl"}


async def come_in(client: Any, role: Role = "operator") -> tuple[str, Session]:
    """Sign in by a one-time token; return the cookie and the session."""
    return await sign_in_by_token(client, await make_token(client, role), **HERE)


async def refusal(awaitable: Any) -> SignInRefused:
    """Return how a sign-in was refused."""
    with pytest.raises(SignInRefused) as caught:
        await awaitable
    return caught.value


async def block(client: Any, key: str, wait_ms: int) -> None:
    """Leave in Redis what failures leave: nothing is looked at for so long."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    await client.set(key, f"{now_ms + 3_600_000} {now_ms + wait_ms}", px=3_600_000)
