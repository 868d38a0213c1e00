"""An open store on the run's Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.store.batch import Batch
from service.store.connection import connect
from service.store.inbox import Inbox
from tests.store.pieces import PARTITIONS, Store


@pytest.fixture
async def store(redis_server: str) -> AsyncIterator[Store]:
    """One process's view of an empty store."""
    client = connect(redis_server)
    batch = Batch(client)
    inbox = Inbox(batch, partitions=PARTITIONS, window_s=60, limit=50)
    yield Store(client, batch, inbox)
    await batch.aclose()
    await client.aclose()
