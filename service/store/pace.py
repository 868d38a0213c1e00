"""The pace our numbers send at, shared by every process through Redis."""

from __future__ import annotations

from service.store.batch import Batch
from service.store.keys import pace
from service.store.scripts import PACE

HORIZON_S = 1.0
"""Turns are given out this far ahead: a process that dies with some wastes no more than that."""


class Pace:
    """Gives out turns to send.

    segments_per_s: SMS segments one number may send a second, above 0.
    """

    def __init__(self, batch: Batch, segments_per_s: float) -> None:
        self._batch = batch
        self._segment_us = int(1_000_000 / segments_per_s)

    async def turn(self, number: str, segments: int) -> float | None:
        """Ask for a turn to send `segments` from `number`.

        Returns the seconds until the turn, which is taken. None when the turns of the next second
        are given out already; ask again in a while.
        Raises StoreUnavailable.
        """
        answer = await self._batch.run(
            PACE, (pace(number),), (segments, self._segment_us, int(HORIZON_S * 1_000_000))
        )
        return None if answer < 0 else answer / 1_000_000
