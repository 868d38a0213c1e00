"""What handling and sending need to log a line for each text; given to them."""

from __future__ import annotations

from typing import Protocol


class Tell(Protocol):
    """Logs an event of every day, dozens at a time: its line may wait for others."""

    def __call__(self, event: str, /, **facts: str | float) -> None:
        """Log `event`, as of now, with what is known of it."""
