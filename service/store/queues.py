"""How much waits in the inboxes and outboxes of a deployment, and since when.

Looked at from outside, by whoever is asked: also where no worker runs. It costs five short commands
for a partition, however much waits in it, in one pipeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import StoreUnavailable
from service.model import Partition
from service.store.failures import translated
from service.store.keys import PartitionKeys

if TYPE_CHECKING:
    from service.store.client import Redis


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in one partition.

    inbox, outbox, dead: entries. inbox_since_ms, outbox_since_ms: when the oldest one came, ms
    since the epoch by Redis's clock; None when none waits.
    """

    inbox: int
    outbox: int
    dead: int
    inbox_since_ms: int | None
    outbox_since_ms: int | None


class Queues:
    """Looks at all partitions. timeout_s: longest that it may take."""

    def __init__(self, client: Redis, partitions: int, *, timeout_s: float) -> None:
        self._client = client
        self._keys = [PartitionKeys(Partition(p)) for p in range(partitions)]
        self._timeout_s = timeout_s

    async def look(self) -> Sequence[Waiting]:
        """Look at every partition, in order. Raises StoreUnavailable, after `timeout_s` too."""
        pipeline = self._client.pipeline(transaction=False)
        for keys in self._keys:
            for stream in (keys.inbox, keys.outbox, keys.dead):
                pipeline.xlen(stream)
            for stream in (keys.inbox, keys.outbox):
                pipeline.xrange(stream, "-", "+", 1)
        try:
            async with asyncio.timeout(self._timeout_s):
                with translated():
                    answers = await pipeline.execute()
        except TimeoutError as error:
            raise StoreUnavailable(f"Redis: no answer within {self._timeout_s:g} s") from error
        return [
            Waiting(inbox, outbox, dead, _since_ms(first_in), _since_ms(first_out))
            for inbox, outbox, dead, first_in, first_out in zip(*[iter(answers)] * 5, strict=True)
        ]


def _since_ms(oldest: Sequence[tuple[bytes, object]]) -> int | None:
    return int(oldest[0][0].partition(b"-")[0]) if oldest else None
