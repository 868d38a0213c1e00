"""Connections of the public listener: uvicorn's own, with a short way in for callbacks.

A callback that arrives whole is handed to the door from within the parser and answered with one
write. That saves the scope, the task, the event and the two writes that ASGI takes, which is more
than all the rest of a callback costs. Whatever is not plain takes uvicorn's usual way, from its
first byte: another method or path, JSON, a shared key, a body in pieces or chunks, `Expect`,
HTTP/1.0, a connection that is to be closed, a request behind an unanswered one, a caller who does
not read.

Parsing (httptools) and the graceful stop stay uvicorn's, the bounds are `bounds`'. What they are
given here beside that: `cycle`, their notion of the exchange under way, may be a `_Exchange`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Any, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.host.answers import Answer
from service.host.bounds import BoundedConnection
from service.web.door.callbacks import Door
from service.web.door.request import FORM, SIGNED_WITH


class _Exchange:
    """The exchange under way on a connection, or the last, when it is the door's.

    Holds what uvicorn looks at. keep_alive: turned off by uvicorn when it stops.
    """

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.response_complete = True
        self.disconnected = False
        self.keep_alive = True
        self.message_event = asyncio.Event()


class _Flow(FlowControl):
    """Reads on when what was read has been begun.

    uvicorn would read on after each answer: a caller who sends without reading makes it queue
    hundreds of requests for each one it answers.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless requests are waiting for their turn."""
        if not self._waiting:
            super().resume_reading()


class Connection(BoundedConnection):
    """One connection.

    door: takes whole callbacks. paths: where, as written in the request line.
    kept: what every bounded connection is given.
    """

    def __init__(self, *, door: Door, paths: frozenset[bytes], **kept: Any) -> None:
        super().__init__(**kept)
        self._door = door
        self._paths = paths
        self._exchange = _Exchange()
        self.cycle = cast("RequestResponseCycle", self._exchange)
        self._held = False
        self._body = b""
        self._query = b""
        self._fields: dict[bytes, bytes] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def data_received(self, data: bytes) -> None:
        """Read what came; a callback that is still not whole after it goes uvicorn's way."""
        super().data_received(data)
        if self._held and not self.transport.is_closing():
            self._held = False
            self._go_the_usual_way()
            if self._body:
                HttpToolsProtocol.on_body(self, self._body)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin a request; uvicorn's scope for it is made when it turns out to be needed."""
        self._begin()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def serve(self) -> None:
        """Hold back what may be a whole callback, and let uvicorn have the rest."""
        if self._is_plain():
            self._held = True
            self._body = b""
        else:
            self._go_the_usual_way()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if self._held:
            self._body_bytes += len(body)
            self._body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Hand a whole callback to the door."""
        if not self._held:
            super().on_message_complete()
            return
        self._held = False
        self._reading = False
        exchange = self._exchange
        exchange.response_complete = False
        self.cycle = cast("RequestResponseCycle", exchange)
        fields = self._fields
        self._door.take(
            self._query,
            fields.get(b"content-type", b""),
            fields.get(b"x-twilio-signature"),
            self._body,
            self._reply,
        )

    def _is_plain(self) -> bool:
        path, _, query = self.url.partition(b"?")
        if path not in self._paths or b"#" in query:
            return False
        self._query = query
        self._fields = fields = dict(self.headers)
        parser = self.parser
        return (
            self.cycle.response_complete
            and b"content-length" in fields
            and fields.get(b"content-type", b"")[: len(FORM)].lower() == FORM
            and SIGNED_WITH not in fields
            and not self.expect_100_continue
            and not self.flow.write_paused
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
        )

    def _go_the_usual_way(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expect
        self.headers += headers
        super().serve()

    def _reply(self, answer: Answer) -> None:
        exchange = self._exchange
        exchange.response_complete = True
        if self.transport.is_closing():
            return
        if answer.closes or self._over or not exchange.keep_alive:
            self.transport.write(answer.last_wire)
            self.close()
        else:
            self.transport.write(answer.wire)
        if self.pipeline:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.rest()
