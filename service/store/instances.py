"""Keeps our connector instance, its token sealed, and lets one process at a time provision it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from service.core.sealing import Sealer
from service.errors import StoreUnavailable
from service.model import Instance
from service.store.connection import translated
from service.store.keys import INSTANCE, INSTANCE_LOCK

if TYPE_CHECKING:
    from redis.asyncio import Redis

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


class Instances:
    """Loads and saves the instance record."""

    def __init__(self, client: Redis, sealer: Sealer) -> None:
        self._client = client
        self._sealer = sealer

    async def load(self) -> Instance | None:
        """Return the instance kept here, None when there is none yet.

        Raises SettingsError when SECRET_KEY can't open its token, StoreUnavailable.
        """
        with translated():
            raw: Any = await self._client.hgetall(INSTANCE)
        if not raw:
            return None
        record = {key.decode(): value.decode() for key, value in raw.items()}
        return Instance(
            id=record["id"],
            token=self._sealer.unseal(record["token"]),
            name=record["name"],
            tags=tuple(filter(None, record["tags"].split("\n"))),
            callback_url=record["callback_url"],
            fingerprint=record["fingerprint"],
        )

    async def save(self, instance: Instance) -> None:
        """Keep the instance; the token is sealed first. Raises StoreUnavailable."""
        record: dict[Any, Any] = {
            "id": instance.id,
            "token": self._sealer.seal(instance.token),
            "name": instance.name,
            "tags": "\n".join(instance.tags),
            "callback_url": instance.callback_url,
            "fingerprint": instance.fingerprint,
        }
        with translated():
            await self._client.hset(INSTANCE, mapping=record)

    async def forget(self) -> None:
        """Forget the instance. Raises StoreUnavailable."""
        with translated():
            await self._client.delete(INSTANCE)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Hold the provisioning lock of this Redis; waits for it. Raises StoreUnavailable."""
        holder = token_hex(8)
        with translated():
            # Polled: its holder may be another machine, and may have died.
            while not await self._client.set(INSTANCE_LOCK, holder, nx=True, px=LOCK_TTL_MS):
                await asyncio.sleep(LOCK_POLL_S)
        renewing = asyncio.create_task(self._renew(holder))
        try:
            yield
        finally:
            renewing.cancel()
            with translated():
                await self._client.eval(_RELEASE, 1, INSTANCE_LOCK, holder)

    async def _renew(self, holder: str) -> None:
        """Keep the lock while its holder lives: a slow connector makes provisioning take long."""
        while True:
            await asyncio.sleep(LOCK_TTL_MS / 3000)
            with suppress(StoreUnavailable), translated():
                await self._client.eval(_EXTEND, 1, INSTANCE_LOCK, holder, LOCK_TTL_MS)
