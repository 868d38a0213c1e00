"""What a caller may send and hold before it has shown who it is: heads, time, connections.

`BoundedConnection` is uvicorn's connection with bounds; every listener of ours is made of it. Bytes
of a request that are not its body (the head, chunk sizes, trailers) are counted before the parser
sees more of them, as the parser joins the pieces of an endless one again and again. A caller that
keeps us waiting has a few seconds. Where connections run short, those that keep us waiting go
first, then the one that was idle for longest; who has sent a whole request is never turned away for
one who has not.

A `Crowd` is what the connections of one listener share. Parsing, flow control and the graceful stop
stay uvicorn's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.web import answers
from service.web.answers import Answer
from service.web.limits import TokenBucket

log = structlog.get_logger()

HEAD_LIMIT_BYTES = 32 * 1024
"""Of a request line and its headers, and of everything else that is no body. Twilio's heads have
1 kB; a GET carries the whole form in its URL, 6 kB at most."""

HEADERS_LIMIT = 100
"""Twilio sends a dozen, proxies add as many."""

HEAD_S = 5.0
"""For a head, from its first byte. Twilio gives up on a connection after 5 s."""

BODY_S = 5.0
"""For a body, and as much again as it takes at `BODY_BYTES_PER_S`."""

BODY_BYTES_PER_S = 64 * 1024
"""Slower than any link between two servers."""

IDLE_S = 75.0
"""Longer than the idle time-out of usual proxies (60 s), so that it is they who close."""

CONNECTIONS_LIMIT = 10_000
"""Of one listener in one process, where open files allow it: tens of kilobytes each."""

WAITING_LIMIT = 500
"""Connections that keep us waiting at once; each may hold a body in memory. A genuine one waits for
milliseconds, so it is done long before as many newer ones have come."""

LINGER_S = 1.0
"""How long a caller may go on sending, unread, after an answer that ends its connection."""

LOOK_S = 0.25
"""How often it is looked whose time is up."""

HEAD_TOO_LARGE = answers.answer(431, b"head too large", headers=answers.CLOSE)
HEAD_TOO_SLOW = answers.answer(408, b"the head did not arrive in time", headers=answers.CLOSE)
MALFORMED = answers.answer(400, b"malformed request", headers=answers.CLOSE)
NO_UPGRADE = answers.answer(400, b"no upgrade here", headers=answers.CLOSE)


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
        self._fresh: dict[BoundedConnection, float] = {}
        self._waiting: dict[BoundedConnection, float] = {}
        self._idle: dict[BoundedConnection, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._buckets = {
            name: TokenBucket(warnings_per_s) for name in CrowdCounters.__dataclass_fields__
        }

    @property
    def size(self) -> int:
        """How many connections there are."""
        return self._count

    @property
    def waiting(self) -> int:
        """How many connections keep us waiting."""
        return len(self._waiting)

    def connections(
        self, kind: Callable[..., BoundedConnection] | None = None
    ) -> Callable[..., Any]:
        """Make what `uvicorn.Config` takes as `http`.

        kind: makes one connection, given `crowd` and what uvicorn gives.
        """
        return partial(kind or BoundedConnection, crowd=self)

    def enter(self, connection: BoundedConnection) -> None:
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

    def leave(self, connection: BoundedConnection) -> None:
        """Let a connection go that was taken in."""
        self._count -= 1
        self.busy(connection)

    def busy(self, connection: BoundedConnection) -> None:
        """Note that a connection waits for us."""
        self._idle.pop(connection, None)
        self._waiting.pop(connection, None)
        self._fresh.pop(connection, None)

    def rest(self, connection: BoundedConnection) -> None:
        """Note that a connection has had its answer, and that nothing of it is under way."""
        self._waiting.pop(connection, None)
        if self._loop is not None:
            self._idle[connection] = self._loop.time()

    def wait(self, connection: BoundedConnection) -> None:
        """Note that we wait for a connection from now on: for its head, body, or reading."""
        self.busy(connection)
        if self._loop is not None:
            self._waiting[connection] = self._loop.time()
        if len(self._waiting) > self._waiting_limit:
            self._evict(next(iter(self._waiting)))

    def count(self, what: str, **facts: object) -> None:
        """Count what happened, and log it once in a while."""
        setattr(self.counters, what, getattr(self.counters, what) + 1)
        suppressed = self._buckets[what].take(time.monotonic())
        if suppressed is not None:
            log.warning(EVENTS[what], **facts, suppressed=suppressed)

    def _make_room(self, newcomer: BoundedConnection) -> None:
        oldest = [next(iter(kind)) for kind in (self._fresh, self._waiting) if kind]
        oldest.sort(key=lambda each: self._fresh.get(each) or self._waiting[each])
        candidates = [*oldest, *([next(iter(self._idle))] if self._idle else [])]
        for each in candidates:
            if each is not newcomer:
                self._evict(each)
                return
        self.count("refused", connections=self._count, limit=self.limit)
        newcomer.end()

    def _evict(self, connection: BoundedConnection) -> None:
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
                self.count("too_slow")
                del self._waiting[connection]
                connection.give_up()
        self._timer = loop.call_later(LOOK_S, self._look) if self._count else None


EVENTS = {
    "heads_too_large": "request with an endless head refused",
    "malformed": "malformed request refused",
    "upgrades": "request for an upgrade refused",
    "too_slow": "a caller was too slow",
    "evicted": "connections run short: one that kept us waiting or was idle is closed",
    "refused": "connections run short: a new one is refused",
}


class BoundedConnection(HttpToolsProtocol):
    """One connection, within bounds.

    crowd: the connections it is one of. kept: what uvicorn gives every protocol.
    """

    def __init__(self, *, crowd: Crowd, **kept: Any) -> None:
        super().__init__(**kept)
        self._crowd = crowd
        self._over = False
        self._resting = True
        self._lingers = False
        self._refusal: tuple[str, Answer] | None = None
        # Of the request being read: whether its head is there, bytes of its body so far, and bytes
        # that are no body. Then how many requests have begun on this connection.
        self._reading = False
        self._has_head = False
        self._body_bytes = 0
        self._other_bytes = 0
        self._begun = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._crowd.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._over = True
        self._crowd.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came, as far as it is within the bounds."""
        if self._over:
            return
        was_reading, had_head = self._reading, self._has_head
        try:
            if len(data) <= HEAD_LIMIT_BYTES - self._other_bytes:
                self._feed(data)
            else:
                self._feed_pieces(data)
        except httptools.HttpParserUpgrade:
            # Served, and the last one: the parser is at an end.
            self._over = True
        except httptools.HttpParserError as error:
            self._refuse(error)
        if self._over:
            if not self._lingers:
                self._crowd.busy(self)
        elif self._reading:
            if not was_reading or had_head != self._has_head:
                self._crowd.wait(self)
        elif was_reading and not self._resting and not self.flow.write_paused:
            self._crowd.busy(self)

    def _feed_pieces(self, data: bytes) -> None:
        while data and not self._over:
            room = HEAD_LIMIT_BYTES - (self._other_bytes if self._reading else 0)
            if room <= 0:
                self._refusal = "heads_too_large", HEAD_TOO_LARGE
                raise httptools.HttpParserError
            self._feed(data[:room])
            data = data[room:]

    def _feed(self, data: bytes) -> None:
        body_bytes, begun, was_reading = self._body_bytes, self._begun, self._reading
        self.parser.feed_data(data)
        if self._begun == begun:
            self._other_bytes += len(data) - self._body_bytes + body_bytes
        elif self._begun == begun + 1 and not was_reading:
            self._other_bytes = len(data) - self._body_bytes
        else:
            # It began somewhere in these bytes, behind another request: its count begins here.
            self._other_bytes = 0

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._begin()
        super().on_message_begin()

    def _begin(self) -> None:
        self._begun += 1
        self._reading = True
        self._has_head = False
        self._body_bytes = 0
        if self._resting:
            self._resting = False
            self._crowd.busy(self)

    def on_headers_complete(self) -> None:
        """Look at the head as a whole, and begin to serve it."""
        self._has_head = True
        if len(self.headers) > HEADERS_LIMIT:
            self._refusal = "heads_too_large", HEAD_TOO_LARGE
            raise httptools.HttpParserError
        upgrade = self.parser.should_upgrade()
        if upgrade and any(name in _FRAMING for name, _ in self.headers):
            # The parser takes its body for the next request.
            self._refusal = "upgrades", NO_UPGRADE
            raise httptools.HttpParserError
        self.serve()
        if upgrade:
            self.cycle.keep_alive = False

    def serve(self) -> None:
        """Begin to serve a request whose head is there."""
        super().on_headers_complete()
        # What the parser reports from now on are trailers: nobody has asked for them.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._reading = False
        super().on_message_complete()

    # What the crowd calls.

    def patience_s(self) -> float:
        """Return how many seconds it may keep us waiting with what it is at."""
        if self._lingers:
            return LINGER_S
        if self._reading and not self._has_head:
            return self._crowd.head_s
        return self._crowd.body_s + self._body_bytes / BODY_BYTES_PER_S

    def give_up(self) -> None:
        """End it, as its time is up."""
        if self.flow.write_paused:
            self.transport.abort()
        elif self._lingers:
            self.transport.close()
        elif not self._has_head:
            self._answer_last(HEAD_TOO_SLOW)
        else:
            self._answer_last(answers.TOO_SLOW)

    def end(self) -> None:
        """End it without a word."""
        self._over = True
        if self.flow.write_paused:
            self.transport.abort()
        else:
            self.transport.close()

    # Keep-alive. uvicorn starts and cancels a timer for each request; the crowd has one for all.

    def on_response_complete(self) -> None:
        """Begin the next request, or wait for it."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self.rest()

    def rest(self) -> None:
        """Wait for the next request, unless it has begun; or end, if it was the last."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            return
        if self._over:
            self.transport.close()
        elif not self._reading and not self.flow.write_paused:
            self._resting = True
            self._crowd.rest(self)

    # Callers that do not read.

    def pause_writing(self) -> None:
        """Wait for the caller to read."""
        super().pause_writing()
        self._crowd.wait(self)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._crowd.busy(self)
        self.rest()

    def _refuse(self, error: httptools.HttpParserError) -> None:
        what, answer = self._refusal or ("malformed", MALFORMED)
        cause = error.__context__
        if self._refusal is None and cause and not isinstance(cause, httptools.HttpParserError):
            log.error("a connection failed", error=type(cause).__name__)
        self._crowd.count(what)
        self._answer_last(answer)

    def _answer_last(self, answer: Answer) -> None:
        """Answer what is being read, and end the connection; what is owed before goes out first."""
        self._over = True
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(answer.wire)
        elif not self._reading or not self._has_head or self.pipeline:
            # Another answer is on its way; `rest` ends the connection after it.
            self.pipeline.clear()
            return
        else:
            if not cycle.response_started:
                self.transport.write(answer.wire)
            cycle.disconnected = True
            cycle.message_event.set()
        # Closed with bytes unread, the kernel would reset it, and the answer might be lost.
        self._lingers = True
        self.transport.write_eof()
        self._crowd.wait(self)


_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
