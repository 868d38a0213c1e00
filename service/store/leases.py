"""Who owns which partition: fenced leases, and the register of the living workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from service.model import Partition
from service.store.batch import Batch
from service.store.failures import translated
from service.store.keys import WORKERS, PartitionKeys
from service.store.scripts import ACQUIRE, ANNOUNCE, DISOWN, RENEW

if TYPE_CHECKING:
    from service.store.client import Redis


LONGEST_LEASE_MS = 360_000
"""The longest that LEASE_TTL_S allows and a minute more, as a clock that is put right by a little
takes nothing from a living worker. What lasts longer dates from before Redis's clock was put back.
"""


class Leases:
    """Takes, renews and gives up partitions for one worker.

    owner: this worker's id, unique for each start. ttl_ms: how long a lease lasts unrenewed.
    """

    def __init__(self, client: Redis, batch: Batch, *, owner: str, ttl_ms: int) -> None:
        self.owner = owner
        self._client = client
        self._batch = batch
        self._ttl_ms = ttl_ms

    async def acquire(self, partition: Partition) -> str | None:
        """Take a partition nobody holds; returns the lease token, None when it is held."""
        keys = PartitionKeys(partition)
        answer = await self._batch.run(
            ACQUIRE, (keys.lease, keys.epoch), (self.owner, self._ttl_ms, LONGEST_LEASE_MS)
        )
        return None if answer == b"held" else str(answer.decode())

    async def renew(self, partition: Partition, token: str) -> bool:
        """Extend a lease by its whole time; False when it is not ours any more."""
        return await self._renew(partition, token, self._ttl_ms)

    async def release(self, partition: Partition, token: str) -> bool:
        """Give a lease up, so that the next worker need not wait for it to run out."""
        return await self._renew(partition, token, 0)

    async def announce(self) -> list[str]:
        """Say that this worker lives, and return every living worker's id, sorted.

        The register forgets a worker silent for a lease's time, by Redis's clock.
        """
        living = await self._batch.run(
            ANNOUNCE, (WORKERS,), (self.owner, self._ttl_ms, LONGEST_LEASE_MS)
        )
        return sorted(worker.decode() for worker in living)

    async def leave(self) -> None:
        """Take this worker off the register."""
        with translated():
            await self._client.zrem(WORKERS, self.owner)

    async def disown(self, count: int) -> int:
        """Give up whatever a dead worker of this id holds, for its heirs; returns how many leases.

        count: partitions of the deployment. Only for one who saw the worker end: a living one
            would lose them as to a lease run out. Raises StoreUnavailable.
        """
        answers = await asyncio.gather(
            *(
                self._batch.run(DISOWN, (PartitionKeys(Partition(p)).lease,), (self.owner,))
                for p in range(count)
            )
        )
        await self.leave()
        return sum(answers)

    async def _renew(self, partition: Partition, token: str, ttl_ms: int) -> bool:
        answer = await self._batch.run(RENEW, (PartitionKeys(partition).lease,), (token, ttl_ms))
        return bool(answer != b"fenced")
