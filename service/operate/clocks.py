"""Compares this machine's clock with Redis's and the connector's, and tells what they show.

Nothing waits for these two: times that are kept are Redis's own, and what is compared with the
connector's log is corrected. A clock that is off is said all the same, as it is off for others too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from service.core.clocks import RemoteClock
from service.errors import StoreUnavailable
from service.store.client import Redis, clock_of

log = structlog.get_logger()

TOLERANCE_S = 5.0
"""What clocks may differ by without a word: machines that are synchronised stay far below."""

LOOK_EVERY_S = 5.0
SAY_EVERY_S = 3_600.0
"""How often a clock that stays off is logged."""

ADVICE = "synchronise this machine's clock (NTP), or that one's if it is the one that is off"


class Clocks:
    """What this process knows of time.

    redis: Redis's clock. connector: the connector's; whoever asks the connector notes its answers.
    """

    def __init__(self) -> None:
        self.redis = RemoteClock()
        self.connector = RemoteClock()
        self._said = -SAY_EVERY_S
        self._told_of: frozenset[str] = frozenset()

    def redis_now(self) -> datetime:
        """Return what Redis's clock shows; until that is known, what ours does."""
        return datetime.fromtimestamp(self._redis_now_s(), UTC)

    def redis_now_ms(self) -> int:
        """Return the same in ms since the epoch."""
        return int(self._redis_now_s() * 1000)

    @property
    def ahead_s(self) -> Mapping[str, float]:
        """By how many seconds our clock is ahead of others', as far as known; negative: behind."""
        wall, at = time.time(), time.monotonic()
        clocks = {"redis": self.redis, "connector": self.connector}
        found = {name: clock.passed_by(wall, at) for name, clock in clocks.items()}
        return {name: ahead for name, ahead in found.items() if ahead is not None}

    @property
    def state(self) -> str:
        """Say how our clock stands, a sentence; "" when there is nothing to say."""
        off = self._off
        if not off:
            return ""
        told = " and ".join(
            f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
            f"{'Redis' if name == 'redis' else 'the connector'}"
            for name, ahead in off.items()
        )
        return f"this machine's clock is {told}, which is allowed for; {ADVICE}"

    @property
    def _off(self) -> Mapping[str, float]:
        return {name: s for name, s in self.ahead_s.items() if abs(s) > TOLERANCE_S}

    async def look(self, client: Redis) -> None:
        """Ask Redis what its clock shows. Raises StoreUnavailable."""
        asked = time.monotonic()
        shown = await clock_of(client)
        self.redis.told(shown, asked, time.monotonic(), 0)

    async def run(self, client: Redis) -> None:
        """Look again and again, and log a clock that is off, until cancelled."""
        while True:
            with contextlib.suppress(StoreUnavailable):  # Which others report.
                await self.look(client)
            self._say()
            await asyncio.sleep(LOOK_EVERY_S)

    def _say(self) -> None:
        off, now = self._off, time.monotonic()
        if not off and self._told_of:
            log.info("this machine's clock agrees with Redis's and the connector's again")
            self._told_of = frozenset()
        elif off.keys() - self._told_of or (off and now - self._said >= SAY_EVERY_S):
            ahead = {f"ahead_of_{name}_s": round(s, 1) for name, s in off.items()}
            log.warning("this machine's clock is off", **ahead, advice=ADVICE)
            self._told_of, self._said = frozenset(off), now

    def _redis_now_s(self) -> float:
        at = time.monotonic()
        ahead = self.redis.passed_by(time.time(), at)
        return time.time() - (ahead or 0)
