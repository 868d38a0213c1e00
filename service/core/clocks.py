"""What another machine's clock shows, as far as it has told us. Pure: the caller brings the times.

Times of ours are seconds of a clock that nobody sets (time.monotonic); its own are seconds since
the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

DRIFT = 0.0002
"""Seconds that two clocks may part in one. Usual quartz stays below a tenth of a millisecond."""


@dataclass(slots=True)
class RemoteClock:
    """How far another clock is before ours: between two bounds that each answer narrows down.

    lowest, highest: seconds; None until the first answer.
    """

    lowest: float | None = None
    highest: float | None = None
    _at: float = 0.0

    def told(self, shown: float, asked: float, answered: float, resolution_s: float) -> None:
        """Note that it showed a time at some moment between two of ours.

        resolution_s: by so much it may have been later than it said.
        An answer that contradicts those before counts alone: the clock was set meanwhile.
        """
        lowest, highest = shown - answered, shown + resolution_s - asked
        if self.lowest is not None and self.highest is not None:
            parted_s = DRIFT * max(0.0, answered - self._at)
            low, high = max(lowest, self.lowest - parted_s), min(highest, self.highest + parted_s)
            if low <= high:
                lowest, highest = low, high
        self.lowest, self.highest, self._at = lowest, highest, answered

    def passed_by(self, wall: float, at: float) -> float | None:
        """Return by how many seconds a wall clock is ahead of it; negative when it is behind.

        wall: what that clock shows at `at`. None while this one has told nothing.
        """
        if self.lowest is None or self.highest is None:
            return None
        return wall - at - (self.lowest + self.highest) / 2
