"""What the supervisor of several processes does for the others when one of its own has died.

A worker that ends without a word leaves leases behind, and its conversations would wait until these
run out. Whoever has seen it end need not wait: it does nothing any more.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from secrets import token_hex

import structlog

from service.core.causes import cause_of
from service.errors import StoreUnavailable
from service.host import loop
from service.store.batch import Batch
from service.store.connection import connect
from service.store.leases import Leases

log = structlog.get_logger()

RETRY_S = 0.5


class DeadWorkers:
    """Names the workers of a supervisor, and gives up what they hold when they die.

    redis_url: the deployment's Redis. partitions: of the deployment. lease_s: how long leases last.
    """

    def __init__(self, redis_url: str, partitions: int, lease_s: float) -> None:
        self._redis_url = redis_url
        self._partitions = partitions
        self._lease_s = lease_s
        self._names: dict[int, str] = {}

    def named(self, number: int) -> str:
        """Make the id under which the process of this number is to take leases."""
        self._names[number] = worker_id()
        return self._names[number]

    def disown(self, number: int) -> None:
        """Give up, at once and aside, all that the process of this number has left."""
        if (worker := self._names.pop(number, None)) is not None:
            # A thread, as Redis may be away and the others have to be looked after.
            threading.Thread(
                target=lambda: loop.run(self._disown(worker)), name="leases", daemon=True
            ).start()

    async def _disown(self, worker: str) -> None:
        client = connect(self._redis_url)
        batch = Batch(client)
        leases = Leases(client, batch, owner=worker, ttl_ms=int(self._lease_s * 1000))
        try:
            # Then they have run out by themselves.
            async with asyncio.timeout(self._lease_s):
                while True:
                    try:
                        count = await leases.disown(self._partitions)
                    except StoreUnavailable:
                        await asyncio.sleep(RETRY_S)
                    else:
                        break
            log.info("the leases of a process that died are given up", worker=worker, count=count)
        except Exception as error:  # noqa: BLE001  they run out by themselves
            log.warning("the leases of a process that died run out", **cause_of(error))
        finally:
            await batch.aclose()
            await client.aclose()


def worker_id() -> str:
    """Make an id of a worker, unique for each start."""
    return f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
