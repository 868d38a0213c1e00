"""What a caller may send and hold before it has shown who it is: heads, time, connections.

`BoundedConnection` is uvicorn's connection with bounds; `bounded` makes every listener of it. Bytes
of a request that are not its body (the head, chunk sizes, trailers) are counted before the parser
sees more of them, as the parser joins the pieces of an endless one again and again. A caller that
keeps us waiting has a few seconds, see `crowd`. Parsing, flow control and the graceful stop stay
uvicorn's.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.host import answers
from service.host.answers import Answer
from service.host.crowd import Crowd

HEAD_LIMIT_BYTES = 32 * 1024
"""Of a request line and its headers, and of everything else that is no body. Twilio's heads have
1 kB; a GET carries the whole form in its URL, 6 kB at most."""

PIECE_BYTES = 4096
"""Least that the parser is given at once; a head may be longer than its limit by as much."""

HEADERS_LIMIT = 100
"""Twilio sends a dozen, proxies add as many."""

BODY_BYTES_PER_S = 64 * 1024
"""Slower than any link between two servers."""

LINGER_S = 1.0
"""How long a caller may go on sending, unread, after an answer that ends its connection."""

HEAD_TOO_LARGE = answers.answer(431, b"head too large", headers=answers.CLOSE)
HEAD_TOO_SLOW = answers.answer(408, b"the head did not arrive in time", headers=answers.CLOSE)
MALFORMED = answers.answer(400, b"malformed request", headers=answers.CLOSE)
NO_UPGRADE = answers.answer(400, b"no upgrade here", headers=answers.CLOSE)


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
        # Of the request being read: whether its head is there, whether somebody serves it, bytes of
        # its body so far, and bytes that are no body. Then how many requests have begun here.
        self._reading = False
        self._has_head = False
        self._served = False
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
        was = self._begun, self._reading, self._has_head
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
            if was != (self._begun, self._reading, self._has_head):
                self._crowd.wait(self)
        elif was[1] and not self._resting and not self.flow.write_paused:
            self._crowd.busy(self)

    def _feed_pieces(self, data: bytes) -> None:
        while data and not self._over:
            room = HEAD_LIMIT_BYTES - (self._other_bytes if self._reading else 0)
            if room <= 0:
                self._refusal = "heads_too_large", HEAD_TOO_LARGE
                raise httptools.HttpParserError
            # Not byte by byte where little room is left: a body may follow the head.
            size = max(room, PIECE_BYTES)
            self._feed(data[:size])
            data = data[size:]

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
        self._served = False
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
        self._served = True
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
        if self._lingers and not self.transport.is_closing():
            return LINGER_S
        if self._reading and not self._has_head:
            return self._crowd.head_s
        return self._crowd.body_s + self._body_bytes / BODY_BYTES_PER_S

    def give_up(self) -> None:
        """End it, as its time is up."""
        if self._lingers or self.transport.is_closing():
            self.transport.abort()
            return
        self._crowd.count("too_slow")
        if self.flow.write_paused:
            self.transport.abort()
        elif not self._has_head:
            self._answer_last(HEAD_TOO_SLOW)
        else:
            self._answer_last(answers.TOO_SLOW)

    def end(self) -> None:
        """End it without a word, or after the answer that is owed."""
        self._over = True
        cycle: RequestResponseCycle | None = self.cycle
        owed = cycle is not None and not cycle.response_complete
        if owed and (self.pipeline or not (self._reading and self._served)):
            return  # `rest` ends it then.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def close(self) -> None:
        """Close it when all is written; what is not read by then is given up."""
        self._over = True
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._crowd.wait(self)

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
        if self._over or self.transport.is_closing():
            self.close()
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
        if self._lingers or (self._reading and not self._over):
            self._crowd.wait(self)
        else:
            self.rest()

    def _refuse(self, error: httptools.HttpParserError) -> None:
        what, answer = self._refusal or ("malformed", MALFORMED)
        # What went wrong in a callback of the parser's is its cause.
        self._crowd.count(what, error=type(error.__context__ or error).__name__)
        self._answer_last(answer)

    def _answer_last(self, answer: Answer) -> None:
        """Answer what is being read, and end the connection; what is owed before goes out first."""
        self._over = True
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            if not (self._reading and self._served):  # Else it has its answer already.
                self.transport.write(answer.wire)
        elif self.pipeline:
            # Earlier answers are owed; `rest` ends the connection after the first of them.
            self.pipeline.clear()
            cycle.response_complete = True
            return
        elif not self._reading or not self._served:
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
