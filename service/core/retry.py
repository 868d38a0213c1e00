"""How long to wait before the next attempt. Pure: the caller brings the random number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Exponential backoff with full jitter.

    first_ms: upper bound of the first wait. longest_ms: upper bound of any wait.
    attempts: how many are made in all before the entry is a dead letter.
    Source: "Exponential Backoff and Jitter", AWS Architecture Blog (full jitter).
    """

    first_ms: int
    longest_ms: int
    attempts: int

    def wait_ms(self, attempt: int, chance: float) -> int:
        """Return the wait after a failed attempt.

        attempt: number of the attempt that failed, from 1. chance: 0 <= chance < 1.
        Never less than a tenth of the bound, so that a failing dependency is not hammered.
        """
        # Beyond 32 doublings the bound is reached in any case, and the number stays small.
        bound = min(self.longest_ms, self.first_ms * 2 ** min(attempt - 1, 32))
        return int(bound * (0.1 + 0.9 * chance))
