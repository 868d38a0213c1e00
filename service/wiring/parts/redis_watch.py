"""The watch over Redis: nothing goes in before the first look, and looks follow it for good."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import structlog

from service.errors import StoreMismatch, StoreUnavailable
from service.operate.clients import look_at
from service.operate.clocks import Clocks
from service.settings.table import Settings
from service.store.batch import Batch
from service.store.client import Redis, ping
from service.store.dead_letters import DeadLetters
from service.store.durability import DurabilityVerdict
from service.store.layout import claim_partition_count
from service.store.watch import Watch
from service.web.internal.app import Check
from service.wiring.stopping import Stop

log = structlog.get_logger()

RETRY_S = 1.0
"""Pause before Redis, which is away at the start, is looked at again."""

WAITING_SAID_S = 30.0
"""How often the log says that Redis is still away at the start."""


class Known(Protocol):
    """What is known of Redis."""

    @property
    def dead_letters(self) -> int:
        """How many there were when they were last counted."""

    def check(self) -> Check:
        """Say how it stands, as long as it answers."""


class NotYet:
    """Nothing is known: it was not looked at since the start."""

    dead_letters = 0

    def check(self) -> Check:
        """Say that nothing is let in yet."""
        return Check(ok=False, detail="opening")


class Watched:
    """It is laid out as we are; the watch knows the rest."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    @property
    def dead_letters(self) -> int:
        """How many there were at the watch's last count."""
        return self._watch.dead_letters

    def check(self) -> Check:
        """Say what the last look found."""
        return Check(ok=True, detail="; ".join(self._watch.verdict.notes))


class RedisWatch:
    """Looks at Redis until it is known to be laid out as we are, and then whether it stays so.

    opened: set once it is known; before that no callback is accepted and no partition starts.
    known: what is.
    """

    def __init__(
        self, settings: Settings, client: Redis, batch: Batch, clocks: Clocks, stop: Stop
    ) -> None:
        self._settings = settings
        self._client = client
        self._batch = batch
        self._clocks = clocks
        self._stop = stop
        self._dead = DeadLetters(
            client, batch, partitions=settings.partitions, inbox_limit=settings.inbox_limit
        )
        self.opened = asyncio.Event()
        self.known: Known = NotYet()

    async def run(self) -> None:
        """Open Redis for all that waits for it, then watch it, until cancelled."""
        try:
            verdict = await self._first_look()
        except StoreMismatch as error:
            self._stop.fail(error)
            return
        for note in verdict.notes:
            log.warning(note)
        watch = Watch(self._look, self._dead.count, self._batch.confirm, verdict)
        self.known = Watched(watch)
        self.opened.set()
        await watch.run()

    async def opened_before_stop(self) -> bool:
        """Wait until it is open; False when the process is told to stop before."""
        stop = self._stop.told
        waiting = [asyncio.create_task(event.wait()) for event in (self.opened, stop)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return not stop.is_set()

    async def check(self) -> Check:
        """Ask Redis for an answer, and say how it stands."""
        try:
            await ping(self._client)
        except StoreUnavailable as error:
            return Check(ok=False, detail=str(error))
        return self.known.check()

    async def _look(self) -> DurabilityVerdict:
        return await look_at(self._client, self._settings)

    async def _first_look(self) -> DurabilityVerdict:
        """Look, and claim the layout, as often as it takes. Raises StoreMismatch."""
        said = -WAITING_SAID_S
        while True:
            try:
                verdict = await self._look()
                await claim_partition_count(self._client, self._settings.partitions)
                await self._clocks.look(self._client)
            except StoreUnavailable as error:
                if time.monotonic() - said >= WAITING_SAID_S:
                    log.warning("waiting for Redis", error=str(error))
                    said = time.monotonic()
                await asyncio.sleep(RETRY_S)
            else:
                return verdict
