"""Filling the gaps: texts that no callback brought are read back from the connector's log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from service.core import metrics as m
from service.core.tally import Figures
from service.operate.clients import backfill_of
from service.wiring.parts.base import Base
from service.wiring.parts.setup import InUse


class Gaps:
    """Reads back what is missing, in every process, if BACKFILL_EVERY_S asks for it.

    refused: how many callbacks this process has refused for our own or Redis's sake.
    """

    def __init__(self, base: Base, refused: Callable[[], int]) -> None:
        self._tasks = base.tasks
        self._opened = base.redis.opened
        self._instance = base.instance
        self._every_s = base.settings.backfill_every_s
        self._refused = refused
        self._backfill = backfill_of(
            base.settings, base.client, base.batch, base.connector, now=base.clocks.redis_now
        )
        base.setup.follow(self._turn_to)

    def _turn_to(self, in_use: InUse) -> None:
        settings = in_use.settings
        self._backfill.turn_to(settings.twilio_account_sid, settings.twilio_sender)

    @property
    def state(self) -> str:
        """How reading back stands, a sentence; "" when there is nothing to say."""
        return self._backfill.state

    def start(self) -> asyncio.Task[None]:
        """Begin to read back, until cancelled; ends at once when nobody asks for it."""
        return self._tasks.start("the backfill", self.run)

    async def run(self) -> None:
        """Read back what no callback brought, once Redis is open."""
        if not self._every_s:
            return
        await self._opened.wait()
        await self._backfill.keep_filling(self._instance.ready, self._every_s, self._refused)

    def figures(self) -> Figures:
        """Return what reading back counts; nothing as long as it has not begun."""
        if not self._every_s or not self._opened.is_set():
            return Figures()
        return Figures(
            counters={m.RECOVERED.name: {"": self._backfill.recovered}},
            gauges={m.BACKFILL_FAILING.name: {"": int(bool(self._backfill.state))}},
        )

    def counters(self) -> Mapping[str, int]:
        """Return nothing: /counters is of what comes in by the door."""
        return {}
