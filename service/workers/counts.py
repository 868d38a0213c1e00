"""What the workers of one process count; `wiring` reads it for /metrics.

One object for all partitions of the process, handed to whatever counts: what it holds only grows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from service.core.metrics import (
    HANDLER_BOUNDS,
    REPLY_BOUNDS,
    REPLY_OUTCOMES,
    SEND_BOUNDS,
    TEXT_OUTCOMES,
)
from service.core.tally import Histogram


@dataclass(slots=True)
class Counts:
    """What became of texts, replies and leases, and how long it took, in seconds.

    texts, replies: by outcome; see `core.metrics`. handler_failures: attempts that failed.
    postponed: times a reply was put off. restarts: of partitions after a failure of Redis.
    """

    texts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TEXT_OUTCOMES, 0))
    replies: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REPLY_OUTCOMES, 0))
    handler_failures: int = 0
    postponed: int = 0
    leases_taken: int = 0
    leases_lost: int = 0
    restarts: int = 0
    handler: Histogram = field(default_factory=lambda: Histogram(HANDLER_BOUNDS))
    send: Histogram = field(default_factory=lambda: Histogram(SEND_BOUNDS))
    callback_to_reply: Histogram = field(default_factory=lambda: Histogram(REPLY_BOUNDS))
