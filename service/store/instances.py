"""Keeps our connector instance, its token sealed, and lets one process at a time provision it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from service.core.sealing import Sealer
from service.model import Instance
from service.store.failures import translated
from service.store.keys import INSTANCE, INSTANCE_LOCK, INSTANCE_LOOK
from service.store.locks import locked
from service.store.scripts import NOTE_LOOK, SAVE_INSTANCE, run_alone
from service.store.stored import moment

if TYPE_CHECKING:
    from service.store.client import Redis


LONGEST_DEED = 500
"""Characters that are kept of what was done; a plan has a line of each entry."""


@dataclass(frozen=True, slots=True)
class LastLook:
    """When the service last looked at our instance, and what it last did to it.

    Aware, by Redis's clock; None where it has not yet. did: for people.
    """

    at: datetime | None = None
    did: str = ""
    did_at: datetime | None = None


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
            raw = await self._client.hgetall(INSTANCE)
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
        record = {
            "id": instance.id,
            "token": self._sealer.seal(instance.token),
            "name": instance.name,
            "tags": "\n".join(instance.tags),
            "callback_url": instance.callback_url,
            "fingerprint": instance.fingerprint,
        }
        pairs = [word for pair in record.items() for word in pair]
        await run_alone(self._client, SAVE_INSTANCE, (INSTANCE,), pairs)

    async def note_look(self, did: str) -> None:
        """Note that it was looked at, and what was done, "" for nothing.

        Raises StoreUnavailable.
        """
        await run_alone(self._client, NOTE_LOOK, (INSTANCE_LOOK,), (did[:LONGEST_DEED],))

    async def forget(self) -> None:
        """Forget the instance. Raises StoreUnavailable."""
        with translated():
            await self._client.delete(INSTANCE)

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Hold the provisioning lock of this Redis; waits for it.

        Raises StoreUnavailable, LockLost.
        """
        return locked(self._client, INSTANCE_LOCK)


async def last_look(client: Redis) -> LastLook:
    """Return when our instance was last looked at. Raises StoreUnavailable."""
    with translated():
        found = await client.hgetall(INSTANCE_LOOK)
    at, did_at = found.get(b"looked"), found.get(b"did_at")
    return LastLook(
        at=None if at is None else moment(at),
        did=found.get(b"did", b"").decode(errors="replace"),
        did_at=None if did_at is None else moment(did_at),
    )
