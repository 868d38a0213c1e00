"""Growing pauses before what has failed is started anew. Pure: the caller tells how long it ran."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Pauses:
    """Pauses between the starts of one thing: a task, a process, a server.

    first_s: the first one, from which they double. longest_s: of any. healthy_s: what has run for
    so long is started again at once, and its failure is the first of a new row.
    in_a_row: failures since it last ran for so long.
    """

    first_s: float = 0.25
    longest_s: float = 30.0
    healthy_s: float = 60.0
    in_a_row: int = 0
    _last_s: float = 0.0

    def after(self, ran_s: float) -> float:
        """Count a failure and return the pause before the next start, in seconds.

        ran_s: how long it ran before it failed.
        """
        if ran_s >= self.healthy_s:
            self.in_a_row, self._last_s = 1, 0.0
        else:
            self.in_a_row += 1
            self._last_s = min(max(self._last_s * 2, self.first_s), self.longest_s)
        return self._last_s
