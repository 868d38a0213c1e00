"""The sandbox's own API, under /sandbox/: texts from a phone, what happened, trouble switches."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from service.sandbox.network import Network
from service.sandbox.records import Records, Trouble, new_sid

HEARTBEAT_S = 15.0
"""Below the idle time-out of proxies and browsers."""


class _Text(msgspec.Struct, forbid_unknown_fields=True):
    body: str = ""
    from_: str = msgspec.field(name="from", default="+15005550123")
    to: str = ""
    media: list[str] = []
    sid: str = ""


class Control:
    """The endpoints of /sandbox/."""

    def __init__(self, records: Records, network: Network) -> None:
        self._records = records
        self._network = network

    def routes(self) -> list[Route]:
        """Every resource."""
        return [
            Route("/sandbox/texts", self._text, methods=["POST"]),
            Route("/sandbox/threads", self._threads),
            Route("/sandbox/records", self._all),
            Route("/sandbox/events", self._events),
            Route("/sandbox/trouble", self._trouble, methods=["POST"]),
        ]

    async def _text(self, request: Request) -> Response:
        """Send a text from a phone: POST {from, body, media?, to?, sid?}."""
        try:
            text = msgspec.json.decode(await request.body(), type=_Text)
        except msgspec.DecodeError as error:
            return JSONResponse({"message": str(error)}, 400)
        instance = self._records.phone_instance
        ours = text.to or (instance.our_number if instance else "")
        sid = text.sid or new_sid("MM" if text.media else "SM")
        message = self._records.add_text(sid, text.from_, ours, text.body, text.media)
        status = 0
        if instance is None:
            message.state = "failed"
            message.detail = "no service has provisioned an instance yet"
            self._records.changed(message)
        else:
            status = await self._network.deliver(instance, message)
        return JSONResponse({"sid": sid, "status": status, "detail": message.detail})

    async def _threads(self, request: Request) -> Response:
        instance = self._records.phone_instance
        number = instance.our_number if instance else None
        return JSONResponse({"our_number": number, "threads": self._records.threads()})

    async def _all(self, request: Request) -> Response:
        return Response(msgspec.json.encode(self._records.as_json()), media_type="application/json")

    async def _events(self, request: Request) -> Response:
        last: Any = request.headers.get("last-event-id", "")
        after = int(last) if last.isdigit() else None
        return StreamingResponse(
            self._records.feed.follow(after, HEARTBEAT_S),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _trouble(self, request: Request) -> Response:
        """Make the next sends fail: POST the fields of `records.Trouble`; {} ends it."""
        try:
            self._records.trouble = msgspec.json.decode(await request.body(), type=Trouble)
        except msgspec.DecodeError as error:
            return JSONResponse({"message": str(error)}, 400)
        return JSONResponse(msgspec.to_builtins(self._records.trouble))
