"""What is fixed for the life of a Redis: the partition count it was laid out with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import StoreMismatch
from service.store.failures import translated
from service.store.keys import PARTITION_COUNT

if TYPE_CHECKING:
    from service.store.client import Redis


async def claim_partition_count(client: Redis, count: int) -> None:
    """Record the partition count, or check it against the one recorded.

    Raises StoreMismatch when this Redis was laid out with another one: conversations would then
        be found in other partitions than their unsettled messages. Raises StoreUnavailable.
    """
    with translated():
        recorded = await client.get(PARTITION_COUNT)
        # Only where there is none: a full Redis refuses to be written to, and must be served.
        if recorded is None:
            await client.set(PARTITION_COUNT, count, nx=True)
            recorded = await client.get(PARTITION_COUNT)
    laid_out = int(recorded or 0)
    if laid_out != count:
        raise StoreMismatch(
            f"this Redis was laid out with {laid_out} partitions, PARTITIONS says {count}; "
            f"set PARTITIONS={laid_out}, or use an empty Redis database"
        )
