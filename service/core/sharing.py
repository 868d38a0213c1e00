"""How partitions are shared out among living workers. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def share_of(worker: str, living: Sequence[str], partitions: int) -> int:
    """Return how many partitions `worker` should own.

    living: ids of all living workers; `worker` counts even when the register has just lost it.
    Shares differ by one at most and add up to `partitions`.
    """
    workers = sorted({*living, worker})
    share, extra = divmod(partitions, len(workers))
    return share + (workers.index(worker) < extra)
