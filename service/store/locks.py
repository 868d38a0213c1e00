"""A lock in Redis for what one process of a deployment does at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING

import structlog

from service.core.causes import cause_of
from service.errors import StoreUnavailable
from service.store.connection import translated

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

LOCK_TTL_MS = 30_000
"""Renewed by its holder; one that was killed blocks others no longer."""

LOCK_POLL_S = 0.2

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

_EXTEND = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""


@asynccontextmanager
async def locked(client: Redis, key: str) -> AsyncIterator[None]:
    """Hold a lock; waits for it. Raises StoreUnavailable."""
    holder = token_hex(8)
    with translated():
        # Polled: its holder may be another machine, and may have died.
        while not await client.set(key, holder, nx=True, px=LOCK_TTL_MS):
            await asyncio.sleep(LOCK_POLL_S)
    renewing = asyncio.create_task(_renew(client, key, holder))
    try:
        yield
    finally:
        renewing.cancel()
        with translated():
            await client.eval(_RELEASE, 1, key, holder)


async def _renew(client: Redis, key: str, holder: str) -> None:
    """Keep the lock while its holder lives: a slow connector makes what it does take long."""
    while True:
        await asyncio.sleep(LOCK_TTL_MS / 3000)
        try:
            with suppress(StoreUnavailable), translated():
                await client.eval(_EXTEND, 1, key, holder, LOCK_TTL_MS)
        except Exception as error:  # noqa: BLE001  nobody awaits this
            log.error("a lock could not be renewed", key=key, **cause_of(error))
