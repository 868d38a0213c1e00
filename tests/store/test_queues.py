"""What waits in a deployment, seen from outside."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.model import Partition
from service.store.connection import connect
from service.store.keys import PartitionKeys
from service.store.queues import Queues, Waiting

pytestmark = pytest.mark.anyio


async def test_every_partition_tells_how_much_waits_and_since_when(redis_server: str) -> None:
    """An operator could not see that one partition is stuck among fifteen that are not."""
    client: Any = connect(redis_server)
    keys = PartitionKeys(Partition(2))
    for ms in (1_700_000_000_000, 1_700_000_005_000):
        await client.xadd(keys.inbox, {"d": "x"}, id=f"{ms}-3")
    await client.xadd(keys.outbox, {"d": "x"}, id="1700000009000-0")
    await client.xadd(keys.dead, {"d": "x"})
    found = await Queues(client, 4, timeout_s=5).look()
    await client.aclose()
    nothing = Waiting(0, 0, 0, None, None)
    waiting = Waiting(2, 1, 1, 1_700_000_000_000, 1_700_000_009_000)
    assert found == [nothing, nothing, waiting, nothing]


async def test_a_redis_that_is_away_or_hangs_is_told_in_time() -> None:
    """A scrape would wait until Prometheus gives up, and nothing be known of the rest."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = connect("redis://127.0.0.1:{1}".format(*silent.getsockname()))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"within 0\.2 s"):
            await Queues(hanging, 16, timeout_s=0.2).look()
        assert time.monotonic() - began < 2
        await hanging.aclose()
    for url in ("redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1"):
        away = connect(url)
        with pytest.raises(StoreUnavailable):
            await Queues(away, 16, timeout_s=5).look()
        await away.aclose()
