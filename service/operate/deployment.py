"""A deployment as an operator works on it: its settings, and its Redis.

Its instance is in `operate.instance`: most commands ask nothing of the connector, and start without
an HTTP client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.operate.clients import look_at
from service.settings.table import Settings
from service.store.batch import Batch
from service.store.client import Redis
from service.store.connection import connect
from service.store.layout import claim_partition_count


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the functions of this folder work on.

    redis_url: where its Redis is; REDIS_URL, or the embedded one's.
    """

    settings: Settings
    redis_url: str


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
