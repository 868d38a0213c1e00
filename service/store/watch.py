"""Looks at Redis again while the service runs: the start's look does not hold for ever.

A fail-over may lead to a server that is configured worse, and dead letters pile up in silence.
What has changed is logged once; `wiring` shows the present state at /readyz and /counters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from service.errors import StoreMismatch, StoreUnavailable
from service.store.durability import Confirmation, DurabilityVerdict

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
"""Three short commands. For so long a server that was put in another's place goes unexamined."""

COUNT_EVERY = 5
"""Dead letters are counted at each so manieth look."""

MANY_DEAD_LETTERS = 1_000
"""Dead letters are never dropped by themselves, so at this many, and at every doubling, a warning
asks for somebody: 1,000 take about a megabyte of Redis."""


class Watch:
    """Keeps what is known of Redis up to date.

    look: asks the server what it can promise. count: counts the dead letters; both raise
        StoreUnavailable, which is for others to report. confirm: takes how commits are confirmed.
    verdict: of the start's look, which has been logged.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[DurabilityVerdict]],
        count: Callable[[], Awaitable[int]],
        confirm: Callable[[Sequence[Confirmation]], None],
        verdict: DurabilityVerdict,
    ) -> None:
        self.verdict = verdict
        self.dead_letters = 0
        self._look = look
        self._count = count
        self._confirm = confirm
        self._warn_at = MANY_DEAD_LETTERS
        confirm(verdict.confirmations)

    async def run(self, every_s: float = LOOK_EVERY_S) -> None:
        """Look until cancelled. Raises what is a defect here; it may be run again."""
        looks = 0
        while True:
            try:
                if looks % COUNT_EVERY == 0:
                    self.take_count(await self._count())
                if looks:
                    self.take_verdict(await self._look())
            except StoreMismatch as error:
                self.take_verdict(DurabilityVerdict(self.verdict.confirmations, (str(error),)))
            except StoreUnavailable:
                pass
            looks += 1
            await asyncio.sleep(every_s)

    def take_verdict(self, verdict: DurabilityVerdict) -> None:
        """Go by a new verdict, and log what it says that the last one did not."""
        for note in verdict.notes:
            if note not in self.verdict.notes:
                log.warning(note, since="a change of Redis or of its configuration")
        for note in self.verdict.notes:
            if note not in verdict.notes:
                log.info("this holds no longer", note=note)
        if verdict.confirmations != self.verdict.confirmations:
            self._confirm(verdict.confirmations)
        self.verdict = verdict

    def take_count(self, count: int) -> None:
        """Take a new count of dead letters, and warn at a thousand and every doubling."""
        self.dead_letters = count
        if count >= self._warn_at:
            log.warning(
                "dead letters pile up; see `parley dead list`, then replay or drop them",
                dead_letters=count,
            )
        # A pile that was seen to is told of again when it grows back.
        while self._warn_at <= count:
            self._warn_at *= 2
        while self._warn_at > MANY_DEAD_LETTERS and count < self._warn_at / 4:
            self._warn_at //= 2
