"""Log lines that a stranger can cause: of each kind a few a second at most."""

from __future__ import annotations

import time

import structlog

log = structlog.get_logger()


class TokenBucket:
    """Allows `per_s` a second on average and `burst` at once, and counts what it holds back.

    per_s: above 0. burst: 1 or more.
    """

    __slots__ = ("_burst", "_per_s", "_seen_s", "_tokens", "suppressed")

    def __init__(self, per_s: float = 1.0, burst: int = 1) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._seen_s = 0.0
        self.suppressed = 0

    def take(self, now_s: float) -> int | None:
        """Ask for one turn.

        now_s: any clock that never runs backwards, seconds.
        Returns how many were held back since the last turn given, or None to hold back this one.
        """
        gained = (now_s - self._seen_s) * self._per_s
        self._seen_s = now_s
        self._tokens = min(self._burst, self._tokens + gained)
        if self._tokens < 1:
            self.suppressed += 1
            return None
        self._tokens -= 1
        held_back, self.suppressed = self.suppressed, 0
        return held_back


class SeldomLog:
    """Writes lines to the log, each kind a few times a second at most, and how many it held back.

    A kind is the line's event: a flood of one kind hides no other.
    """

    def __init__(self, per_s: float = 1.0) -> None:
        self._per_s = per_s
        self._buckets: dict[str, TokenBucket] = {}

    def turn(self, kind: str) -> int | None:
        """Ask for a turn of a kind, for a line that takes work to write: see `TokenBucket.take`."""
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = TokenBucket(self._per_s)
        return bucket.take(time.monotonic())

    def warning(self, event: str, **facts: object) -> None:
        """Warn, unless it was said a moment ago."""
        if (suppressed := self.turn(event)) is not None:
            log.warning(event, **facts, suppressed=suppressed)

    def info(self, event: str, **facts: object) -> None:
        """Tell, unless it was said a moment ago."""
        if (suppressed := self.turn(event)) is not None:
            log.info(event, **facts, suppressed=suppressed)
