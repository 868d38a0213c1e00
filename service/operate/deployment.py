"""A deployment as an operator works on it: its settings, and its Redis.

Its instance is in `operate.instance`: most commands ask nothing of the connector, and start without
an HTTP client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.core.sealing import Sealer
from service.errors import SettingsError
from service.operate.clients import look_at
from service.settings.setup import Given
from service.settings.table import Settings
from service.store.batch import Batch
from service.store.client import Redis
from service.store.connection import connect
from service.store.layout import claim_partition_count
from service.store.setups import Setups

TYPE_THEM = "or type them in: parley connect, or Connect in the console"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the functions of this folder work on.

    settings: as far as they are given without a setup. redis_url: where its Redis is; REDIS_URL,
        or the embedded one's. given: what a setup goes with; None where settings are whole.
    """

    settings: Settings
    redis_url: str
    given: Given | None = None

    async def settings_in_use(self, client: Redis) -> Settings:
        """Return whole settings, the setup in this Redis among them.

        Raises SettingsError for what is missing or wrong, StoreUnavailable.
        """
        if self.given is None:
            return self.settings
        values: Mapping[str, str] | None = None
        try:
            kept = await Setups(client, Sealer(self.settings.secret_keys)).current()
            values = kept.values if kept else {}
            return self.given.settings(values)
        except SettingsError as error:
            if not self.given.missing({}):
                # As the service does: settings are enough without a setup that can't be used.
                return self.given.settings({})
            if values is not None and self.given.missing(values):
                raise SettingsError([*error.problems, TYPE_THEM]) from error
            raise


@asynccontextmanager
async def open_store(deployment: Deployment) -> AsyncIterator[tuple[Redis, Batch]]:
    """Open the deployment's Redis. Raises StoreUnavailable, StoreMismatch."""
    settings = deployment.settings
    client = connect(deployment.redis_url)
    batch = Batch(client)
    try:
        batch.confirm((await look_at(client, settings)).confirmations)
        await claim_partition_count(client, settings.partitions)
        yield client, batch
    finally:
        await batch.aclose()
        await client.aclose()
