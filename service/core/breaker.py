"""When to leave an ailing connector alone. Pure: the caller brings the time and the dice."""

from __future__ import annotations

from service.core.retry import Schedule

FAILURES = 5
"""Passing failures in a row, of any replies, after which the connector counts as ailing."""

PAUSES = Schedule(first_ms=1_000, longest_ms=30_000, attempts=1)


class Breaker:
    """A circuit breaker over all POSTs of a process.

    Closed, everything passes. After `FAILURES` in a row it opens for a while; then one POST at a
    time is let through to try, and its success closes it. Times are ms of any clock that
    nobody sets.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._openings = 0
        self._open_until_ms = 0
        self._trying = False

    @property
    def closed(self) -> bool:
        """Whether everything passes."""
        return self._openings == 0 and self._open_until_ms == 0

    def state(self, now_ms: int) -> str:
        """Name how it stands: "closed", "paused" (the connector asked for it) or "open"."""
        if self._openings:
            return "open"
        return "paused" if self._open_until_ms > now_ms else "closed"

    def wait_ms(self, now_ms: int) -> int:
        """Return how long to wait before asking again; 0 lets the caller POST.

        After an opening, the caller that gets 0 is the one that tries, and reports the outcome.
        """
        if self.closed:
            return 0
        left = self._open_until_ms - now_ms
        if left > 0:
            return left
        if self._openings == 0:
            self._open_until_ms = 0  # A pause asked for by the connector is over; nothing to try.
            return 0
        if self._trying:
            return 100
        self._trying = True
        return 0

    def succeeded(self) -> None:
        """Report an answer that shows the connector working, whatever it said of the request."""
        self._failures = self._openings = self._open_until_ms = 0
        self._trying = False

    def failed(self, now_ms: int, chance: float) -> bool:
        """Report a passing failure. Returns True when this one opened the breaker."""
        self._failures += 1
        trial, self._trying = self._trying, False
        if not trial and (self._failures < FAILURES or self._open_until_ms > now_ms):
            return False
        self._openings += 1
        self._open_until_ms = now_ms + PAUSES.wait_ms(self._openings, chance)
        return True

    def paused(self, now_ms: int, retry_after_s: float) -> None:
        """Report a 429: everybody waits as long as the connector asked for."""
        self._trying = False
        self._open_until_ms = max(self._open_until_ms, now_ms + int(retry_after_s * 1000))

    def gave_up(self) -> None:
        """Report that a POST let through was never made."""
        self._trying = False
