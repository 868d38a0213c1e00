"""The connections of one listener: how many there are, who keeps us waiting, and who has to go.

What one connection may send is bounded by `bounds`. Here it is decided who is closed when they run
short, or when their time is up: those that keep us waiting go first, then the one that was idle for
longest. Who has sent a whole request is never turned away for one who has not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from service.host.seldom import SeldomLog

HEAD_S = 5.0
"""For a head, from its first byte. Twilio gives up on a connection after 5 s."""

BODY_S = 5.0
"""For a body, and as much again as it takes at `BODY_BYTES_PER_S`."""

IDLE_S = 75.0
"""Longer than the idle time-out of usual proxies (60 s), so that it is they who close."""

CONNECTIONS_LIMIT = 10_000
"""Of one listener in one process, where open files allow it: tens of kilobytes each."""

WAITING_LIMIT = 500
"""Connections that keep us waiting at once; each may hold a body in memory. A genuine one waits for
milliseconds, so it is done long before as many newer ones have come."""

LOOK_S = 0.25
"""How often it is looked whose time is up."""


EVENTS = {
    "heads_too_large": "request with an endless head refused",
    "malformed": "malformed request refused",
    "upgrades": "request for an upgrade refused",
    "too_slow": "a caller was too slow",
    "evicted": "connections run short: one that kept us waiting or was idle is closed",
    "refused": "connections run short: a new one is refused",
}


class Member(Protocol):
    """One connection of a crowd."""

    def patience_s(self) -> float:
        """Return how many seconds it may keep us waiting with what it is at."""

    def give_up(self) -> None:
        """End it, as its time is up."""

    def end(self) -> None:
        """End it without a word."""


@dataclass(slots=True)
class CrowdCounters:
    """What became of connections since the start, as far as it was not an answer to a request.

    heads_too_large, malformed, upgrades: requests refused before anybody looked at them.
    too_slow: heads, bodies and readers whose time was up. evicted: ended for want of room, because
        they kept us waiting or were idle. refused: turned away, as all others were busy.
    """

    heads_too_large: int = 0
    malformed: int = 0
    upgrades: int = 0
    too_slow: int = 0
    evicted: int = 0
    refused: int = 0


class Crowd:
    """The connections of one listener in this process.

    limit: connections at once. waiting_limit: those that keep us waiting.
    head_s, body_s, idle_s: how long a connection may take for each.
    warnings_per_s: log lines of each kind.
    """

    def __init__(
        self,
        limit: int = CONNECTIONS_LIMIT,
        *,
        waiting_limit: int = WAITING_LIMIT,
        head_s: float = HEAD_S,
        body_s: float = BODY_S,
        idle_s: float = IDLE_S,
        warnings_per_s: float = 1.0,
    ) -> None:
        self.counters = CrowdCounters()
        self.limit = limit
        self.head_s = head_s
        self.body_s = body_s
        self.idle_s = idle_s
        self._waiting_limit = waiting_limit
        self._count = 0
        # Each in the order they came in, with the time. A connection is in one of them at most;
        # one that is being answered is in none.
        self._fresh: dict[Member, float] = {}
        self._waiting: dict[Member, float] = {}
        self._idle: dict[Member, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._say = SeldomLog(warnings_per_s)

    @property
    def size(self) -> int:
        """How many connections there are."""
        return self._count

    @property
    def waiting(self) -> int:
        """How many connections keep us waiting."""
        return len(self._waiting)

    def enter(self, connection: Member) -> None:
        """Take a new connection in; another may have to go for it, or it itself."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        self._count += 1
        self._fresh[connection] = loop.time()
        if self._count > self.limit:
            self._make_room(connection)
        if self._timer is None:
            self._timer = loop.call_later(LOOK_S, self._look)

    def leave(self, connection: Member) -> None:
        """Let a connection go that was taken in."""
        self._count -= 1
        self.busy(connection)

    def busy(self, connection: Member) -> None:
        """Note that a connection waits for us."""
        self._idle.pop(connection, None)
        self._waiting.pop(connection, None)
        self._fresh.pop(connection, None)

    def rest(self, connection: Member) -> None:
        """Note that a connection has had its answer, and that nothing of it is under way."""
        self._waiting.pop(connection, None)
        if self._loop is not None:
            self._idle[connection] = self._loop.time()

    def wait(self, connection: Member) -> None:
        """Note that we wait for a connection from now on: for its head, body, or reading."""
        self.busy(connection)
        if self._loop is not None:
            self._waiting[connection] = self._loop.time()
        if len(self._waiting) > self._waiting_limit:
            self._evict(next(iter(self._waiting)))

    def count(self, what: str, **facts: object) -> None:
        """Count what happened, and log it once in a while."""
        setattr(self.counters, what, getattr(self.counters, what) + 1)
        self._say.warning(EVENTS[what], **facts)

    def _make_room(self, newcomer: Member) -> None:
        oldest = [next(iter(kind)) for kind in (self._fresh, self._waiting) if kind]
        oldest.sort(key=lambda each: self._fresh.get(each) or self._waiting[each])
        candidates = [*oldest, *([next(iter(self._idle))] if self._idle else [])]
        for each in candidates:
            if each is not newcomer:
                self._evict(each)
                return
        self.count("refused", connections=self._count, limit=self.limit)
        newcomer.end()

    def _evict(self, connection: Member) -> None:
        self.count("evicted", connections=self._count, limit=self.limit, waiting=self.waiting)
        self.busy(connection)
        connection.end()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for kind in (self._idle, self._fresh):
            for connection, since in list(kind.items()):
                if now - since < self.idle_s:
                    break
                del kind[connection]
                connection.end()
        for connection, since in list(self._waiting.items()):
            if now - since > connection.patience_s():
                del self._waiting[connection]
                connection.give_up()
        self._timer = loop.call_later(LOOK_S, self._look) if self._count else None
